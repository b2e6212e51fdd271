"""Listening on taps: packet sockets that hear only ARP, DHCPv4 and neighbour discovery.

A packet socket on a tap hears the guest's own frames as incoming and what the host sends to the guest as
outgoing. The guest's are its own word about itself. Of the outgoing ones only a DHCP server's acknowledgement
counts, and only for a MAC that is known on that tap, because a bridge floods broadcasts to every port.

Everything is bounded: the time, the frames read from one tap (a guest that floods is then no longer heard), the
addresses kept of one tap.
"""

from __future__ import annotations

import selectors
import socket
import struct
import time
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from tapbridge.guests.frames import FRAME_BYTES, Word, find_sender, read_frame
from tapbridge.model.guest import Sighting
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
    ("", _EQUAL, socket.PACKET_OUTGOING, "out", ""),
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
    ("", _EQUAL, 68, "take", "drop"),
    ("ipv6", _LOAD8, 20, "", ""),
    ("", _EQUAL, socket.IPPROTO_ICMPV6, "", "drop"),
    ("", _LOAD8, 54, "", ""),
    ("", _AT_LEAST, 133, "", "drop"),
    ("", _GREATER, 136, "drop", ""),
    ("take", _RETURN, FRAME_BYTES, "", ""),
    ("drop", _RETURN, 0, "", ""),
)


@dataclass(slots=True, kw_only=True)
class _Ear:
    """What was heard on one tap: when, by MAC and address."""

    link: IfName
    macs: set[Mac]
    frames: int = 0
    words: dict[tuple[Mac, str], tuple[float, Word]] = field(default_factory=dict)

    def hear(self, frame: bytes, outgoing: bool, now: float) -> None:
        self.frames += 1
        sender = None if outgoing else find_sender(frame)
        if sender is not None and len(self.macs) < ADDRESSES:
            self.macs.add(sender)
        word = read_frame(frame)
        if word is None or word.granted != outgoing or (outgoing and word.mac not in self.macs):
            return
        key = word.mac, word.ip
        before = self.words.get(key)
        if before is None and len(self.words) >= ADDRESSES:
            return
        # A grant tells more than the ARP that follows it; the later time is what counts.
        self.words[key] = now, before[1] if before is not None and before[1].granted else word


def listen(known: Mapping[IfName, Iterable[Mac]], seconds: float) -> tuple[tuple[Sighting, ...], tuple[IfName, ...]]:
    """Hear what is said on the taps for so many seconds. `known` gives the MACs that are known behind each tap.

    Returns what was heard, and the taps that could not be heard, or not to the end. A tap that goes away merely says
    no more. Raises PermissionError without CAP_NET_RAW.
    """
    ears: list[_Ear] = []
    deaf: list[IfName] = []
    with selectors.DefaultSelector() as selector:
        try:
            for link, macs in known.items():
                ear = _Ear(link=link, macs=set(macs))
                try:
                    selector.register(_open(link), selectors.EVENT_READ, ear)
                except PermissionError:
                    raise
                except (OSError, UnicodeEncodeError):  # the tap has gone; more taps than descriptors; a name of bytes
                    deaf.append(link)
                    continue
                ears.append(ear)
            deaf += _hear(selector, time.monotonic() + seconds)
        finally:
            for key in list(selector.get_map().values()):
                key.fileobj.close()  # type: ignore[union-attr]
    end = time.monotonic()
    sightings = (_sighting(ear.link, end - when, word) for ear in ears for when, word in ear.words.values())
    return tuple(sightings), tuple(deaf)


def _sighting(link: IfName, age: float, word: Word) -> Sighting:
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
    )


def _hear(selector: selectors.BaseSelector, deadline: float) -> Iterator[IfName]:
    """Read until the deadline; yields the taps that had to be left earlier."""
    while selector.get_map() and (left := deadline - time.monotonic()) > 0:
        for key, _ in selector.select(left):
            packets, ear = key.fileobj, key.data
            assert isinstance(packets, socket.socket)
            if not _drain(packets, ear):
                selector.unregister(packets)
                packets.close()
                yield ear.link


def _drain(packets: socket.socket, ear: _Ear) -> bool:
    """Read what has come; False when the tap has said too much."""
    while ear.frames < FRAMES:
        try:
            frame, origin = packets.recvfrom(FRAME_BYTES)
        except OSError:  # nothing more; or ENETDOWN, once: the tap is down and may come up, or it has gone
            return True
        ear.hear(frame, origin[2] == socket.PACKET_OUTGOING, time.monotonic())
    return False


def assemble() -> bytes:
    """The filter as the kernel takes it: an array of struct sock_filter."""
    places = {label: place for place, (label, *_) in enumerate(_PROGRAM) if label}
    code = b""
    for place, (_, operation, operand, true, false) in enumerate(_PROGRAM):
        jumps = [places[label] - place - 1 if label else 0 for label in (true, false)]
        code += struct.pack("HBBI", operation, *jumps, operand)
    return code


def _open(link: IfName) -> socket.socket:
    """A packet socket that hears nothing before it is bound and filtered."""
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0)
    try:
        packets.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        code = array("B", assemble())
        packets.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(_PROGRAM), code.buffer_info()[0])
        )
        packets.bind((link, _ETH_P_ALL))
    except OSError:
        packets.close()
        raise
    return packets
