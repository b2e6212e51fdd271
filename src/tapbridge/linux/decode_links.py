"""RTM_NEWLINK: links, and the per-link switches that travel in the same message. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Final

from tapbridge.linux import uapi
from tapbridge.linux.attributes import (
    Malformed,
    careful,
    decode_ip,
    decode_mac,
    decode_name,
    decode_u8,
    decode_u16,
    decode_u32,
    walk,
    walk_each,
)
from tapbridge.linux.port_flags import PORT_FLAGS
from tapbridge.linux.switches import IPV4_SWITCHES, IPV6_SWITCHES
from tapbridge.model.port import Port
from tapbridge.model.state import Bridge, Link, Sysctl, Tap, Vlans
from tapbridge.model.values import IfName

LINK: Final = struct.Struct("=BxHiII")  # struct ifinfomsg: family, type, index, flags, change
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
        _, hardware, index, flags, _ = LINK.unpack_from(body)
        found = walk(body, LINK.size)
        if uapi.IFLA_IFNAME not in found:
            raise Malformed(f"link {index} has no name")
        names[index] = decode_name(found[uapi.IFLA_IFNAME])
        special = walk(found.get(uapi.IFLA_LINKINFO, b""))
        kinds[index] = _kind(special, hardware)
        rows.append((index, hardware, flags, found, special))
    return tuple(_link(names, kinds, *row) for row in rows)


def _kind(special: _Attributes, hardware: int) -> str:
    if hardware == uapi.ARPHRD_LOOPBACK:
        return "loopback"
    word = str(decode_name(special.get(uapi.IFLA_INFO_KIND, b"")))
    if word == "tun" and decode_u8(_options(special).get(uapi.IFLA_TUN_TYPE)) == uapi.IFF_TAP:
        return "tap"
    return word


def _options(special: _Attributes) -> _Attributes:
    return walk(special.get(uapi.IFLA_INFO_DATA, b""))


def _link(
    names: dict[int, IfName],
    kinds: dict[int, str],
    index: int,
    hardware: int,
    flags: int,
    found: _Attributes,
    special: _Attributes,
) -> Link:
    master = decode_u32(found.get(uapi.IFLA_MASTER))
    parent = 0 if uapi.IFLA_LINK_NETNSID in found else decode_u32(found.get(uapi.IFLA_LINK))
    operstate = decode_u8(found.get(uapi.IFLA_OPERSTATE))
    ipv6 = walk(walk(found.get(uapi.IFLA_AF_SPEC, b"")).get(uapi.AF_INET6, b""))
    token = ipv6.get(uapi.IFLA_INET6_TOKEN, b"")
    is_port = special.get(uapi.IFLA_INFO_SLAVE_KIND) == b"bridge\0"
    kind = kinds[index]
    return Link(
        index=index,
        name=names[index],
        kind=kind,
        mac=decode_mac(found.get(uapi.IFLA_ADDRESS)),
        permanent_mac=decode_mac(found.get(uapi.IFLA_PERM_ADDRESS)),
        mtu=decode_u32(found[uapi.IFLA_MTU]),
        up=bool(flags & uapi.IFF_UP),
        carrier=bool(flags & uapi.IFF_LOWER_UP),
        operstate=_OPERSTATES[operstate] if operstate < len(_OPERSTATES) else str(operstate),
        master=names.get(master),
        master_kind=kinds.get(master),
        parent=names.get(parent),
        altnames=tuple(decode_name(name) for _, name in walk_each(found.get(uapi.IFLA_PROP_LIST, b""))),
        alias=decode_name(found[uapi.IFLA_IFALIAS]) if uapi.IFLA_IFALIAS in found else None,
        addr_gen_mode=decode_u8(ipv6.get(uapi.IFLA_INET6_ADDR_GEN_MODE)),
        token=decode_ip(token) if any(token) else None,
        ethernet=hardware == uapi.ARPHRD_ETHER,
        bridge=_bridge(_options(special)) if kind == "bridge" else None,
        port=_port(walk(special.get(uapi.IFLA_INFO_SLAVE_DATA, b""))) if is_port else None,
        tap=_tap(_options(special)) if kind == "tap" else None,
        vlan_id=decode_u16(_options(special)[uapi.IFLA_VLAN_ID]) if kind == "vlan" else None,
    )


def _bridge(found: _Attributes) -> Bridge:
    return Bridge(
        stp=any(found.get(uapi.IFLA_BR_STP_STATE, b"")),
        forward_delay=decode_u32(found[uapi.IFLA_BR_FORWARD_DELAY]),
        mcast_snooping=any(found.get(uapi.IFLA_BR_MCAST_SNOOPING, b"")),
        vlan_filtering=any(found.get(uapi.IFLA_BR_VLAN_FILTERING, b"")),
        default_pvid=decode_u16(found.get(uapi.IFLA_BR_VLAN_DEFAULT_PVID), 1),  # a kernel without VLANs has none
    )


@careful
def decode_vlans(bodies: Iterable[bytes]) -> dict[int, tuple[Vlans, ...]]:
    """In which VLANs ports and bridges are, by their numbers: of a dump of the bridge family. Raises Malformed.

    A card with a switch of its own is told of once more, without VLANs.
    """
    told = [(LINK.unpack_from(body)[2], tuple(_vlans(walk(body, LINK.size)))) for body in bodies]
    return {index: vlans for index, vlans in told if vlans}


def _vlans(found: _Attributes) -> Iterator[Vlans]:
    begun = 0
    for number, payload in walk_each(found.get(uapi.IFLA_AF_SPEC, b"")):
        if number != uapi.IFLA_BRIDGE_VLAN_INFO:
            continue
        flags, last = struct.unpack("=HH", payload)
        if flags & uapi.BRIDGE_VLAN_INFO_RANGE_BEGIN:
            begun = last
            continue
        first = begun if flags & uapi.BRIDGE_VLAN_INFO_RANGE_END else last
        pvid, untagged = flags & uapi.BRIDGE_VLAN_INFO_PVID, flags & uapi.BRIDGE_VLAN_INFO_UNTAGGED
        yield Vlans(first=first, last=last, pvid=bool(pvid), untagged=bool(untagged))


def _port(found: _Attributes) -> Port:
    return Port(
        state=found[uapi.IFLA_BRPORT_STATE][0],
        priority=decode_u16(found.get(uapi.IFLA_BRPORT_PRIORITY)),
        **{field: any(found.get(attribute, b"")) for field, attribute in PORT_FLAGS.items()},
    )


def _tap(found: _Attributes) -> Tap:
    owner = decode_u32(found.get(uapi.IFLA_TUN_OWNER), _NOBODY)
    group = decode_u32(found.get(uapi.IFLA_TUN_GROUP), _NOBODY)
    return Tap(
        owner=None if owner == _NOBODY else owner,
        group=None if group == _NOBODY else group,
        persist=any(found.get(uapi.IFLA_TUN_PERSIST, b"")),
        multi_queue=any(found.get(uapi.IFLA_TUN_MULTI_QUEUE, b"")),
        vnet_hdr=any(found.get(uapi.IFLA_TUN_VNET_HDR, b"")),
    )


@careful
def decode_sysctls(bodies: Iterable[bytes], links: Iterable[Link]) -> tuple[Sysctl, ...]:
    """The switches of every link of a dump, whose `links` are known, but guests' taps, which no plan moves.

    Raises Malformed.
    """
    of_guests = {link.index for link in links if link.kind == "tap" and link.master is not None}
    switches: list[Sysctl] = []
    for body in bodies:
        if LINK.unpack_from(body)[2] in of_guests:
            continue
        found = walk(body, LINK.size)
        link = decode_name(found[uapi.IFLA_IFNAME])
        stacks = walk(found.get(uapi.IFLA_AF_SPEC, b""))
        ipv4 = walk(stacks.get(uapi.AF_INET, b"")).get(uapi.IFLA_INET_CONF, b"")
        ipv6 = walk(stacks.get(uapi.AF_INET6, b"")).get(uapi.IFLA_INET6_CONF, b"")
        for stack, table, values in (("ipv4", IPV4_SWITCHES, ipv4), ("ipv6", IPV6_SWITCHES, ipv6)):
            numbers = struct.unpack(f"={len(values) // 4}i", values)
            known = [(name, numbers[place]) for name, place in table.items() if place < len(numbers)]
            switches += [Sysctl(link=link, stack=stack, name=name, value=value) for name, value in known]
    return tuple(switches)
