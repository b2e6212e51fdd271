"""What the kernel does when an address comes or goes: its order, its connected route, what it takes with it.

IPv4: net/ipv4/devinet.c and fib_frontend.c; IPv6: net/ipv6/addrconf.c.
"""

from __future__ import annotations

from tapbridge.core.routing import append_route, drop_link, same_route
from tapbridge.model.noun import replace
from tapbridge.model.state import (
    MANAGETEMPADDR,
    NODAD,
    NOPREFIXROUTE,
    PERMANENT,
    PROTO_KERNEL,
    SCOPE_GLOBAL,
    SCOPE_LINK,
    SECONDARY,
    TABLE_MAIN,
    Address,
    Nexthop,
    Route,
    State,
)
from tapbridge.model.values import network

V6_METRIC = 256  # IP6_RT_PRIO_ADDRCONF
_V6_CHANGEABLE = NODAD | PERMANENT | NOPREFIXROUTE | MANAGETEMPADDR


def subnet(address: Address) -> str:
    """The subnet that an address puts on its link, as `network/prefix`."""
    return network(address.family, address.peer or address.ip, address.prefix)


def connected_route(address: Address) -> Route | None:
    """The route that the kernel makes for an address; None where it makes none."""
    if address.flags & NOPREFIXROUTE or address.secondary:
        return None
    if address.family == 4:
        if address.prefix == 32 and address.peer is None:
            return None
        scope = SCOPE_LINK if address.scope < SCOPE_LINK else address.scope
        metric, prefsrc, expires = address.metric, address.ip, None
    else:
        scope, prefsrc, expires = SCOPE_GLOBAL, None, address.valid_lft
        metric = address.metric or V6_METRIC
    return Route(
        family=address.family,
        dst=subnet(address),
        table=TABLE_MAIN,
        scope=scope,
        protocol=PROTO_KERNEL,
        metric=metric,
        prefsrc=prefsrc,
        expires=expires,
        nexthops=(Nexthop(link=address.link),),
    )


def put_address(state: State, address: Address, *, dad: bool) -> State:
    """RTM_NEWADDR with NLM_F_CREATE | NLM_F_REPLACE."""
    flags = address.flags & ~PERMANENT | (PERMANENT if address.valid_lft is None else 0)
    if address.family == 6 and not dad:
        flags |= NODAD
    address = replace(address, flags=flags)
    old = _find(state, address)
    return _insert(state, address) if old is None else _change(state, old, address)


def delete_address(state: State, address: Address) -> State:
    """RTM_DELADDR; nothing where the address is not there."""
    old = _find(state, address)
    if old is None:
        return state
    state = replace(state, addresses=tuple(a for a in state.addresses if a is not old))
    return _after_delete_v4(state, old) if old.family == 4 else _after_delete_v6(state, old)


def _find(state: State, address: Address) -> Address | None:
    for other in state.addresses:
        if (other.link, other.family, other.ip) == (address.link, address.family, address.ip) and (
            other.family == 6 or (other.prefix, other.peer) == (address.prefix, address.peer)
        ):
            return other
    return None


def _insert(state: State, address: Address) -> State:
    of_link = list(state.addresses_of(address.link, address.family))
    if address.family == 4:
        behind = any(not a.secondary and a.prefix == address.prefix and subnet(a) == subnet(address) for a in of_link)
        flags = address.flags & ~SECONDARY | (SECONDARY if behind else 0)
        address = replace(address, flags=flags, label=address.label or address.link)
        place = len(of_link) if behind else _primary_place(of_link, address)
    else:
        place = 0
    of_link.insert(place, address)
    others = tuple(a for a in state.addresses if (a.link, a.family) != (address.link, address.family))
    state = replace(state, addresses=others + tuple(of_link)).sorted()
    return _connect(state, address)


def _primary_place(of_link: list[Address], address: Address) -> int:
    """__inet_insert_ifa(): behind the last primary whose scope is not narrower."""
    place = 0
    for index, other in enumerate(of_link):
        if not other.secondary and address.scope <= other.scope:
            place = index + 1
    return place


def _connect(state: State, address: Address) -> State:
    link = state.link(address.link)
    route = connected_route(address)
    if route is None or link is None or not link.up:
        return state
    for other in state.routes:
        if other.family == 6 and other.slot == route.slot and other.nexthops == route.nexthops:
            return state if other.expires is None else _put_instead(state, other, replace(other, expires=route.expires))
    return append_route(state, route)


def _change(state: State, old: Address, new: Address) -> State:
    if old.family == 4:
        flags, metric = old.flags & ~PERMANENT | new.flags & PERMANENT, new.metric
    else:
        flags, metric = old.flags & ~_V6_CHANGEABLE | new.flags & _V6_CHANGEABLE, new.metric or old.metric
    changed = replace(
        old, flags=flags, metric=metric, valid_lft=new.valid_lft, preferred_lft=new.preferred_lft, proto=new.proto
    )
    state = replace(state, addresses=tuple(changed if a is old else a for a in state.addresses))
    if old.family == 6:
        return _reconnect_v6(state, old, changed)
    return state if metric == old.metric else _reconnect_v4(state, old, changed)


def _reconnect_v4(state: State, old: Address, new: Address) -> State:
    """fib_modify_prefix_metric()."""
    before, after = connected_route(old), connected_route(new)
    if after is not None:
        state = _connect(state, new)
    if before is not None and (after is None or before.slot != after.slot):
        state = _without(state, before)
    return state


def _reconnect_v6(state: State, old: Address, new: Address) -> State:
    """inet6_addr_modify()."""
    wanted = connected_route(new)
    if wanted is None:
        return _disconnect_v6(state, old)
    found = _prefix_route(state, new)
    if found is None or not old.flags & PERMANENT or old.flags & NOPREFIXROUTE:
        return _connect(state, new)
    if found.metric == wanted.metric:
        return _put_instead(state, found, replace(found, expires=wanted.expires))
    return _connect(_put_instead(state, found), new)


def _disconnect_v6(state: State, gone: Address) -> State:
    """check_cleanup_prefix_route(): the route goes with the last address, or ends with the last that ends."""
    same = [a for a in state.addresses_of(gone.link, 6) if a.ip != gone.ip and subnet(a) == subnet(gone)]
    found = _prefix_route(state, gone)
    if gone.flags & NOPREFIXROUTE or not gone.flags & PERMANENT or found is None:
        return state
    if any(a.flags & (PERMANENT | NOPREFIXROUTE) for a in same):
        return state
    if not same:
        return _put_instead(state, found)
    rest = max((a.valid_lft for a in same if a.valid_lft is not None), default=None)
    return _put_instead(state, found, replace(found, expires=rest)) if found.expires is None else state


def _prefix_route(state: State, address: Address) -> Route | None:
    """addrconf_get_prefix_route(): the first that leads to the subnet without a gateway, whoever put it there."""
    ways = (Nexthop(link=address.link),)
    for route in state.routes:
        if (route.family, route.table, route.dst) == (6, TABLE_MAIN, subnet(address)) and route.nexthops == ways:
            return route
    return None


def _put_instead(state: State, route: Route, other: Route | None = None) -> State:
    place = state.routes.index(route)
    put = () if other is None else (other,)
    return replace(state, routes=state.routes[:place] + put + state.routes[place + 1 :])


def _unconnect_v4(state: State, gone: Address) -> State:
    """fib_del_ifaddr(): whatever metric the route has by now."""
    route = connected_route(gone)
    return _without(state, replace(route, metric=0)) if route else state


def _without(state: State, route: Route) -> State:
    """fib_magic(RTM_DELROUTE): the first that is the connected one of that address; no metric means any."""
    for other in state.routes:
        if route.metric in (0, other.metric) and same_route(other, replace(route, metric=other.metric)):
            return _put_instead(state, other)
    return state


def _after_delete_v4(state: State, gone: Address) -> State:
    left = state.addresses_of(gone.link, 4)
    same = [a for a in left if a.prefix == gone.prefix and subnet(a) == subnet(gone)]
    if not gone.secondary and same:
        state = _promote(state, gone, same)
    elif not gone.secondary:
        state = _unconnect_v4(state, gone)
    left = state.addresses_of(gone.link, 4)
    if not left:  # fib_disable_ip(), arp_ifdown()
        state = drop_link(state, gone.link, family=4)
        neighbours = tuple(n for n in state.neighbours if (n.link, n.family) != (gone.link, 4))
        state = replace(state, neighbours=neighbours)
    ended = {gone.ip, *(a.ip for a in same)} - {a.ip for a in state.addresses}  # fib_sync_down_addr()
    routes = tuple(r for r in state.routes if r.family == 6 or r.prefsrc not in ended or r.table != TABLE_MAIN)
    return replace(state, routes=routes)


def _promote(state: State, gone: Address, same: list[Address]) -> State:
    """A primary goes: its secondaries go with it, or the first of them takes its place (promote_secondaries)."""
    on_link = state.sysctl(gone.link, "ipv4", "promote_secondaries") or state.sysctl(
        "all", "ipv4", "promote_secondaries"
    )
    if not on_link:
        state = replace(state, addresses=tuple(a for a in state.addresses if a not in same))
        return _unconnect_v4(state, gone)
    first = replace(same[0], flags=same[0].flags & ~SECONDARY)
    state = replace(state, addresses=tuple(first if a is same[0] else a for a in state.addresses))
    return _connect(_unconnect_v4(state, gone), first)


def _after_delete_v6(state: State, gone: Address) -> State:
    state = _disconnect_v6(state, gone)
    routes = tuple(
        replace(r, prefsrc=None) if r.family == 6 and r.prefsrc == gone.ip and r.uses(gone.link) else r
        for r in state.routes
    )
    return replace(state, routes=routes)
