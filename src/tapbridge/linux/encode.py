"""Steps as requests to rtnetlink. Pure: names become numbers by a function that is given.

Each step's encoder is named after it; the `ip` command that equals it is in core/describe.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from typing import Any, Final

from tapbridge.linux import attributes as nl
from tapbridge.linux.attributes import nest, pack, pack_u8, pack_u32
from tapbridge.linux.channel import Request
from tapbridge.linux.decode_routes import ACTIONS, HOP, INVERT, ONLINK, ROUTE, RULE, TYPES
from tapbridge.model import step as steps
from tapbridge.model.state import MANAGETEMPADDR, NODAD, NOPREFIXROUTE, Address, Neighbour, Nexthop, Route, Rule
from tapbridge.model.step import Step

IndexOf = Callable[[str], int]

_NEWLINK, _DELLINK, _SETLINK = 16, 17, 19  # RTM_*
_NEWADDR, _DELADDR = 20, 21
_NEWROUTE, _DELROUTE = 24, 25
_NEWNEIGH, _DELNEIGH = 28, 29
_NEWRULE, _DELRULE = 32, 33
_REPLACE, _EXCL, _CREATE, _APPEND = 0x100, 0x200, 0x400, 0x800  # NLM_F_*
_AF: Final = {4: 2, 6: 10}
_AF_BRIDGE: Final = 7
_UP: Final = 1  # IFF_UP
_FOREVER: Final = 0xFFFFFFFF
_PROXY: Final = 0x08  # NTF_PROXY
_LINK: Final = struct.Struct("=BxHiII")
_ABSENT: Final = (errno.ENOENT, errno.ESRCH, errno.ENODEV, errno.EADDRNOTAVAIL)


def _link(index: int, *attributes: bytes, flags: int = 0, change: int = 0) -> Request:
    return Request(_NEWLINK, 0, _LINK.pack(0, 0, index, flags, change) + b"".join(attributes))


def _add_link(step: steps.AddLink, index_of: IndexOf) -> tuple[Request, ...]:
    """A veth's far end cannot be made up: veth_open() wants a peer, and it has none yet. It is raised by its name."""
    mtu = pack_u32(4, step.mtu) if step.mtu is not None else b""  # IFLA_MTU
    options = b""
    if step.bridge is not None:
        options = pack_u32(1, step.bridge.forward_delay) + pack_u32(5, step.bridge.stp)
        options += pack_u8(23, step.bridge.mcast_snooping)
        options += pack_u8(7, 1) if step.bridge.vlan_filtering else b""  # a kernel without VLANs refuses even a 0
    if step.peer is not None:
        options = pack(1, _LINK.pack(0, 0, 0, 0, 0) + pack(3, nl.encode_name(step.peer)) + mtu)  # VETH_INFO_PEER
    request = _link(
        0,
        pack(3, nl.encode_name(step.name)),
        mtu,
        pack(1, nl.encode_mac(step.mac)) if step.mac is not None else b"",
        pack_u32(10, index_of(step.master)) if step.master is not None else b"",
        nest(18, pack(1, step.kind.encode()), nest(2, options)),  # IFLA_LINKINFO: kind and its options
        flags=_UP if step.up else 0,
        change=_UP,
    )
    made = Request(_NEWLINK, _CREATE | _EXCL, request.body)
    if step.peer is None:
        return (made,)
    return made, _link(0, pack(3, nl.encode_name(step.peer)), flags=_UP, change=_UP)


def _delete_link(step: steps.DeleteLink, index_of: IndexOf) -> tuple[Request, ...]:
    return (Request(_DELLINK, 0, _LINK.pack(0, 0, index_of(step.link), 0, 0), _ABSENT),)


def _set_up(step: steps.SetUp, index_of: IndexOf) -> tuple[Request, ...]:
    return (_link(index_of(step.link), flags=_UP if step.up else 0, change=_UP),)


def _set_master(step: steps.SetMaster, index_of: IndexOf) -> tuple[Request, ...]:
    return (_link(index_of(step.link), pack_u32(10, index_of(step.master) if step.master is not None else 0)),)


def _set_mtu(step: steps.SetMtu, index_of: IndexOf) -> tuple[Request, ...]:
    return (_link(index_of(step.link), pack_u32(4, step.mtu)),)


def _set_mac(step: steps.SetMac, index_of: IndexOf) -> tuple[Request, ...]:
    return (_link(index_of(step.link), pack(1, nl.encode_mac(step.mac))),)


def _set_alias(step: steps.SetAlias, index_of: IndexOf) -> tuple[Request, ...]:
    alias = nl.encode_name(step.alias)[:-1] if step.alias else b""
    return (_link(index_of(step.link), pack(20, alias)),)


def _rename(step: steps.RenameLink, index_of: IndexOf) -> tuple[Request, ...]:
    return (_link(index_of(step.link), pack(3, nl.encode_name(step.to))),)


