"""RTM_NEWROUTE and RTM_NEWRULE: routes and policy routing rules. Pure.

Numbers are those of include/uapi/linux/rtnetlink.h and fib_rules.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Final

from tapbridge.linux.attributes import U16, U32, Malformed, careful, decode_ip, decode_name, walk, walk_each
from tapbridge.linux.decode_addresses import FAMILIES, named
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
ONLINK: Final = 0x04  # RTNH_F_ONLINK
INVERT: Final = 0x02  # FIB_RULE_INVERT
CONGESTION: Final = 16  # RTAX_CC_ALGO, the one metric that is a word
_CLONED: Final = 0x200  # RTM_F_CLONED
_ENCAPS: Final = ("none", "mpls", "ip", "ila", "ip6", "seg6", "bpf", "seg6local", "rpl", "ioam6", "xfrm")
_HZ: Final = 100  # USER_HZ, of rta_cacheinfo.rta_expires
_EXPIRES: Final = struct.Struct("=8xi")
_NONE: Final = b"\xff\xff\xff\xff"  # FRA_SUPPRESS_PREFIXLEN of a rule without one
_Attributes = dict[int, bytes]


def is_derived(route: Route) -> bool:
    """Whether the kernel makes the route by itself from addresses and links, and takes it away with them."""
    if route.protocol != PROTO_KERNEL:
        return False
    multicast = route.dst == "ff00::/8" and route.table == TABLE_LOCAL
    return multicast or route.type in ("local", "broadcast", "anycast", "multicast")


@careful
def decode_routes(bodies: Iterable[bytes], names: Mapping[int, IfName]) -> tuple[Route, ...]:
    """The routes of a dump in its order, less the derived and the cached. Raises Malformed, UnknownLink."""
    routes = []
    for body in bodies:
        number, *_, flags = ROUTE.unpack_from(body)
        if number in FAMILIES and not flags & _CLONED:
            route = _route(body, FAMILIES[number], names)
            if not is_derived(route):
                routes.append(route)
    return tuple(routes)


def _route(body: bytes, family: Family, names: Mapping[int, IfName]) -> Route:
    _, dst_bits, src_bits, tos, table, protocol, scope, kind, flags = ROUTE.unpack_from(body)
    found = walk(body, ROUTE.size)
    nowhere = "0.0.0.0" if family == 4 else "::"
    source = decode_ip(found[2]) if 2 in found else nowhere
    return Route(
        family=family,
        dst=f"{decode_ip(found[1]) if 1 in found else nowhere}/{dst_bits}",
        table=U32.unpack(found[15])[0] if 15 in found else table,
        type=TYPES[kind] if kind < len(TYPES) else str(kind),
        tos=tos,
        scope=scope,
        protocol=protocol,
        metric=U32.unpack(found[6])[0] if 6 in found else 0,
        prefsrc=decode_ip(found[7]) if 7 in found else None,
        src=f"{source}/{src_bits}" if src_bits else None,
        nexthops=_hops(found, flags, names),
        metrics=_metrics(found.get(8, b"")),
        pref=found[20][0] if 20 in found else 0,
        expires=_expires(found.get(12)),
        realm=U32.unpack(found[11])[0] if 11 in found else 0,
        nexthop_object=U32.unpack(found[30])[0] if 30 in found else 0,
    )


def _hops(found: _Attributes, flags: int, names: Mapping[int, IfName]) -> tuple[Nexthop, ...]:
    ways = found.get(9)  # RTA_MULTIPATH
    if ways is None:
        if 4 not in found and 5 not in found and 18 not in found:
            return ()
        return (_hop(found, U32.unpack(found[4])[0] if 4 in found else 0, flags, 1, names),)
    hops = []
    while len(ways) >= HOP.size:
        size, flags, weight, index = HOP.unpack_from(ways)
        if not HOP.size <= size <= len(ways):
            raise Malformed(f"a nexthop of {size} bytes where {len(ways)} are left")
        hops.append(_hop(walk(ways[:size], HOP.size), index, flags, weight + 1, names))
        ways = ways[size + 3 & ~3 :]
    return tuple(hops)


def _hop(found: _Attributes, index: int, flags: int, weight: int, names: Mapping[int, IfName]) -> Nexthop:
    gateway = found.get(5) or found.get(18, b"")[2:]  # RTA_GATEWAY, or RTA_VIA behind its family
    encap = U16.unpack(found[21])[0] if 21 in found else None
    return Nexthop(
        link=named(names, index) if index else None,
        gateway=decode_ip(gateway) if gateway else None,
        weight=weight,
        onlink=bool(flags & ONLINK),
        encap=None if encap is None else _ENCAPS[encap] if encap < len(_ENCAPS) else str(encap),
    )


def _metrics(nested: bytes) -> tuple[tuple[int, int | str], ...]:
    return tuple(
        (number, str(decode_name(value)) if number == CONGESTION else U32.unpack(value)[0])
        for number, value in walk_each(nested)
    )


def _expires(cache: bytes | None) -> int | None:
    ticks = _EXPIRES.unpack_from(cache)[0] if cache else 0
    return max(ticks // _HZ, 1) if ticks > 0 else None


@careful
def decode_rules(bodies: Iterable[bytes]) -> tuple[Rule, ...]:
    """The rules of a dump in its order. Raises Malformed."""
    return tuple(_rule(body) for body in bodies if body[0] in FAMILIES)


def _rule(body: bytes) -> Rule:
    number, dst_bits, src_bits, tos, table, _, _, action, flags = RULE.unpack_from(body)
    found = walk(body, RULE.size)
    if found.get(14) == _NONE:
        del found[14]
    known = {1, 2, 3, 6, 10, 15, 16, 17, 18, 21}
    return Rule(
        family=FAMILIES[number],
        priority=U32.unpack(found[6])[0] if 6 in found else 0,
        table=U32.unpack(found[15])[0] if 15 in found else table,
        action=ACTIONS.get(action, str(action)),
        src=f"{decode_ip(found[2])}/{src_bits}" if 2 in found else None,
        dst=f"{decode_ip(found[1])}/{dst_bits}" if 1 in found else None,
        iif=decode_name(found[3]) if 3 in found else None,
        oif=decode_name(found[17]) if 17 in found else None,
        fwmark=U32.unpack(found[10])[0] if 10 in found else None,
        fwmask=U32.unpack(found[16])[0] if 16 in found else None,
        tos=tos,
        invert=bool(flags & INVERT),
        protocol=found[21][0] if 21 in found else 0,
        rest=tuple(sorted((number, value.hex()) for number, value in found.items() if number not in known)),
    )
