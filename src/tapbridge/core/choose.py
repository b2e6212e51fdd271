"""Which NIC is meant when none is named."""

from __future__ import annotations

from tapbridge.model.errors import Refused
from tapbridge.model.state import TABLE_MAIN, Route, State
from tapbridge.model.values import IfName

_NAME_IT = "name the NIC: tapbridge up NIC"


def choose_nic(state: State) -> IfName:
    """The link of the main table's best default route, IPv4 before IPv6. Raises Refused; there is no next candidate."""
    route = _best(state, 4) or _best(state, 6)
    if route is None:
        raise Refused("this host has no default route, so no NIC stands out", hint=_NAME_IT, code="no-default-route")
    links = {hop.link for hop in route.nexthops if hop.link is not None}
    if len(links) != 1:
        raise Refused(
            f"the default route leads through several links: {', '.join(sorted(links)) or 'none'}",
            hint=_NAME_IT,
            code="multipath-default",
        )
    return links.pop()


def _best(state: State, family: int) -> Route | None:
    everywhere = "0.0.0.0/0" if family == 4 else "::/0"
    routes = [r for r in state.routes if (r.family, r.table, r.dst) == (family, TABLE_MAIN, everywhere) and r.nexthops]
    return min(routes, key=lambda r: r.metric, default=None)
