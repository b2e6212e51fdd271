"""Who is what on a bridge: the uplink, the guests' ports, and the marks that we leave in a link's alias."""

from __future__ import annotations

from tapbridge.model.state import Link, State

_CARDS = frozenset({"", "wifi", "vlan", "bond", "team"})


def find_mark(link: Link, key: str) -> str | None:
    """What our alias on a link says of `key`: `tapbridge uplink=MAC` on a bridge, `tapbridge guest=NAME` on a tap.

    `guest=` stands last and takes the rest of the alias, since a guest's name may have blanks in it.
    """
    if link.alias is None or not link.ours:
        return None
    head, found, name = link.alias.partition(" guest=")
    if key == "guest":
        return name if found and name else None
    values = (word.partition("=")[2] for word in head.split(" ")[1:] if word.startswith(f"{key}="))
    return next((value for value in values if value), None)


def is_tap(link: Link) -> bool:
    """Whether frames of the link go to a process: a tap or a macvtap."""
    return link.kind in ("tap", "macvtap") or link.tap is not None and link.kind != "tun"


def find_uplink(state: State, bridge: str) -> Link | None:
    """The port that carries the host.

    It is the one whose MAC the bridge's alias records, else the only port that is a card (a bond or VLAN is one).
    A veth is a card only where the host is seen to live behind it, by a gateway or a leased address on the bridge:
    a container's bridge with one container on it has one veth, too, and no uplink.
    """
    ports = [port for port in state.ports(bridge) if not is_tap(port) and find_mark(port, "guest") is None]
    owner = state.link(bridge)
    recorded = find_mark(owner, "uplink") if owner is not None else None
    if recorded is not None:
        marked = [port for port in ports if recorded in (port.permanent_mac, port.mac)]
        if marked:
            return max(marked, key=lambda port: port.permanent_mac == recorded)
    cards = [port for port in ports if port.kind in _CARDS]
    if not cards and _carries_host(state, bridge):
        cards = [port for port in ports if port.kind == "veth"]
    return cards[0] if len(cards) == 1 else None


def guest_ports(state: State, bridge: str) -> tuple[Link, ...]:
    """The ports of a bridge behind which a guest is, or was: its taps, and what we marked for a guest."""
    return tuple(port for port in state.ports(bridge) if is_tap(port) or find_mark(port, "guest") is not None)


def _carries_host(state: State, bridge: str) -> bool:
    leased = any(address.valid_lft is not None and not address.temporary for address in state.addresses_of(bridge))
    return leased or any(hop.gateway and hop.link == bridge for route in state.routes for hop in route.nexthops)
