"""Traffic whose loss can be counted. Standard library only; both sides end when their stdin does, or after LIMIT_S.

probe.py echo            answer UDP, and send TCP back, on PORT; says "ready"
probe.py ask IP4 IP6     send RATE numbered datagrams a second to IP4 and count the answers, and keep one TCP
                         connection to IP6 busy; says "ready", and at the end one line of JSON
"""

from __future__ import annotations

import json
import selectors
import socket
import struct
import sys
import time

PORT = 7007
RATE = 5000
CHUNK = 1000  # bytes on the TCP connection, every CHUNK_S
CHUNK_S = 0.01
DRAIN_S = 2.0
LIMIT_S = 300.0
BUFFER = 1 << 24
SO_RCVBUFFORCE = 33  # asm-generic/socket.h
NUMBER = struct.Struct("!Q")


def udp_socket(family: socket.AddressFamily) -> socket.socket:
    """A datagram socket with room for the seconds in which nobody reads it."""
    made = socket.socket(family, socket.SOCK_DGRAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
    except PermissionError:  # root of a user namespace only
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    made.setblocking(False)
    return made


def echo() -> None:
    """Answer until stdin ends."""
    udp = udp_socket(socket.AF_INET)
    udp.bind(("", PORT))
    door = socket.create_server(("::", PORT), family=socket.AF_INET6)
    events = selectors.DefaultSelector()
    for what in (udp, door, sys.stdin):
        events.register(what, selectors.EVENT_READ)
    print("ready", flush=True)
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        for key, _ in events.select(1):
            if key.fileobj is sys.stdin:
                return
            if key.fileobj is udp:
                answer(udp)
            elif key.fileobj is door:
                events.register(door.accept()[0], selectors.EVENT_READ)
            elif isinstance(key.fileobj, socket.socket):
                received = key.fileobj.recv(1 << 16)
                if received:
                    key.fileobj.sendall(received)
                else:
                    events.unregister(key.fileobj)


def answer(udp: socket.socket) -> None:
    """Send every datagram that is there back to where it is from."""
    try:
        while True:
            udp.sendto(*udp.recvfrom(64))
    except BlockingIOError:
        return


class Questions:
    """Numbered datagrams, and which of them were answered. Times in seconds."""

    def __init__(self, ip: str) -> None:
        self.socket = udp_socket(socket.AF_INET)
        self.socket.connect((ip, PORT))
        self.start = time.monotonic()
        self.unsendable = 0
        self.times: list[float] = []  # of sending, monotonic
        self.answered: set[int] = set()

    @property
    def sent(self) -> int:
        """How many were sent."""
        return len(self.times)

    def send_due(self) -> None:
        """Send what is due by now: who comes late sends more, so that a pause of ours loses nothing."""
        for number in range(self.sent, int((time.monotonic() - self.start) * RATE)):
            try:
                self.socket.send(NUMBER.pack(number))
            except OSError:
                self.unsendable += 1
            self.times.append(time.monotonic())

    def read(self) -> None:
        """Read every answer that is there."""
        try:
            while True:
                self.answered.add(NUMBER.unpack(self.socket.recv(64))[0])
        except (BlockingIOError, ConnectionRefusedError):
            return

    def drain(self) -> None:
        """Wait for the answers that are still under way."""
        deadline = time.monotonic() + DRAIN_S
        while len(self.answered) < self.sent and time.monotonic() < deadline:
            time.sleep(0.01)
            self.read()

    def gaps(self) -> list[tuple[float, float, int]]:
        """Those without an answer, by runs of consecutive ones: when the first and the last were sent, and how many."""
        found: list[tuple[float, float, int]] = []
        for number, sent_at in enumerate(self.times):
            if number not in self.answered:
                goes_on = found and number - 1 not in self.answered
                began, _, lost = found.pop() if goes_on else (sent_at, 0.0, 0)
                found.append((began, sent_at, lost + 1))
        return found


class Stream:
    """One TCP connection: what comes back must be what was sent."""

    def __init__(self, ip: str) -> None:
        self.socket = socket.create_connection((ip, PORT), timeout=5)
        self.socket.setblocking(False)
        self.sent = self.back = 0
        self.next = time.monotonic()
        self.right = True

    def turn(self) -> None:
        """Send a chunk when one is due, and read what has come back."""
        now = time.monotonic()
        try:
            if now >= self.next:
                self.sent += self.socket.send(pattern(self.sent, CHUNK))
                self.next = now + CHUNK_S
            received = self.socket.recv(1 << 16)
            self.right = self.right and received != b"" and received == pattern(self.back, len(received))
            self.back += len(received)
        except BlockingIOError:
            return

    def drain(self) -> None:
        """Wait for what is still under way."""
        deadline = time.monotonic() + DRAIN_S
        self.next = deadline
        while self.back < self.sent and time.monotonic() < deadline:
            time.sleep(0.01)
            self.turn()


def pattern(start: int, length: int) -> bytes:
    """The bytes of the stream from `start`: every position has its own, modulo a prime."""
    return bytes(position % 251 for position in range(start, start + length))


def ask(ip4: str, ip6: str) -> None:
    """Send until stdin ends; print what became of it."""
    questions, stream = Questions(ip4), Stream(ip6)
    events = selectors.DefaultSelector()
    events.register(questions.socket, selectors.EVENT_READ)
    events.register(stream.socket, selectors.EVENT_READ)
    events.register(sys.stdin, selectors.EVENT_READ)
    print("ready", flush=True)
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline and not any(key.fileobj is sys.stdin for key, _ in events.select(0.001)):
        questions.send_due()
        questions.read()
        stream.turn()
    questions.drain()
    stream.drain()
    told = {
        "sent": questions.sent,
        "lost": questions.sent - len(questions.answered),
        "gaps": questions.gaps(),
        "stream_bytes": stream.sent,
        "stream_lost": stream.sent - stream.back,
        "stream_right": stream.right,
    }
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["echo"]:
        echo()
    elif len(sys.argv) == 4 and sys.argv[1] == "ask":
        ask(*sys.argv[2:])
    else:
        sys.exit(__doc__)
