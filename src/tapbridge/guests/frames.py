"""What a frame that was heard on a tap says of addresses: ARP, DHCPv4, and neighbour discovery of IPv6. Pure.

A frame is a stranger's bytes. Every length is checked before it is used, nothing loops longer than the frame
is, and nothing is raised: a frame that says nothing yields nothing.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass

from tapbridge.model.values import Family, Mac

FRAME_BYTES = 2048
_ARP, _IPV4, _IPV6 = 0x0806, 0x0800, 0x86DD
_UDP, _ICMPV6 = 17, 58
_SERVER, _CLIENT = 67, 68
_REQUEST, _ACK = 3, 5  # RFC 2132, 9.6
_SOLICITATION, _ADVERTISEMENT, _ROUTER_SOLICITATION = 135, 136, 133


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """One statement of a frame: the card `mac` has `ip`. `source` is arp, dhcp or nd. Lifetimes are seconds.

    `granted` marks an acknowledgement: a server's word about somebody else, not the sender's about itself.
    """

    mac: Mac
    family: Family
    ip: str
    source: str
    granted: bool = False
    prefix: int | None = None
    valid_lft: int | None = None


def find_sender(frame: bytes) -> Mac | None:
    """The card that an Ethernet frame comes from; a group cannot be one."""
    return None if len(frame) < 14 or frame[6] & 1 else mac_text(frame[6:12])


def read_frame(frame: bytes) -> Word | None:
    """What an Ethernet frame says of an address, if anything."""
    frame = frame[:FRAME_BYTES]
    mac = find_sender(frame)
    if mac is None:
        return None
    kind = int.from_bytes(frame[12:14], "big")
    if kind == _ARP:
        return _arp(mac, frame[14:])
    if kind == _IPV4:
        return _dhcp(mac, frame[14:])
    return _discovery(mac, frame[14:]) if kind == _IPV6 else None


def _arp(mac: Mac, packet: bytes) -> Word | None:
    """RFC 826, over Ethernet and IPv4. Sender 0.0.0.0 is a probe of RFC 5227: nobody has the address yet."""
    if len(packet) < 28 or packet[:6] != b"\x00\x01\x08\x00\x06\x04" or packet[6:8] not in (b"\0\1", b"\0\2"):
        return None
    if mac_text(packet[8:14]) != mac or not _usable4(packet[14:18]):
        return None
    return Word(mac=mac, family=4, ip=socket.inet_ntoa(packet[14:18]), source="arp")


def _dhcp(mac: Mac, packet: bytes) -> Word | None:
    """RFC 2131: the acknowledgement of a lease, or a request by a client that says which address it has (ciaddr)."""
    if len(packet) < 20 or packet[0] >> 4 != 4 or packet[9] != _UDP:
        return None
    if int.from_bytes(packet[6:8], "big") & 0x3FFF:  # a fragment
        return None
    header = (packet[0] & 15) * 4
    udp, message = packet[header : header + 8], packet[header + 8 :]
    if header < 20 or len(message) < 240 or message[236:240] != b"\x63\x82\x53\x63" or message[1:3] != b"\1\6":
        return None
    ports = int.from_bytes(udp[0:2], "big"), int.from_bytes(udp[2:4], "big")
    options = dict(_dhcp_options(message[240:]))
    said = options.get(53, b"")
    client = mac_text(message[28:34])
    if message[0] == 2 and ports[0] == _SERVER and said == bytes((_ACK,)):
        if not _usable4(message[16:20]):  # an answer to DHCPINFORM grants nothing
            return None
        ip = socket.inet_ntoa(message[16:20])
        lease = options.get(51, b"")
        return Word(
            mac=client,
            family=4,
            ip=ip,
            source="dhcp",
            granted=True,
            prefix=_find_prefix(options.get(1, b"")),
            valid_lft=int.from_bytes(lease, "big") if len(lease) == 4 and lease != b"\xff" * 4 else None,
        )
    asks = message[0] == 1 and ports == (_CLIENT, _SERVER) and said == bytes((_REQUEST,))
    if asks and client == mac and _usable4(message[12:16]):
        return Word(mac=mac, family=4, ip=socket.inet_ntoa(message[12:16]), source="dhcp")
    return None


def _dhcp_options(text: bytes) -> Iterator[tuple[int, bytes]]:
    place = 0
    while place + 1 < len(text) and text[place] != 255:
        if text[place] == 0:
            place += 1
            continue
        end = place + 2 + text[place + 1]
        if end > len(text):
            return
        yield text[place], text[place + 2 : end]
        place = end


def _discovery(mac: Mac, packet: bytes) -> Word | None:
    """RFC 4861 and 4862: whom a solicitation comes from, whom it is about while the sender has no address yet, and
    what an advertisement announces."""
    if len(packet) < 48 or packet[0] >> 4 != 6 or packet[6] != _ICMPV6 or packet[7] != 255:
        return None
    sender, message = packet[8:24], packet[40:]
    if message[0] == _ROUTER_SOLICITATION:
        ip = sender
    elif message[0] == _SOLICITATION and len(message) >= 24:
        ip = sender if any(sender) else message[8:24]
    elif message[0] == _ADVERTISEMENT and len(message) >= 24:
        ip = message[8:24]
    else:
        return None
    if not any(ip[:15]) or ip[0] == 0xFF:  # ::, ::1 and groups
        return None
    return Word(mac=mac, family=6, ip=socket.inet_ntop(socket.AF_INET6, ip), source="nd")


def _usable4(octets: bytes) -> bool:
    return 0 < octets[0] < 224 and octets[0] != 127


def _find_prefix(mask: bytes) -> int | None:
    bits = int.from_bytes(mask, "big")
    prefix = bits.bit_count()
    return prefix if len(mask) == 4 and bits == (1 << 32) - (1 << 32 - prefix) else None


def mac_text(octets: bytes) -> Mac:
    """Six octets as text."""
    return Mac(octets.hex(":"))
