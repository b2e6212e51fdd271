"""RTM_NEWROUTE and RTM_NEWRULE: routes and policy routing rules. Pure.

Links go by the names that are given; a route by a link without one, because the link has gone meanwhile, is left out.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Final

from tapbridge.linux import uapi
from tapbridge.linux.attributes import (
    U16,
    Malformed,
    careful,
    decode_ip,
    decode_name,
    decode_u8,
    decode_u32,
    encode_ip,
    walk,
)
from tapbridge.linux.decode_addresses import FAMILIES
from tapbridge.model.state import PROTO_KERNEL, TABLE_LOCAL, Nexthop, Route, Rule
from tapbridge.model.values import Family, IfName

ROUTE: Final = struct.Struct("=8BI")  # struct rtmsg: family, dst, src, tos, table, protocol, scope, type, flags
HOP: Final = struct.Struct("=HBBi")  # struct rtnexthop: size, flags, hops, index
RULE: Final = struct.Struct("=8BI")  # struct fib_rule_hdr: family, dst, src, tos, table, -, -, action, flags
TYPES: Final = (  # RTN_*
    "unspec",
    "unicast",
    "local",
    "broadcast",
    "anycast",
    "multicast",
    "blackhole",
    "unreachable",
    "prohibit",
    "throw",
    "nat",
    "xresolve",
)
ACTIONS: Final = {1: "lookup", 2: "goto", 3: "nop", 6: "blackhole", 7: "unreachable", 8: "prohibit"}  # FR_ACT_*
_ENCAPS: Final = ("none", "mpls", "ip", "ila", "ip6", "seg6", "bpf", "seg6local", "rpl", "ioam6", "xfrm")
_USER_HZ: Final = 100
_EXPIRES: Final = struct.Struct("=8xi20x")  # struct rta_cacheinfo
_NO_PREFIX: Final = b"\xff\xff\xff\xff"  # FRA_SUPPRESS_PREFIXLEN of a rule without one
_SELECTORS: Final = {
    uapi.FRA_DST, uapi.FRA_SRC, uapi.FRA_IIFNAME, uapi.FRA_OIFNAME, uapi.FRA_PRIORITY, uapi.FRA_TABLE,
    uapi.FRA_FWMARK, uapi.FRA_FWMASK, uapi.FRA_PROTOCOL, uapi.FRA_PAD,
}  # fmt: skip
_Attributes = dict[int, bytes]


class _Gone(LookupError):
    """A route by a link that has gone."""


def is_derived(route: Route) -> bool:
    """Whether the kernel makes the route by itself from addresses and links, and takes it away with them."""
    if route.protocol != PROTO_KERNEL:
        return False
    multicast = route.dst == "ff00::/8" and route.table == TABLE_LOCAL
    return multicast or route.type in ("local", "broadcast", "anycast", "multicast")


@careful
def decode_routes(bodies: Iterable[bytes], names: Mapping[int, IfName]) -> tuple[Route, ...]:
    """The routes of a dump in its order, less the derived and the cached. Raises Malformed."""
    routes = []
    for body in bodies:
        number, *_, flags = ROUTE.unpack_from(body)
        if number in FAMILIES and not flags & uapi.RTM_F_CLONED:
            with suppress(_Gone):
                routes.append(_route(body, FAMILIES[number], names))
    return tuple(route for route in routes if not is_derived(route))


def decode_routes_to(bodies: Iterable[bytes], dst: str, names: Mapping[int, IfName]) -> tuple[Route, ...]:
    """Those of a dump of one family that lead to `network/prefix`; of a full table the rest is not decoded."""
    network, _, bits = dst.partition("/")
    wanted = encode_ip(network) if bits != "0" else b""
    near = [body for body in bodies if body[1:2] == bytes((int(bits),)) and wanted in body]
    return tuple(route for route in decode_routes(near, names) if route.dst == dst)


def _route(body: bytes, family: Family, names: Mapping[int, IfName]) -> Route:
    _, dst_bits, src_bits, tos, table, protocol, scope, kind, flags = ROUTE.unpack_from(body)
    found = walk(body, ROUTE.size)
    nowhere = "0.0.0.0" if family == 4 else "::"
    return Route(
        family=family,
        dst=f"{_ip(found, uapi.RTA_DST) or nowhere}/{dst_bits}",
        table=decode_u32(found.get(uapi.RTA_TABLE), table),
        type=TYPES[kind] if kind < len(TYPES) else str(kind),
        tos=tos,
        scope=scope,
        protocol=protocol,
        metric=decode_u32(found.get(uapi.RTA_PRIORITY)),
        prefsrc=_ip(found, uapi.RTA_PREFSRC),
        src=f"{_ip(found, uapi.RTA_SRC) or nowhere}/{src_bits}" if src_bits else None,
        nexthops=_hops(found, flags, names),
        metrics=_metrics(found.get(uapi.RTA_METRICS, b"")),
        pref=decode_u8(found.get(uapi.RTA_PREF)),
        expires=_expires(found.get(uapi.RTA_CACHEINFO)),
        realm=decode_u32(found.get(uapi.RTA_FLOW)),
        nexthop_object=decode_u32(found.get(uapi.RTA_NH_ID)),
    )


def _ip(found: _Attributes, number: int) -> str | None:
    return decode_ip(found[number]) if number in found else None


def _hops(found: _Attributes, flags: int, names: Mapping[int, IfName]) -> tuple[Nexthop, ...]:
    ways = found.get(uapi.RTA_MULTIPATH)
    if ways is None:
        if not found.keys() & {uapi.RTA_OIF, uapi.RTA_GATEWAY, uapi.RTA_VIA}:
            return ()
        return (_hop(found, decode_u32(found.get(uapi.RTA_OIF)), flags, 1, names),)
    hops = []
    while len(ways) >= HOP.size:
        size, flags, weight, index = HOP.unpack_from(ways)
        if not HOP.size <= size <= len(ways):
            raise Malformed(f"a nexthop of {size} bytes where {len(ways)} are left")
        hops.append(_hop(walk(ways[:size], HOP.size), index, flags, weight + 1, names))
        ways = ways[size + 3 & ~3 :]
    return tuple(hops)


def _hop(found: _Attributes, index: int, flags: int, weight: int, names: Mapping[int, IfName]) -> Nexthop:
    gateway = found.get(uapi.RTA_GATEWAY) or found.get(uapi.RTA_VIA, b"")[2:]  # struct rtvia begins with the family
    encap = U16.unpack(found[uapi.RTA_ENCAP_TYPE])[0] if uapi.RTA_ENCAP_TYPE in found else None
    link = names.get(index)
    if index and link is None:
        raise _Gone
    return Nexthop(
        link=link,
        gateway=decode_ip(gateway) if gateway else None,
        weight=weight,
        onlink=bool(flags & uapi.RTNH_F_ONLINK),
        encap=None if encap is None else _ENCAPS[encap] if encap < len(_ENCAPS) else str(encap),
    )


def _metrics(nested: bytes) -> tuple[tuple[int, int | str], ...]:
    return tuple(
        (number, decode_name(value) if number == uapi.RTAX_CC_ALGO else decode_u32(value))
        for number, value in walk(nested).items()
    )


def _expires(cache: bytes | None) -> int | None:
    ticks = _EXPIRES.unpack(cache)[0] if cache else 0
    return max(ticks // _USER_HZ, 0) if ticks else None


@careful
def decode_rules(bodies: Iterable[bytes]) -> tuple[Rule, ...]:
    """The rules of a dump in its order. Raises Malformed."""
    return tuple(_rule(body) for body in bodies if body[0] in FAMILIES)


def _rule(body: bytes) -> Rule:
    number, dst_bits, src_bits, tos, table, _, _, action, flags = RULE.unpack_from(body)
    found = walk(body, RULE.size)
    if found.get(uapi.FRA_SUPPRESS_PREFIXLEN) == _NO_PREFIX:
        del found[uapi.FRA_SUPPRESS_PREFIXLEN]
    src, dst = _ip(found, uapi.FRA_SRC), _ip(found, uapi.FRA_DST)
    return Rule(
        family=FAMILIES[number],
        priority=decode_u32(found.get(uapi.FRA_PRIORITY)),
        table=decode_u32(found.get(uapi.FRA_TABLE), table),
        action=ACTIONS.get(action, str(action)),
        src=f"{src}/{src_bits}" if src else None,
        dst=f"{dst}/{dst_bits}" if dst else None,
        iif=decode_name(found[uapi.FRA_IIFNAME]) if uapi.FRA_IIFNAME in found else None,
        oif=decode_name(found[uapi.FRA_OIFNAME]) if uapi.FRA_OIFNAME in found else None,
        fwmark=decode_u32(found[uapi.FRA_FWMARK]) if uapi.FRA_FWMARK in found else None,
        fwmask=decode_u32(found[uapi.FRA_FWMASK]) if uapi.FRA_FWMASK in found else None,
        tos=tos,
        invert=bool(flags & uapi.FIB_RULE_INVERT),
        protocol=decode_u8(found.get(uapi.FRA_PROTOCOL)),
        rest=tuple(sorted((number, value.hex()) for number, value in found.items() if number not in _SELECTORS)),
    )
