"""What a frame that was heard on a tap says of addresses: ARP, DHCPv4, neighbour discovery of IPv6, and mDNS. Pure.

A frame is a stranger's bytes. Every length is checked before it is used, nothing loops longer than the frame
is, and nothing is raised: a frame that says nothing yields nothing.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from typing import NamedTuple

from tapbridge.guests.dns import find_owner
from tapbridge.model.noun import dataclass
from tapbridge.model.values import Family, Mac

FRAME_BYTES = 2048
_ARP, _IPV4, _IPV6 = 0x0806, 0x0800, 0x86DD
_UDP, _ICMPV6 = 17, 58
_SERVER, _CLIENT, _MDNS = 67, 68, 5353
_GROUP4, _GROUP6 = b"\xe0\0\0\xfb", b"\xff\x02" + bytes(13) + b"\xfb"  # RFC 6762, 3
_REQUEST, _ACK = 3, 5  # RFC 2132, 9.6
_HOSTNAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
_SOLICITATION, _ADVERTISEMENT, _ROUTER_SOLICITATION = 135, 136, 133


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """One statement of a frame: the card `mac` has `ip`. `source` is arp, dhcp, nd or mdns. Lifetimes are seconds.

    `granted` marks an acknowledgement: a server's word about somebody else, not the sender's about itself.
    """

    mac: Mac
    family: Family
    ip: str
    source: str
    granted: bool = False
    prefix: int | None = None
    valid_lft: int | None = None
    hostname: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """What a DHCP client says of itself, whatever it asks for."""

    mac: Mac
    hostname: str | None = None
    client_id: str | None = None


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
        return _dhcp(mac, frame[14:]) or _mdns4(mac, frame[14:])
    return _discovery(mac, frame[14:]) or _mdns6(mac, frame[14:]) if kind == _IPV6 else None


def _arp(mac: Mac, packet: bytes) -> Word | None:
    """RFC 826, over Ethernet and IPv4. Sender 0.0.0.0 is a probe of RFC 5227: nobody has the address yet."""
    if len(packet) < 28 or packet[:6] != b"\x00\x01\x08\x00\x06\x04" or packet[6:8] not in (b"\0\1", b"\0\2"):
        return None
    if mac_text(packet[8:14]) != mac or not _usable4(packet[14:18]):
        return None
    return Word(mac=mac, family=4, ip=socket.inet_ntoa(packet[14:18]), source="arp")


def read_client(frame: bytes) -> Client | None:
    """What an Ethernet frame says of its sender as a client of DHCP, if anything."""
    mac, message = find_sender(frame), _dhcp_message(frame[14:FRAME_BYTES]) if frame[12:14] == b"\x08\0" else None
    if mac is None or message is None or message.ports != (_CLIENT, _SERVER) or message.client != mac:
        return None
    client_id = message.options.get(61, b"")
    return Client(
        mac=mac,
        hostname=find_hostname(message.options.get(12, b"").decode("latin-1")),
        client_id=client_id.hex(":") if len(client_id) > 1 else None,
    )


def find_hostname(text: str) -> str | None:
    """The text if it can be a host's name (RFC 1123, and the underscores of the real world)."""
    return text if _HOSTNAME.fullmatch(text) else None


def _dhcp(mac: Mac, packet: bytes) -> Word | None:
    """RFC 2131: the acknowledgement of a lease, or a request by a client that says which address it has (ciaddr)."""
    message = _dhcp_message(packet)
    if message is None:
        return None
    said = message.options.get(53, b"")
    if message.operation == 2 and message.ports[0] == _SERVER and said == bytes((_ACK,)):
        if not _usable4(message.given):  # an answer to DHCPINFORM grants nothing
            return None
        lease = message.options.get(51, b"")
        return Word(
            mac=message.client,
            family=4,
            ip=socket.inet_ntoa(message.given),
            source="dhcp",
            granted=True,
            prefix=_find_prefix(message.options.get(1, b"")),
            valid_lft=int.from_bytes(lease, "big") if len(lease) == 4 and lease != b"\xff" * 4 else None,
        )
    asks = message.operation == 1 and message.ports == (_CLIENT, _SERVER) and said == bytes((_REQUEST,))
    if asks and message.client == mac and _usable4(message.held):
        return Word(mac=mac, family=4, ip=socket.inet_ntoa(message.held), source="dhcp")
    return None


class _Message(NamedTuple):
    """A message of DHCP. `held` is what the client says that it has (ciaddr), `given` what it is given (yiaddr)."""

    operation: int
    ports: tuple[int, int]
    client: Mac
    held: bytes
    given: bytes
    options: dict[int, bytes]


def _dhcp_message(packet: bytes) -> _Message | None:
    found = _udp(packet)
    if found is None:
        return None
    ports, message = found
    if len(message) < 240 or message[236:240] != b"\x63\x82\x53\x63" or message[1:3] != b"\1\6":
        return None
    options = dict(_dhcp_options(message[240:]))
    return _Message(message[0], ports, mac_text(message[28:34]), message[12:16], message[16:20], options)


def _udp(packet: bytes) -> tuple[tuple[int, int], bytes] | None:
    """The ports and the message of a UDP datagram in one IPv4 packet."""
    if len(packet) < 20 or packet[0] >> 4 != 4 or packet[9] != _UDP:
        return None
    if int.from_bytes(packet[6:8], "big") & 0x3FFF:  # a fragment
        return None
    header = (packet[0] & 15) * 4
    udp = packet[header : header + 8]
    if header < 20 or len(udp) < 8:
        return None
    return (int.from_bytes(udp[0:2], "big"), int.from_bytes(udp[2:4], "big")), packet[header + 8 :]


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


def _mdns4(mac: Mac, packet: bytes) -> Word | None:
    found = _udp(packet)
    if found is None or found[0] != (_MDNS, _MDNS) or packet[16:20] != _GROUP4 or not _usable4(packet[12:16]):
        return None
    address = packet[12:16]
    name = find_owner(found[1], address)
    return Word(mac=mac, family=4, ip=socket.inet_ntoa(address), source="mdns", hostname=name)


def _mdns6(mac: Mac, packet: bytes) -> Word | None:
    if len(packet) < 48 or packet[0] >> 4 != 6 or packet[6] != _UDP or packet[24:40] != _GROUP6:
        return None
    address = packet[8:24]
    if packet[40:44] != _MDNS.to_bytes(2, "big") * 2 or not any(address[:15]) or address[0] == 0xFF:
        return None
    name = find_owner(packet[48:], address)
    return Word(mac=mac, family=6, ip=socket.inet_ntop(socket.AF_INET6, address), source="mdns", hostname=name)


def _usable4(octets: bytes) -> bool:
    return 0 < octets[0] < 224 and octets[0] != 127


def _find_prefix(mask: bytes) -> int | None:
    bits = int.from_bytes(mask, "big")
    prefix = bits.bit_count()
    return prefix if len(mask) == 4 and bits == (1 << 32) - (1 << 32 - prefix) else None


def mac_text(octets: bytes) -> Mac:
    """Six octets as text."""
    return Mac(octets.hex(":"))