def _set_address_generation(step: steps.SetAddressGeneration, index_of: IndexOf) -> tuple[Request, ...]:
    """The kernel refuses any token, none too, on a link that heeds no advertisements: none is then what it has."""
    index = index_of(step.link)
    mode = _link(index, nest(26, nest(10, pack_u8(8, step.mode))))
    token = _link(index, nest(26, nest(10, pack(7, nl.encode_ip(step.token or "::")))))
    return mode, Request(token.kind, token.flags, token.body, () if step.token else (errno.EINVAL,))


def _set_port(step: steps.SetPort, index_of: IndexOf) -> tuple[Request, ...]:
    """All but the port's STP state, which is the kernel's to decide."""
    port = step.port
    switches = ((4, port.hairpin), (8, port.learning), (9, port.flood), (33, port.isolated), (39, port.locked))
    flags = nest(12, *(pack_u8(number, value) for number, value in switches))  # IFLA_PROTINFO
    return (Request(_SETLINK, 0, _LINK.pack(_AF_BRIDGE, 0, index_of(step.link), 0, 0) + flags),)


def _address(address: Address, index: int, flags: int) -> bytes:
    header = struct.pack("=BBBBi", _AF[address.family], address.prefix, flags & 0xFF, address.scope, index)
    other = address.peer or address.ip
    return header + pack(2, nl.encode_ip(address.ip)) + pack(1, nl.encode_ip(other))


def _put_address(step: steps.PutAddress, index_of: IndexOf) -> tuple[Request, ...]:
    address = step.address
    flags = address.flags & (NOPREFIXROUTE | MANAGETEMPADDR) | (0 if step.dad else NODAD)
    valid = _FOREVER if address.valid_lft is None else max(address.valid_lft, 1)
    preferred = _FOREVER if address.preferred_lft is None else min(address.preferred_lft, valid)
    body = _address(address, index_of(address.link), flags)
    body += pack_u32(8, flags) + pack(6, struct.pack("=IIII", preferred, valid, 0, 0))  # IFA_FLAGS, IFA_CACHEINFO
    body += pack(3, nl.encode_name(address.label)) if address.label is not None else b""
    body += pack(4, nl.encode_ip(address.broadcast)) if address.broadcast is not None else b""
    body += pack_u32(9, address.metric) if address.metric else b""
    body += pack_u8(11, address.proto) if address.proto else b""
    return (Request(_NEWADDR, _CREATE | _REPLACE, body),)


def _delete_address(step: steps.DeleteAddress, index_of: IndexOf) -> tuple[Request, ...]:
    body = _address(step.address, index_of(step.address.link), 0)
    return (Request(_DELADDR, 0, body, (*_ABSENT, errno.ENXIO)),)  # ENXIO: the link has no IPv6 at all


def _ways(hops: tuple[Nexthop, ...], family: int, index_of: IndexOf) -> tuple[int, bytes]:
    """The flags for a route's header and its attributes that say where it leads."""
    if len(hops) == 1:
        index, flags, gateway = _way(hops[0], family, index_of)
        return flags, (pack_u32(4, index) if index else b"") + gateway
    ways = b""
    for hop in hops:
        index, flags, gateway = _way(hop, family, index_of)
        ways += HOP.pack(HOP.size + len(gateway), flags, hop.weight - 1, index) + gateway
    return 0, nest(9, ways) if ways else b""


def _way(hop: Nexthop, family: int, index_of: IndexOf) -> tuple[int, int, bytes]:
    if hop.encap is not None:
        raise OSError(errno.EOPNOTSUPP, f"a route with {hop.encap} encapsulation cannot be made again")
    gateway = b""
    if hop.gateway is not None:
        address = nl.encode_ip(hop.gateway)
        foreign = len(address) != (4 if family == 4 else 16)
        gateway = pack(18, nl.U16.pack(_AF[10 - family]) + address) if foreign else pack(5, address)  # RTA_VIA
    return index_of(hop.link) if hop.link is not None else 0, ONLINK if hop.onlink else 0, gateway


def _split(prefix: str | None) -> tuple[int, bytes]:
    network, _, bits = (prefix or "/0").partition("/")
    return int(bits), nl.encode_ip(network) if network else b""


def _route(route: Route, index_of: IndexOf) -> bytes:
    dst_bits, dst = _split(route.dst)
    src_bits, src = _split(route.src)
    flags, ways = _ways(route.nexthops, route.family, index_of)
    if route.nexthop_object:
        flags, ways = 0, pack_u32(30, route.nexthop_object)
    table = route.table if route.table < 256 else 252  # RT_TABLE_COMPAT
    kind = TYPES.index(route.type)
    header = ROUTE.pack(
        _AF[route.family], dst_bits, src_bits, route.tos, table, route.protocol, route.scope, kind, flags
    )
    metrics = b"".join(
        pack(number, nl.encode_name(value) if isinstance(value, str) else nl.U32.pack(value))
        for number, value in route.metrics
    )
    return header + b"".join(
        (
            pack(1, dst) if dst_bits else b"",
            pack(2, src) if src_bits else b"",
            pack_u32(15, route.table),
            pack_u32(6, route.metric) if route.metric else b"",
            pack(7, nl.encode_ip(route.prefsrc)) if route.prefsrc is not None else b"",
            nest(8, metrics) if metrics else b"",
            pack_u32(11, route.realm) if route.realm else b"",
            pack_u8(20, route.pref) if route.pref else b"",
            pack_u32(23, route.expires) if route.expires is not None else b"",
            ways,
        )
    )


