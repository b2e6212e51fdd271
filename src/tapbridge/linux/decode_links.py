"""RTM_NEWLINK: links, and the per-link switches that travel in the same message. Pure.

Numbers are those of include/uapi/linux/if_link.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final

from tapbridge.linux.attributes import U32, Malformed, careful, decode_ip, decode_mac, decode_name, walk, walk_each
from tapbridge.linux.switches import IPV4_SWITCHES, IPV6_SWITCHES
from tapbridge.model.state import Bridge, Link, Port, Sysctl, Tap
from tapbridge.model.values import IfName

_LINK: Final = struct.Struct("=BxHiII")  # struct ifinfomsg: family, type, index, flags, change
_ETHERNET: Final = 1  # ARPHRD_ETHER
_LOOPBACK: Final = 772  # ARPHRD_LOOPBACK
_UP: Final = 0x1  # IFF_UP
_LOWER_UP: Final = 0x10000  # IFF_LOWER_UP
_OPERSTATES: Final = ("unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up")
_NOBODY: Final = 0xFFFFFFFF  # IFLA_TUN_OWNER of a tap without one
_Attributes = dict[int, bytes]


@careful
def decode_links(bodies: Iterable[bytes]) -> tuple[Link, ...]:
    """The links of a whole dump, in its order. A NIC's kind is "" here, of a wireless one too. Raises Malformed."""
    rows = []
    names: dict[int, IfName] = {}
    kinds: dict[int, str] = {}
    for body in bodies:
        _, hardware, index, flags, _ = _LINK.unpack_from(body)
        found = walk(body, _LINK.size)
        kind = walk(found.get(18, b""))  # IFLA_LINKINFO
        if 3 not in found:
            raise Malformed(f"link {index} has no name")
        names[index] = decode_name(found[3])
        kinds[index] = _kind(kind, hardware)
        rows.append((index, hardware, flags, found, kind))
    return tuple(_link(names, kinds, *row) for row in rows)


def _kind(kind: _Attributes, hardware: int) -> str:
    if hardware == _LOOPBACK:
        return "loopback"
    word = str(decode_name(kind.get(1, b"")))  # IFLA_INFO_KIND
    if word == "tun" and walk(kind.get(2, b"")).get(3) == b"\x02":  # IFLA_TUN_TYPE is IFF_TAP
        return "tap"
    return word


def _link(
    names: dict[int, IfName],
    kinds: dict[int, str],
    index: int,
    hardware: int,
    flags: int,
    found: _Attributes,
    kind: _Attributes,
) -> Link:
    master = U32.unpack(found[10])[0] if 10 in found else 0
    parent = U32.unpack(found[5])[0] if 5 in found and 37 not in found else 0  # IFLA_LINK_NETNSID: it is elsewhere
    mode, token = _address_generation(found)
    operstate = found[16][0] if 16 in found else 0
    word = kinds[index]
    return Link(
        index=index,
        name=names[index],
        kind=word,
        mac=decode_mac(found.get(1)),
        permanent_mac=decode_mac(found.get(54)),
        mtu=U32.unpack(found[4])[0],
        up=bool(flags & _UP),
        carrier=bool(flags & _LOWER_UP),
        operstate=_OPERSTATES[operstate] if operstate < len(_OPERSTATES) else str(operstate),
        master=names.get(master),
        master_kind=kinds.get(master),
        parent=names.get(parent),
        altnames=tuple(decode_name(name) for number, name in walk_each(found.get(52, b"")) if number == 53),
        alias=str(decode_name(found[20])) if 20 in found else None,
        addr_gen_mode=mode,
        token=token,
        ethernet=hardware == _ETHERNET,
        bridge=_bridge(walk(kind.get(2, b""))) if word == "bridge" else None,
        port=_port(walk(kind.get(5, b""))) if kind.get(4) == b"bridge\0" else None,
        tap=_tap(walk(kind.get(2, b""))) if word == "tap" else None,
    )


def _address_generation(found: _Attributes) -> tuple[int, str | None]:
    ipv6 = walk(walk(found.get(26, b"")).get(10, b""))  # IFLA_AF_SPEC, AF_INET6
    token = ipv6.get(7, b"")  # IFLA_INET6_TOKEN
    return (ipv6[8][0] if 8 in ipv6 else 0), (decode_ip(token) if any(token) else None)


def _bridge(found: _Attributes) -> Bridge:
    return Bridge(
        stp=any(found.get(5, b"")),
        forward_delay=U32.unpack(found[1])[0],
        mcast_snooping=any(found.get(23, b"")),
        vlan_filtering=any(found.get(7, b"")),
    )


def _port(found: _Attributes) -> Port:
    return Port(
        state=found[1][0],
        learning=any(found.get(8, b"")),
        flood=any(found.get(9, b"")),
        isolated=any(found.get(33, b"")),
        locked=any(found.get(39, b"")),
        hairpin=any(found.get(4, b"")),
    )


def _tap(found: _Attributes) -> Tap:
    owner = U32.unpack(found[1])[0] if 1 in found else _NOBODY
    group = U32.unpack(found[2])[0] if 2 in found else _NOBODY
    return Tap(
        owner=None if owner == _NOBODY else owner,
        group=None if group == _NOBODY else group,
        persist=any(found.get(6, b"")),
        multi_queue=any(found.get(7, b"")),
        vnet_hdr=any(found.get(5, b"")),
    )


@careful
def decode_sysctls(bodies: Iterable[bytes]) -> tuple[Sysctl, ...]:
    """The switches of every link of a dump but guests' taps, which no plan moves. Raises Malformed."""
    switches: list[Sysctl] = []
    for body in bodies:
        found = walk(body, _LINK.size)
        _, hardware, *_ = _LINK.unpack_from(body)
        if 10 in found and _kind(walk(found.get(18, b"")), hardware) == "tap":
            continue
        link = decode_name(found[3])
        stacks = walk(found.get(26, b""))  # IFLA_AF_SPEC
        ipv4 = walk(stacks.get(2, b"")).get(1, b"")  # AF_INET, IFLA_INET_CONF
        ipv6 = walk(stacks.get(10, b"")).get(2, b"")  # AF_INET6, IFLA_INET6_CONF
        for stack, table, values in (("ipv4", IPV4_SWITCHES, ipv4), ("ipv6", IPV6_SWITCHES, ipv6)):
            numbers = struct.unpack(f"={len(values) // 4}i", values)
            switches += [
                Sysctl(link=link, stack=stack, name=name, value=numbers[place])
                for name, place in table.items()
                if place < len(numbers)
            ]
    return tuple(switches)
