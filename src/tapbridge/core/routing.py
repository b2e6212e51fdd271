"""What the kernel does when a route comes or goes: net/ipv4/fib_trie.c and net/ipv6/ip6_fib.c.

Routes of one slot (destination, TOS, metric, table) stand behind one another; the first is used.
"""

from __future__ import annotations

from tapbridge.model.noun import replace
from tapbridge.model.state import Route, State
from tapbridge.model.values import Family


def put_route(state: State, route: Route) -> State:
    """NLM_F_CREATE | NLM_F_REPLACE: the first of the slot gives its place to the new one."""
    routes = list(state.routes)
    if _present(state, route):
        return state
    for index, other in enumerate(routes):
        if other.slot == route.slot:
            routes[index] = route
            return replace(state, routes=tuple(routes))
    return replace(state, routes=(*routes, route)).sorted()


def append_route(state: State, route: Route, *, first: bool = False) -> State:
    """Behind the others of the slot, or before them; nothing where it is there."""
    if _present(state, route):
        return state
    return replace(state, routes=(route, *state.routes) if first else (*state.routes, route)).sorted()


def delete_route(state: State, route: Route) -> State:
    """Exactly this one; nothing where it is not there."""
    return replace(state, routes=tuple(r for r in state.routes if not same_route(r, route)))


def same_route(one: Route, other: Route) -> bool:
    """Whether the kernel would call them the same: all but the lifetime that remains."""
    return replace(one, expires=None) == replace(other, expires=None)


def is_first(state: State, route: Route) -> bool:
    """Whether a Put in the route's slot would replace this route and no other's."""
    for other in state.routes:
        if other.slot == route.slot:
            return same_route(other, route)
    return True


def drop_link(state: State, link: str, family: Family | None = None, *, gone: bool = False) -> State:
    """A link went down, lost its last address or (`gone`) went: its routes go.

    A route of several ways stays as long as one of them lives. When a link goes for good, one of IPv4 goes with it,
    and one of IPv6 loses that way.
    """
    kept: list[Route] = []
    for route in state.routes:
        others = tuple(hop for hop in route.nexthops if hop.link != link)
        if not route.uses(link) or family not in (None, route.family) or (others and not gone):
            kept.append(route)
        elif others and route.family == 6:
            kept.append(replace(route, nexthops=others))
    return replace(state, routes=tuple(kept))


def _present(state: State, route: Route) -> bool:
    return any(same_route(other, route) for other in state.routes)
