"""State → Graph: links, bridges and guests as nodes, and what is connected to what as edges. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tapbridge.core.topology import find_guest_name, find_uplink, is_tap
from tapbridge.core.vlans import find_pvid
from tapbridge.draw.style import Role
from tapbridge.draw.text import short_size, short_time
from tapbridge.model.guest import Guest, GuestNic, Sighting
from tapbridge.model.noun import dataclass
from tapbridge.model.state import DADFAILED, DEPRECATED, TENTATIVE, Address, Link, State
from tapbridge.model.values import IfName, is_link_local

_STACKED = frozenset({"vlan", "macvlan", "macvtap", "ipvlan", "ipvtap"})  # of a veth IFLA_LINK is its other end
_PORT_STATES = {0: "disabled", 1: "listening", 2: "learning", 4: "blocking"}  # BR_STATE_*


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A link or a guest. `facts` stand behind its name, `notes` (its addresses) below it."""

    key: str
    name: str
    role: Role
    up: bool = True
    facts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """What hangs on what, by key. `facts` and `notes` are of the connection: a guest's MAC and addresses on one tap."""

    above: str
    below: str
    facts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """Nodes and edges in the order in which they are drawn: bridges first; of a bridge its uplink, its guests' taps,
    its other ports."""

    nodes: tuple[Node, ...] = ()
    edges: tuple[Edge, ...] = ()


def make_graph(state: State, guests: Iterable[Guest] = ()) -> Graph:
    """The graph of a host. Without `guests`, those are drawn whose names are on their taps."""
    uplinks = {link.name: find_uplink(state, link.name) for link in state.links if link.kind == "bridge"}
    carriers = {uplink.name for uplink in uplinks.values() if uplink is not None}
    tenants = _tenants(state, guests)
    addresses: dict[IfName, list[Address]] = {}
    for item in state.addresses:
        addresses.setdefault(item.link, []).append(item)
    nodes: dict[str, Node] = {}
    edges: list[Edge] = []
    for link in sorted(state.links, key=lambda x: _order(x, carriers, tenants)):
        if link.kind == "loopback":
            continue
        nodes[link.name] = _link_node(
            link, addresses.get(link.name, ()), uplink=link.name in carriers, held=link.name in tenants
        )
        above = link.master if link.master is not None else link.parent if link.kind in _STACKED else None
        if above is not None:
            edges.append(Edge(above=above, below=link.name))
        for guest, nic in tenants.get(link.name, ()):
            key = f"guest {guest.pid or link.name}"
            nodes[key] = _guest_node(key, guest)
            edges.append(Edge(above=link.name, below=key, facts=_nic_facts(nic), notes=_sightings(nic)))
    return Graph(nodes=tuple(nodes.values()), edges=tuple(edges))


def _tenants(state: State, guests: Iterable[Guest]) -> dict[IfName, list[tuple[Guest, GuestNic]]]:
    tenants: dict[IfName, list[tuple[Guest, GuestNic]]] = {}
    for guest in guests:
        for nic in guest.nics:
            if guest.name is not None:
                tenants.setdefault(nic.link, []).append((guest, nic))
    for link in state.links:
        name = find_guest_name(link)
        if name is not None and link.name not in tenants:
            tenants[link.name] = [(Guest(name=name), GuestNic(link=link.name))]
    return tenants


def _order(
    link: Link, carriers: set[IfName], tenants: dict[IfName, list[tuple[Guest, GuestNic]]]
) -> tuple[object, ...]:
    guest = tenants[link.name][0][0].name if link.name in tenants else None
    rank = 0 if link.kind == "bridge" else 1 if link.name in carriers else 2 if guest else 3 if is_tap(link) else 4
    return rank, natural(guest or ""), natural(link.name)


def natural(name: str) -> tuple[tuple[int, str], ...]:
    """A key by which tap2 stands before tap10."""
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]{1,18})", name))


def _link_node(link: Link, addresses: Iterable[Address], *, uplink: bool, held: bool) -> Node:
    role = Role.BRIDGE if link.kind == "bridge" else Role.UPLINK if uplink else Role.LINK
    facts = ["uplink" if uplink else link.kind or "NIC", _condition(link, held)]
    if link.bridge is not None and link.bridge.stp:
        facts.append("STP on")
    facts += _vlans(link)
    if link.port is not None and link.up and link.port.state in _PORT_STATES:
        facts.append(_PORT_STATES[link.port.state])
    if link.master is not None and link.parent is not None and link.kind in _STACKED:
        facts.append(f"on {link.parent}")
    if link.mac is not None and link.master is None and not is_tap(link):
        facts.append(link.mac)
    hides = link.master is not None or is_tap(link)  # every port has a link-local address, and nobody uses it
    notes = [_address(item) for item in addresses if not (hides and is_link_local(item.family, item.ip))]
    return Node(
        key=link.name, name=link.name, role=role, up=link.up and link.carrier, facts=tuple(facts), notes=tuple(notes)
    )


def _vlans(link: Link) -> list[str]:
    """In which VLAN a port is, and in which others with their tags; that a bridge tells them apart."""
    if link.bridge is not None:
        return ["VLAN-aware"] if link.bridge.vlan_filtering else []
    pvid = find_pvid(link)
    told = [str(x.first) if x.first == x.last else f"{x.first}-{x.last}" for x in link.vlans if not x.pvid]
    return [f"VLAN {pvid}"] * (pvid is not None) + [f"with tags VLAN {' '.join(told)}"] * bool(told)


def _condition(link: Link, held: bool) -> str:
    if not link.up:
        return "down"
    if link.carrier:
        return "up"
    return "up, no process" if link.kind == "tap" and not held else "up, no carrier"


def _address(item: Address) -> str:
    words = [f"{item.ip}/{item.prefix}" if item.peer is None else f"{item.ip} peer {item.peer}/{item.prefix}"]
    if item.valid_lft is not None:
        words.append(f"{short_time(item.valid_lft)} left")
    marks = ((item.temporary, "temporary"), (item.secondary, "secondary"))
    words += [mark for there, mark in marks if there]
    flags = ((TENTATIVE, "tentative"), (DADFAILED, "duplicate"), (DEPRECATED, "deprecated"))
    words += [mark for flag, mark in flags if item.flags & flag]
    return ", ".join(words)


def _guest_node(key: str, guest: Guest) -> Node:
    program = guest.program if guest.hypervisor == "other" else guest.hypervisor
    facts = (program, f"PID {guest.pid}" if guest.pid is not None else None)
    return Node(key=key, name=guest.name or "", role=Role.GUEST, facts=tuple(fact for fact in facts if fact))


def _nic_facts(nic: GuestNic) -> tuple[str, ...]:
    rate = f"rate {short_size(nic.rate)}" if nic.rate is not None else None
    guard = f"guard {nic.guard}" if nic.guard is not None else None
    return tuple(fact for fact in (nic.mac, rate, guard) if fact is not None)


def _sightings(nic: GuestNic) -> tuple[str, ...]:
    return tuple(f"{item.ip}, {evidence(item)}" for item in nic.addresses)


def evidence(item: Sighting) -> str:
    """Where an address is known from, and how fresh that is."""
    words = [item.source if item.hostname is None else f"{item.source} of {item.hostname}"]
    if item.age is not None:
        words.append(f"{short_time(item.age)} ago")
    if item.valid_lft is not None:
        words.append(f"{short_time(item.valid_lft)} left")
    return ", ".join(words)
