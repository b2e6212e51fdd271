"""Is the host reached by somebody new? A new TCP connection and a ping, from its LAN and from behind its gateway.

The neighbour caches of the LAN are emptied first: a flow that was there before proves nothing.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Final

from kit.command import run
from kit.netns import Netns
from kit.stage import Stage

PORT: Final = 7
LIMIT_S: Final = 3.0
_AGAIN_S: Final = 0.2
_ECHO: Final = {socket.AF_INET: (8, 0), socket.AF_INET6: (128, 129)}
_PROTOCOL: Final = {socket.AF_INET: socket.IPPROTO_ICMP, socket.AF_INET6: socket.getprotobyname("ipv6-icmp")}


@dataclass(slots=True)
class Reach:
    """Who asks, and the host that answers."""

    stage: Stage
    pingers: dict[tuple[str, int], socket.socket] = field(default_factory=dict)
    listeners: list[socket.socket] = field(default_factory=list)
    round: int = 0
    slowest_s: float = 0.0

    def unanswered(self) -> tuple[str, ...]:
        """Who got no answer, by which means. Empty: the host is reached."""
        self.round += 1
        for netns, link in ((self.stage.lan, "lan0"), (self.stage.peer, "eth0")):
            with netns.entered():
                run("ip", "neigh", "flush", "dev", link)
        waiting: dict[tuple[str, str, str], socket.socket] = {}
        for name, netns in _vantages(self.stage):
            with netns.entered():
                for address in self.stage.scene.reached_at:
                    waiting["tcp", name, address] = _connecting(address)
                    waiting["ping", name, address] = self.pingers[name, _family(address)]
        started = time.monotonic()
        tried = waiting.copy()
        self._ask(waiting, started)
        for (kind, _, _), one in tried.items():
            if kind == "tcp":
                one.close()
        self._accept()
        self.slowest_s = max(self.slowest_s, time.monotonic() - started)
        return tuple(f"{kind} from {name} to {address}" for kind, name, address in waiting)

    def _ask(self, waiting: dict[tuple[str, str, str], socket.socket], started: float) -> None:
        """Take from `waiting` whoever is answered, until the limit."""
        asked = 0.0
        refused: set[socket.socket] = set()
        while waiting and (now := time.monotonic()) - started < LIMIT_S:
            if now - asked >= _AGAIN_S:
                asked = now
                for (kind, _, address), one in waiting.items():
                    if kind == "ping":
                        self._ping(one, address)
            writing = [one for (kind, _, _), one in waiting.items() if kind == "tcp" and one not in refused]
            reading = list({one for (kind, _, _), one in waiting.items() if kind == "ping"})
            readable, writable, _ = select.select(reading, writing, [], _AGAIN_S)
            refused |= {one for one in writable if one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)}
            for key, one in list(waiting.items()):
                if one in writable and one not in refused:
                    del waiting[key]
            for one in readable:
                name = next(name for (name, _), pinger in self.pingers.items() if pinger is one)
                for address in self._echoes(one):
                    waiting.pop(("ping", name, address), None)

    def _ping(self, pinger: socket.socket, address: str) -> None:
        kind = _ECHO[pinger.family][0]
        packet = struct.pack("!BBHHH", kind, 0, 0, os.getpid() & 0xFFFF, self.round & 0xFFFF)
        if pinger.family == socket.AF_INET:
            packet = packet[:2] + struct.pack("!H", _checksum(packet)) + packet[4:]
        try:
            pinger.sendto(packet, (address, 0))
        except OSError:
            return  # no neighbour yet, or none any more: it is asked again

    def _echoes(self, pinger: socket.socket) -> Iterator[str]:
        while True:
            try:
                packet, sender = pinger.recvfrom(2048)
            except BlockingIOError:
                return
            body = packet[20:] if pinger.family == socket.AF_INET else packet
            kind, _, _, ident, number = struct.unpack("!BBHHH", body[:8])
            if (kind, ident, number) == (_ECHO[pinger.family][1], os.getpid() & 0xFFFF, self.round & 0xFFFF):
                yield str(sender[0])

    def _accept(self) -> None:
        for listener in self.listeners:
            while True:
                try:
                    listener.accept()[0].close()
                except BlockingIOError:
                    break


@contextmanager
def reach_of(stage: Stage) -> Iterator[Reach]:
    """The host listens, the others are ready to ask."""
    with ExitStack() as stack:
        found = Reach(stage)
        for family, anywhere in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            listener = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((anywhere, PORT))
            listener.listen(256)
            listener.setblocking(False)
            found.listeners.append(listener)
            for name, netns in _vantages(stage):
                with netns.entered():
                    pinger = stack.enter_context(socket.socket(family, socket.SOCK_RAW, _PROTOCOL[family]))
                pinger.setblocking(False)
                found.pingers[name, family] = pinger
        yield found


def _vantages(stage: Stage) -> tuple[tuple[str, Netns], ...]:
    return (("on-link", stage.peer), ("the gateway", stage.lan), ("behind the gateway", stage.behind))


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _connecting(address: str) -> socket.socket:
    one = socket.socket(_family(address), socket.SOCK_STREAM)
    one.setblocking(False)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # no TIME_WAIT
    one.connect_ex((address, PORT))
    return one


def _checksum(packet: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(packet) // 2}H", packet))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF
