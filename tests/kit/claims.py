"""Frames of a guest, good ones and bad ones, and which of them each guard lets pass.

The guest is 192.0.2.10 and 2001:db8::10, and the link-local address of its Ethernet address. The host is .2 and ::2,
its router .1 and ::1; .77 and ::77 are somebody else's. No checksum is right: no bridge looks at them.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from typing import NamedTuple

MAC = "52:54:00:aa:00:01"
IPS = "192.0.2.10", "2001:db8::10"
HOST_IPS, ROUTER_IPS = ("192.0.2.2", "2001:db8::2"), ("192.0.2.1", "2001:db8::1")
_LOCAL, _OTHER_LOCAL = "fe80::5054:ff:feaa:1", "fe80::77"
_OTHER, _OTHER6 = "192.0.2.77", "2001:db8::77"
_OWN, _THEIRS, _ALL = bytes.fromhex("525400aa0001"), bytes.fromhex("020000000099"), b"\xff" * 6
_LAN = bytes.fromhex("020000000012")
_MARK = b"mark"

ALLOWED = {
    "dhcp": {
        "dhcp server",
        "dhcp for another's card",
        "dhcp renewal for another's card",
        "dhcpv6 server",
        "dhcpv6 server from a global address",
    },
    "macs": {
        "another source",
        "arp under another source",
        "arp for another's card",
        "dhcp for another's card",
        "dhcp renewal for another's card",
        "neighbour solicitation for another's card",
        "neighbour advertisement for another's card",
    },
    "router": {"router advertisement", "router advertisement from a global address", "redirect"},
    "vlan": {"vlan 1"},
}
"""What a guard lets pass besides where that word is allowed, by name."""


class Claim(NamedTuple):
    """A frame, and the guards that let it pass."""

    name: str
    frame: bytes
    passes: frozenset[str]


def claims() -> list[Claim]:
    """All of them."""
    return [
        Claim(name, frame, frozenset(passes))
        for passes, frames in ((("mac", "ip"), _GOOD), (("mac",), _UNKNOWN), ((), _BAD))
        for name, frame in frames.items()
    ]


def numbered(frame: bytes, number: int) -> bytes:
    """The frame with a mark and a number behind its end, by which it is known again."""
    return frame.ljust(60, b"\0") + _MARK + struct.pack("!I", number)


def numbers_of(frames: Iterable[bytes]) -> set[int]:
    """The numbers of our frames among those that have come, where the kernel's own come too."""
    return {struct.unpack("!I", frame[-4:])[0] for frame in frames if frame[-8:-4] == _MARK}


def _eth(kind: int, body: bytes, to: bytes = _LAN, by: bytes = _OWN) -> bytes:
    return to + by + struct.pack("!H", kind) + body


def _arp(
    op: int, ip: str, to: str, mac: bytes = _OWN, by: bytes = _OWN, shape: tuple[int, int, int, int] = (1, 0x800, 6, 4)
) -> bytes:
    packet = struct.pack("!HHBBH", *shape, op) + mac + socket.inet_aton(ip) + bytes(6) + socket.inet_aton(to)
    return _eth(0x806, packet, _ALL, by)


def _ip(by: str, to: str, kind: int, body: bytes, part: int = 0, mac: bytes = _OWN) -> bytes:
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 7, part, 64, kind, 0)
    return _eth(0x800, header + socket.inet_aton(by) + socket.inet_aton(to) + body, by=mac)


def _udp(source: int, to: int, body: bytes = b"said") -> bytes:
    return struct.pack("!HHHH", source, to, 8 + len(body), 0) + body


def _dhcp(mac: bytes) -> bytes:
    return _udp(68, 67, struct.pack("!BBBB4sHH", 1, 1, 6, 0, b"tapb", 0, 0) + bytes(16) + mac.ljust(16, b"\0"))


def _ip6(by: str, to: str, kind: int, body: bytes) -> bytes:
    header = struct.pack("!IHBB", 6 << 28, len(body), kind, 255)
    return _eth(0x86DD, header + socket.inet_pton(10, by) + socket.inet_pton(10, to) + body)


def _icmp6(by: str, kind: int, body: bytes, to: str = "ff02::1") -> bytes:
    return _ip6(by, to, 58, bytes((kind, 0, 0, 0)) + body)


def _about(ip: str, option: int = 0, mac: bytes = _OWN) -> bytes:
    """What a message of ND is about, and an Ethernet address with it."""
    return bytes(4) + socket.inet_pton(10, ip) + (bytes((option, 1)) + mac if option else b"")


def _behind(kind: int, body: bytes) -> bytes:
    """An extension header of eight bytes that leads to something."""
    return bytes((kind, 0, 1, 4, 0, 0, 0, 0)) + body


_TCP = struct.pack("!HHIIBBHHH", 4000, 80, 1, 0, 0x50, 2, 1000, 0, 0)
_RA = bytes((134, 0, 0, 0, 64, 0, 7, 8)) + bytes(8)
_SNAP = bytes.fromhex("aaaa03000000")

_GOOD = {
    "arp request": _arp(1, IPS[0], ROUTER_IPS[0]),
    "arp reply": _arp(2, IPS[0], ROUTER_IPS[0]),
    "gratuitous arp": _arp(1, IPS[0], IPS[0]),
    "arp probe": _arp(1, "0.0.0.0", IPS[0]),
    "tcp": _ip(IPS[0], "198.51.100.1", 6, _TCP),
    "udp": _ip(IPS[0], "198.51.100.1", 17, _udp(4000, 53)),
    "ping": _ip(IPS[0], ROUTER_IPS[0], 1, bytes((8, 0)) + bytes(6)),
    "a later fragment": _ip(IPS[0], ROUTER_IPS[0], 17, bytes(64), 0x0010),
    "mdns": _ip(IPS[0], "224.0.0.251", 17, _udp(5353, 5353)),
    "igmp report": _ip(IPS[0], "224.0.0.22", 2, bytes((0x22, 0)) + bytes(6)),
    "dhcp discover": _ip("0.0.0.0", "255.255.255.255", 17, _dhcp(_OWN)),
    "dhcp renewal": _ip(IPS[0], ROUTER_IPS[0], 17, _dhcp(_OWN)),
    "tcp over ipv6": _ip6(IPS[1], "2001:db8:1::1", 6, _TCP),
    "esp over ipv6": _ip6(IPS[1], "2001:db8:1::1", 50, bytes(32)),
    "a fragment of ipv6": _ip6(IPS[1], "2001:db8:1::1", 44, _behind(17, _udp(4000, 53))),
    "ping of ipv6": _icmp6(IPS[1], 128, bytes(4), ROUTER_IPS[1]),
    "ping from link-local": _icmp6(_LOCAL, 128, bytes(4), ROUTER_IPS[1]),
    "neighbour solicitation": _icmp6(IPS[1], 135, _about(ROUTER_IPS[1], 1)),
    "neighbour solicitation without an option": _icmp6(IPS[1], 135, _about(ROUTER_IPS[1])),
    "neighbour solicitation from link-local": _icmp6(_LOCAL, 135, _about(ROUTER_IPS[1], 1)),
    "neighbour advertisement": _icmp6(IPS[1], 136, _about(IPS[1], 2)),
    "neighbour advertisement without an option": _icmp6(_LOCAL, 136, _about(IPS[1])),
    "neighbour advertisement of link-local": _icmp6(_LOCAL, 136, _about(_LOCAL, 2)),
    "duplicate address detection": _icmp6("::", 135, _about(IPS[1])),
    "duplicate address detection of link-local": _icmp6("::", 135, _about(_LOCAL)),
    "router solicitation": _icmp6(_LOCAL, 133, bytes(4) + b"\1\1" + _OWN, "ff02::2"),
    "mld report": _ip6(_LOCAL, "ff02::16", 0, bytes((58, 0, 5, 2, 0, 0, 1, 0, 143, 0, 0, 0)) + bytes(4)),
    "dhcpv6 solicit": _ip6(_LOCAL, "ff02::1:2", 17, _udp(546, 547)),
    "mdns over ipv6": _ip6(_LOCAL, "ff02::fb", 17, _udp(5353, 5353)),
}
_UNKNOWN = {
    "arp claim of another's address": _arp(2, _OTHER, ROUTER_IPS[0]),
    "gratuitous arp of another's address": _arp(1, _OTHER, _OTHER),
    "arp probe of another's address": _arp(1, "0.0.0.0", _OTHER),
    "ipv4 from another's address": _ip(_OTHER, ROUTER_IPS[0], 17, _udp(4000, 53)),
    "ipv4 from no address": _ip("0.0.0.0", ROUTER_IPS[0], 17, _udp(4000, 53)),
    "ipv6 from another's address": _ip6(_OTHER6, ROUTER_IPS[1], 17, _udp(4000, 53)),
    "ping from another's link-local address": _icmp6(_OTHER_LOCAL, 128, bytes(4), ROUTER_IPS[1]),
    "neighbour advertisement of another's address": _icmp6(_LOCAL, 136, _about(_OTHER6, 2)),
    "duplicate address detection of another's address": _icmp6("::", 135, _about(_OTHER6)),
}
_BAD = {
    "another source": _ip(IPS[0], ROUTER_IPS[0], 17, _udp(4000, 53), mac=_THEIRS),
    "arp under another source": _arp(2, IPS[0], ROUTER_IPS[0], by=_THEIRS),
    "bpdu": _eth(38, bytes.fromhex("424203") + bytes(35), bytes.fromhex("0180c2000000")),
    "lldp": _eth(0x88CC, bytes(40), bytes.fromhex("0180c200000e")),
    "pause": _eth(0x8808, b"\0\1\xff\xff", bytes.fromhex("0180c2000001")),
    "vlan 1": _eth(0x8100, b"\0\1" + _arp(2, ROUTER_IPS[0], _OTHER)[12:]),
    "vlan 0": _eth(0x8100, b"\0\0" + _arp(2, ROUTER_IPS[0], _OTHER)[12:]),
    "vlan 0 twice": _eth(0x8100, b"\0\0\x81\0\0\0" + _arp(2, ROUTER_IPS[0], _OTHER)[12:]),
    "service vlan": _eth(0x88A8, b"\0\1\x81\0\0\1" + _arp(2, ROUTER_IPS[0], _OTHER)[12:]),
    "ipv6 as llc/snap": _eth(8 + 40 + len(_RA), _SNAP + _icmp6(_LOCAL, 134, _RA[4:])[12:]),
    "llc/snap in vlan 0": _eth(0x8100, b"\0\0\0\x40" + _SNAP + _icmp6(_LOCAL, 134, _RA[4:])[12:]),
    "pppoe": _eth(0x8863, bytes(40), _ALL),
    "mpls": _eth(0x8847, bytes(40)),
    "eapol": _eth(0x888E, bytes(40)),
    "rarp": _eth(0x8035, _arp(3, IPS[0], IPS[0])[14:], _ALL),
    "an unknown kind": _eth(0x88B5, bytes(40)),
    "arp for another's card": _arp(2, IPS[0], ROUTER_IPS[0], mac=_THEIRS),
    "arp claim of the host's address": _arp(2, HOST_IPS[0], ROUTER_IPS[0]),
    "arp claim of the router's address": _arp(2, ROUTER_IPS[0], HOST_IPS[0]),
    "gratuitous arp of the router's address": _arp(1, ROUTER_IPS[0], ROUTER_IPS[0]),
    "arp probe of the host's address": _arp(1, "0.0.0.0", HOST_IPS[0]),
    "arp of another hardware": _arp(2, IPS[0], ROUTER_IPS[0], shape=(6, 0x800, 6, 4)),
    "arp of another protocol": _arp(2, IPS[0], ROUTER_IPS[0], shape=(1, 0x86DD, 6, 4)),
    "arp of long cards": _arp(2, IPS[0], ROUTER_IPS[0], shape=(1, 0x800, 8, 4)),
    "arp of long addresses": _arp(2, IPS[0], ROUTER_IPS[0], shape=(1, 0x800, 6, 16)),
    "reverse arp": _arp(3, IPS[0], ROUTER_IPS[0]),
    "inverse arp": _arp(8, IPS[0], ROUTER_IPS[0]),
    "ipv4 from the host's address": _ip(HOST_IPS[0], ROUTER_IPS[0], 17, _udp(4000, 53)),
    "ipv4 from the router's address": _ip(ROUTER_IPS[0], HOST_IPS[0], 6, _TCP),
    "dhcp server": _ip(IPS[0], "255.255.255.255", 17, _udp(67, 68, bytes(240))),
    "dhcp for another's card": _ip("0.0.0.0", "255.255.255.255", 17, _dhcp(_THEIRS)),
    "dhcp renewal for another's card": _ip(IPS[0], ROUTER_IPS[0], 17, _dhcp(_THEIRS)),
    "igmp query": _ip(IPS[0], "224.0.0.1", 2, bytes((0x11, 0)) + bytes(6)),
    "router advertisement": _ip6(_LOCAL, "ff02::1", 58, _RA),
    "router advertisement from a global address": _ip6(IPS[1], "ff02::1", 58, _RA),
    "router advertisement behind options": _ip6(_LOCAL, "ff02::1", 0, _behind(58, _RA)),
    "router advertisement behind options, global": _ip6(IPS[1], "ff02::1", 0, _behind(58, _RA)),
    "router advertisement behind others": _ip6(_LOCAL, "ff02::1", 60, _behind(58, _RA)),
    "router advertisement in a fragment": _ip6(_LOCAL, "ff02::1", 44, _behind(58, _RA)),
    "routing header": _ip6(IPS[1], ROUTER_IPS[1], 43, _behind(17, _udp(4000, 53))),
    "redirect": _icmp6(_LOCAL, 137, bytes(36)),
    "mld query": _ip6(_LOCAL, "ff02::1", 0, bytes((58, 0, 5, 2, 0, 0, 1, 0, 130, 0, 0, 0)) + bytes(20)),
    "router solicitation to a neighbour": _icmp6(_LOCAL, 133, bytes(4), _OTHER_LOCAL),
    "dhcpv6 server": _ip6(_LOCAL, _OTHER_LOCAL, 17, _udp(547, 546)),
    "dhcpv6 server from a global address": _ip6(IPS[1], _OTHER_LOCAL, 17, _udp(547, 546)),
    "neighbour solicitation for another's card": _icmp6(IPS[1], 135, _about(ROUTER_IPS[1], 1, _THEIRS)),
    "neighbour advertisement for another's card": _icmp6(IPS[1], 136, _about(IPS[1], 2, _THEIRS)),
    "neighbour advertisement of the host's address": _icmp6(_LOCAL, 136, _about(HOST_IPS[1], 2)),
    "neighbour advertisement of the router's address": _icmp6(_LOCAL, 136, _about(ROUTER_IPS[1], 2)),
    "duplicate address detection of the host's address": _icmp6("::", 135, _about(HOST_IPS[1])),
    "ipv6 from the host's address": _ip6(HOST_IPS[1], _OTHER6, 17, _udp(4000, 53)),
    "ipv6 from the router's address": _ip6(ROUTER_IPS[1], _OTHER6, 6, _TCP),
    "udp from link-local": _ip6(_LOCAL, _OTHER_LOCAL, 17, _udp(4000, 4000)),
}
