"""Listening on taps: packet sockets that hear only ARP, DHCPv4, neighbour discovery and multicast DNS.

A packet socket on a tap hears the guest's own frames as incoming and what the host sends to the guest as
outgoing. The guest's are its own word about itself. Of the outgoing ones only a DHCP server's acknowledgement
counts, and only for a MAC that is known on that tap, because a bridge floods broadcasts to every port. On a
macvtap it is the other way round: the kernel sends what the guest says, and receives what is for the guest.

Everything is bounded: the time, the frames read from one tap in that time (a guest that floods is then no longer
heard), the addresses kept of one tap.
"""

from __future__ import annotations

import selectors
import socket
import struct
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Self

from tapbridge.guests.frames import FRAME_BYTES, Client, Word, find_sender, read_client, read_frame
from tapbridge.model.guest import GuestNic, Sighting
from tapbridge.model.values import IfName, Mac

FRAMES = 1000
ADDRESSES = 64
BUFFER_BYTES = 1 << 18
_ETH_P_ALL = 3
_SO_ATTACH_FILTER = 26  # asm-generic/socket.h

# Classic BPF (linux/filter.h): label, code, operand, where to if true, where to if false; "" is the next line.
# The offsets are those of an Ethernet frame, whose VLAN tag the kernel has taken off.
_LOAD, _LOAD16, _LOAD8, _LOAD16_BEHIND_IP, _IP_HEADER, _RETURN = 0x20, 0x28, 0x30, 0x48, 0xB1, 0x06
_EQUAL, _GREATER, _AT_LEAST, _ANY_BIT = 0x15, 0x25, 0x35, 0x45
_PACKET_TYPE = 0xFFFFF004  # SKF_AD_OFF + SKF_AD_PKTTYPE
_PROGRAM = (
    ("", _LOAD, _PACKET_TYPE, "", ""),
    ("way", _EQUAL, socket.PACKET_OUTGOING, "out", ""),
    ("", _LOAD16, 12, "", ""),
    ("", _EQUAL, 0x0806, "take", ""),
    ("", _EQUAL, 0x86DD, "ipv6", "type"),
    ("out", _LOAD16, 12, "", ""),
    ("type", _EQUAL, 0x0800, "", "drop"),
    ("", _LOAD8, 23, "", ""),
    ("", _EQUAL, socket.IPPROTO_UDP, "", "drop"),
    ("", _LOAD16, 20, "", ""),
    ("", _ANY_BIT, 0x1FFF, "drop", ""),  # a later fragment has no ports
    ("", _IP_HEADER, 14, "", ""),
    ("", _LOAD16_BEHIND_IP, 14, "", ""),
    ("", _EQUAL, 67, "take", ""),
    ("", _EQUAL, 68, "take", ""),
    ("", _EQUAL, 5353, "", "drop"),
    ("", _LOAD, _PACKET_TYPE, "", ""),
    ("own", _EQUAL, socket.PACKET_OUTGOING, "drop", "take"),
    ("ipv6", _LOAD8, 20, "", ""),
    ("", _EQUAL, socket.IPPROTO_UDP, "mdns6", ""),
    ("", _EQUAL, socket.IPPROTO_ICMPV6, "", "drop"),
    ("", _LOAD8, 54, "", ""),
    ("", _AT_LEAST, 133, "", "drop"),
    ("", _GREATER, 136, "drop", "take"),
    ("mdns6", _LOAD16, 54, "", ""),
    ("", _EQUAL, 5353, "take", "drop"),
    ("take", _RETURN, FRAME_BYTES, "", ""),
    ("drop", _RETURN, 0, "", ""),
)


@dataclass(slots=True, kw_only=True)
class _Ear:
    """What was heard on one link: when, by MAC and address. `mirrored` is a macvtap: there the guest's own frames go
    out, and what comes in is for the guest."""

    link: IfName
    mirrored: bool
    packets: socket.socket
    macs: set[Mac] = field(default_factory=set)
    frames: int = 0
    words: dict[tuple[Mac, str], tuple[float, Word]] = field(default_factory=dict)
    clients: dict[Mac, Client] = field(default_factory=dict)

    def hear(self, frame: bytes, outgoing: bool, now: float) -> Word | None:
        """Take a frame in; what it says, if that counts and is new."""
        self.frames += 1
        towards = outgoing != self.mirrored
        sender = None if towards else find_sender(frame)
        if sender is not None and len(self.macs) < ADDRESSES:
            self.macs.add(sender)
        client = None if towards else read_client(frame)
        if client is not None and client.mac in self.macs:
            self.clients[client.mac] = client
        word = read_frame(frame)
        if word is None or word.granted != towards or (towards and word.mac not in self.macs):
            return None
        new = (word.mac, word.ip) not in self.words
        # A grant tells more than the ARP that follows it; the later time is what counts.
        _, before = self.words.pop((word.mac, word.ip), (now, word))
        if len(self.words) >= ADDRESSES:  # the one that was not heard for the longest time
            del self.words[next(iter(self.words))]
        self.words[word.mac, word.ip] = now, before if before.granted else word
        return word if new else None


