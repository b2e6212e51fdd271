"""Who is what on a bridge: the uplink, and whose tap a port is."""

from __future__ import annotations

from typing import Final

from tapbridge.core.mark import GUEST_HEADS, find_marked_uplink, read_loan_mark
from tapbridge.model.state import Link, State

_CARDS: Final = frozenset({"", "wifi", "vlan", "bond", "team"})


def find_guest_name(link: Link) -> str | None:
    """The guest that our alias on a tap names; everything behind `guest=` is the name."""
    if link.alias is None:
        return None
    head, _, guest = link.alias.partition(" guest=")
    if head in GUEST_HEADS:
        return guest or None
    mark = read_loan_mark(link)
    return mark.guest if mark is not None else None


def is_tap(link: Link) -> bool:
    """Whether the link's frames go to a process instead of a wire."""
    return link.kind in ("tap", "macvtap")


def find_uplink(state: State, bridge: str) -> Link | None:
    """The port that carries the host.

    It is the one that our mark on the bridge records, else the only port that is a card (a bond or a VLAN is one).
    A veth counts as a card only where the host is seen to live behind it, by a gateway or a leased address on the
    bridge: a bridge of containers with one container on it has one veth, too, and no uplink.
    """
    ports = tuple(port for port in state.ports(bridge) if not is_tap(port) and find_guest_name(port) is None)
    owner = state.link(bridge)
    marked = find_marked_uplink(owner, ports) if owner is not None else None
    if marked is not None:
        return marked
    cards = [port for port in ports if port.kind in _CARDS]
    if not cards and _carries_host(state, bridge):
        cards = [port for port in ports if port.kind == "veth"]
    return cards[0] if len(cards) == 1 else None


def _carries_host(state: State, bridge: str) -> bool:
    leased = any(item.valid_lft is not None and not item.temporary for item in state.addresses_of(bridge))
    return leased or any(hop.gateway and hop.link == bridge for route in state.routes for hop in route.nexthops)