def _put_route(step: steps.PutRoute, index_of: IndexOf) -> tuple[Request, ...]:
    return (Request(_NEWROUTE, _CREATE | _REPLACE, _route(step.route, index_of)),)


def _add_route(step: steps.AddRoute, index_of: IndexOf) -> tuple[Request, ...]:
    flags = _CREATE | _APPEND if step.route.family == 4 else _CREATE
    return (Request(_NEWROUTE, flags, _route(step.route, index_of)),)


def _delete_route(step: steps.DeleteRoute, index_of: IndexOf) -> tuple[Request, ...]:
    return (Request(_DELROUTE, 0, _route(step.route, index_of), _ABSENT),)


def _neighbour(neighbour: Neighbour, index_of: IndexOf) -> bytes:
    extended = neighbour.flags >> 8
    header = struct.pack(
        "=B3xiHBB", _AF[neighbour.family], index_of(neighbour.link), neighbour.state, neighbour.flags & 0xFF, 0
    )
    body = header + pack(1, nl.encode_ip(neighbour.ip))
    body += pack(2, nl.encode_mac(neighbour.mac)) if neighbour.mac is not None else b""
    body += pack_u32(15, extended) if extended else b""
    return body + (pack_u8(12, neighbour.protocol) if neighbour.protocol else b"")


def _put_neighbour(step: steps.PutNeighbour, index_of: IndexOf) -> tuple[Request, ...]:
    return (Request(_NEWNEIGH, _CREATE | _REPLACE, _neighbour(step.neighbour, index_of)),)


def _delete_neighbour(step: steps.DeleteNeighbour, index_of: IndexOf) -> tuple[Request, ...]:
    one = step.neighbour
    header = struct.pack("=B3xiHBB", _AF[one.family], index_of(one.link), 0, one.flags & _PROXY, 0)
    return (Request(_DELNEIGH, 0, header + pack(1, nl.encode_ip(one.ip)), _ABSENT),)


def _rule(rule: Rule) -> bytes:
    dst_bits, dst = _split(rule.dst)
    src_bits, src = _split(rule.src)
    numbers = {word: number for number, word in ACTIONS.items()}
    action = numbers[rule.action] if rule.action in numbers else int(rule.action)
    table = rule.table if rule.table < 256 else 252
    flags = INVERT if rule.invert else 0
    header = RULE.pack(_AF[rule.family], dst_bits, src_bits, rule.tos, table, 0, 0, action, flags)
    return header + b"".join(
        (
            pack(1, dst) if dst else b"",
            pack(2, src) if src else b"",
            pack(3, nl.encode_name(rule.iif)) if rule.iif is not None else b"",
            pack(17, nl.encode_name(rule.oif)) if rule.oif is not None else b"",
            pack_u32(6, rule.priority),
            pack_u32(15, rule.table) if rule.table else b"",
            pack_u32(10, rule.fwmark) if rule.fwmark is not None else b"",
            pack_u32(16, rule.fwmask) if rule.fwmask is not None else b"",
            pack_u8(21, rule.protocol) if rule.protocol else b"",
            *(pack(number, bytes.fromhex(value)) for number, value in rule.rest),
        )
    )


def _add_rule(step: steps.AddRule, index_of: IndexOf) -> tuple[Request, ...]:
    return (Request(_NEWRULE, _CREATE | _EXCL, _rule(step.rule), (errno.EEXIST,)),)


def _delete_rule(step: steps.DeleteRule, index_of: IndexOf) -> tuple[Request, ...]:
    return (Request(_DELRULE, 0, _rule(step.rule), _ABSENT),)


_ENCODERS: Final[dict[type, Callable[[Any, IndexOf], tuple[Request, ...]]]] = {
    steps.AddLink: _add_link,
    steps.DeleteLink: _delete_link,
    steps.SetUp: _set_up,
    steps.SetMaster: _set_master,
    steps.SetMtu: _set_mtu,
    steps.SetMac: _set_mac,
    steps.SetAlias: _set_alias,
    steps.SetAddressGeneration: _set_address_generation,
    steps.RenameLink: _rename,
    steps.SetPort: _set_port,
    steps.PutAddress: _put_address,
    steps.DeleteAddress: _delete_address,
    steps.PutRoute: _put_route,
    steps.AddRoute: _add_route,
    steps.DeleteRoute: _delete_route,
    steps.PutNeighbour: _put_neighbour,
    steps.DeleteNeighbour: _delete_neighbour,
    steps.AddRule: _add_rule,
    steps.DeleteRule: _delete_rule,
}


def encode_step(step: Step, index_of: IndexOf) -> tuple[Request, ...]:
    """The requests of one of KERNEL_STEPS. Raises OSError for what cannot be said, and what `index_of` raises."""
    return _ENCODERS[type(step)](step, index_of)