class Ears:
    """Packet sockets on the links of guests, which stay open from one look to the next."""

    def __init__(self) -> None:
        self._ears: dict[IfName, _Ear] = {}
        self._deaf: list[IfName] = []
        self._left: list[IfName] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for link in list(self._ears):
            self._close(link)

    @property
    def deaf(self) -> tuple[IfName, ...]:
        """The links that cannot be heard, or were not heard to the end the last time."""
        return (*self._deaf, *self._left)

    def follow(self, nics: Iterable[GuestNic]) -> bool:
        """Listen on these and on no others; whether one of them is new. Raises PermissionError without CAP_NET_RAW."""
        wanted = {nic.link: nic for nic in nics}
        for link, ear in list(self._ears.items()):
            if link not in wanted or not _is_bound(ear):
                self._close(link)
        self._deaf = []
        new = False
        for link, nic in wanted.items():
            if link not in self._ears:
                mirrored = nic.kind == "macvtap"
                try:
                    packets = _open(link, mirrored=mirrored)
                except PermissionError:
                    raise
                except (OSError, UnicodeEncodeError):  # it has gone; more links than descriptors; a name of bytes
                    self._deaf.append(link)
                    continue
                self._ears[link] = _Ear(link=link, mirrored=mirrored, packets=packets)
                new = True
            if nic.mac is not None:
                self._ears[link].macs.add(nic.mac)
        return new

    def hear(self, seconds: float, enough: Callable[[Word], bool] = lambda word: False) -> None:
        """Listen for so many seconds, or until something new is heard that is enough."""
        deadline = time.monotonic() + seconds
        self._left = []
        with selectors.DefaultSelector() as selector:
            for ear in self._ears.values():
                ear.frames = 0
                selector.register(ear.packets, selectors.EVENT_READ, ear)
            while (left := deadline - time.monotonic()) > 0:
                for key, _ in selector.select(left):
                    ear = key.data
                    if any(enough(word) for word in _drain(ear)):
                        return
                    if ear.frames >= FRAMES:
                        selector.unregister(ear.packets)
                        self._left.append(ear.link)

    def sightings(self) -> tuple[Sighting, ...]:
        """What was heard so far."""
        now = time.monotonic()
        return tuple(
            _sighting(ear.link, now - when, word, ear.clients.get(word.mac) if word.source == "dhcp" else None)
            for ear in self._ears.values()
            for when, word in ear.words.values()
        )

    def _close(self, link: IfName) -> None:
        self._ears.pop(link).packets.close()


def _sighting(link: IfName, age: float, word: Word, client: Client | None) -> Sighting:
    return Sighting(
        mac=word.mac,
        family=word.family,
        ip=word.ip,
        source=word.source,
        age=round(age, 1),
        prefix=word.prefix,
        dynamic=True if word.source == "dhcp" else None,
        valid_lft=None if word.valid_lft is None else max(0, word.valid_lft - int(age)),
        link=link,
        hostname=client.hostname if client is not None else word.hostname,
        client_id=client.client_id if client is not None else None,
    )


def _drain(ear: _Ear) -> Iterator[Word]:
    """What is new of what has come; no more is read than a link may say."""
    while ear.frames < FRAMES:
        try:
            frame, origin = ear.packets.recvfrom(FRAME_BYTES)
        except OSError:  # nothing more; or ENETDOWN, once: the link is down and may come up, or it has gone
            return
        word = ear.hear(frame, origin[2] == socket.PACKET_OUTGOING, time.monotonic())
        if word is not None:
            yield word


def _is_bound(ear: _Ear) -> bool:
    """Whether the link is still there and called so; a namesake that came later is another one. The kernel unbinds a
    socket whose link has gone."""
    try:
        return bool(ear.packets.getsockname()[0] == ear.link)
    except UnicodeDecodeError:  # it was renamed, to bytes
        return False


def assemble(*, mirrored: bool = False) -> bytes:
    """The filter as the kernel takes it: an array of struct sock_filter; mirrored for a macvtap."""
    places = {label: place for place, (label, *_) in enumerate(_PROGRAM) if label}
    code = b""
    for place, (label, operation, operand, true, false) in enumerate(_PROGRAM):
        ways = (false, true) if mirrored and label in ("way", "own") else (true, false)
        jumps = [places[way] - place - 1 if way else 0 for way in ways]
        code += struct.pack("HBBI", operation, *jumps, operand)
    return code


def _open(link: IfName, *, mirrored: bool) -> socket.socket:
    """A packet socket that hears nothing before it is bound and filtered."""
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0)
    try:
        packets.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        code = array("B", assemble(mirrored=mirrored))
        packets.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(_PROGRAM), code.buffer_info()[0])
        )
        packets.bind((link, _ETH_P_ALL))
    except OSError:
        packets.close()
        raise
    return packets
