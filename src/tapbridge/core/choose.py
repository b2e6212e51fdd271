"""Which NIC is meant when none is named."""

from __future__ import annotations

from tapbridge.core.mark import find_marked_uplink, read_mark
from tapbridge.core.refuse import find_link
from tapbridge.model.errors import Refused
from tapbridge.model.state import TABLE_MAIN, Link, Route, State
from tapbridge.model.values import IfName

_NAME_IT = "name the NIC: tapbridge up NIC"


def find_nic(state: State, name: str | None) -> Link:
    """The NIC that is meant by a name, or by none.

    Where a bridge of ours has taken the NIC's name or its default route, its uplink is meant: a second `up` then finds
    that there is nothing to do. Raises Refused.
    """
    link = find_link(state, choose_nic(state) if name is None else name)
    mark = read_mark(link)
    uplink = find_marked_uplink(link, state.ports(link.name))
    if mark is None or uplink is None or (name is not None and mark.nic != link.name):
        return link
    return uplink


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
