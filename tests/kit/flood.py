"""How fast a tap is: a guest in QEMU's place that measures both directions by itself, against a link of its host.

It needs nothing but Python, so it also runs in a machine that has no tests: started by `tapbridge run`, it takes the
tap from its arguments and prints two numbers, in bits per second.
"""

from __future__ import annotations

import json
import os
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable

LINK = "lan0"
GUEST, HOST = bytes.fromhex("525400aa0001"), bytes.fromhex("020000000012")
_ETHERTYPE = 0x88B5  # for experiments
_REST = struct.pack("!H", _ETHERTYPE) + bytes(1400)
_VNET_HDR = bytes(10)
_WARM_S, _COUNTED_S = 1.0, 3.0


def there(tap: int) -> float:
    """What comes to LINK of a flood that the guest sends."""
    with _link() as link:
        return _measure(lambda: os.write(tap, _VNET_HDR + HOST + GUEST + _REST), lambda: link.recv(4096), GUEST)


def back(tap: int) -> float:
    """What comes to the guest of a flood from LINK."""
    os.set_blocking(tap, False)

    def receive() -> bytes:
        try:
            return os.read(tap, 4096)[len(_VNET_HDR) :]
        except BlockingIOError:
            time.sleep(0.001)
            raise

    with _link() as link:
        return _measure(lambda: link.send(GUEST + HOST + _REST), receive, HOST)


def _link() -> socket.socket:
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETHERTYPE))
    link.bind((LINK, _ETHERTYPE))
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", 0, 100_000))
    return link


def _measure(send: Callable[[], int], receive: Callable[[], bytes], sender: bytes) -> float:
    """Bits per second of a sender's frames, once what may come at once has come."""
    end = time.monotonic() + _WARM_S + _COUNTED_S
    flood = threading.Thread(target=_flood, args=(send, end))
    flood.start()
    start, count = end - _COUNTED_S, 0
    while time.monotonic() < end:
        try:
            frame = receive()
        except BlockingIOError:
            continue
        if frame[6:12] == sender and time.monotonic() >= start:
            count += len(frame)
    flood.join()
    return count * 8 / _COUNTED_S


def _flood(send: Callable[[], int], end: float) -> None:
    """40 Mbit/s, or what the machine has."""
    while time.monotonic() < end:
        for _ in range(36):
            try:
                send()
            except OSError:  # a queue is full
                break
        time.sleep(0.01)


if __name__ == "__main__":
    number = int(re.findall(r"fds=([0-9]+)", " ".join(sys.argv))[0])
    print(json.dumps([there(number), back(number)]), flush=True)
