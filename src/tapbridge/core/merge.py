"""What a way back leads to: the state before, with what others have added since.

Three states meet here: the one before, the one that the plan would have made, and the one that is. What is on touched
links now and comes from neither of the first two was put there by somebody else, an administrator or a client, and is
kept: on its link, or, where that link is ours and goes, on the link that carried the host before. What somebody took
away is put back: nobody can tell it from what a plan that was cut off has not done yet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tapbridge.model.noun import dataclass, replace
from tapbridge.model.state import (
    COPY_PROTO,
    PROTO_KERNEL,
    PROTO_RA,
    Address,
    Link,
    Neighbour,
    Route,
    Rule,
    State,
)
from tapbridge.model.step import AddRoute, AddRule, DeleteLink, DeleteTaps, PutAddress, PutNeighbour, PutRoute, Step
from tapbridge.model.values import IfName, is_link_local

_KERNELS_OWN = (1, 2, 3)  # IFAPROT_KERNEL_LO, _RA, _LL: include/uapi/linux/if_addr.h


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """The state to go back to, and the sentences that tell what is not as before in it. `finished`: it is the one that
    the change was to lead to."""

    state: State
    told: tuple[str, ...] = ()
    finished: bool = False


def merge(before: State, after: State, steps: Sequence[Step], now: State, touched: tuple[str, ...]) -> Merged:
    """The state that a change of `touched` is taken back to.

    Where the link that carried the host before is gone (its bridge was deleted), there is no way back, and the state
    to go to is `after`.
    """
    lost = _lost_carrier(before, now, touched)
    root, other = (after, before) if lost else (before, after)
    vanished = _vanished(root, now, touched) - _deleted_taps(root, steps)
    told = tuple(f"{name} is not there any more" for name in sorted(vanished))
    if lost:
        told = ("there is no way back without the bridge, so the change was finished instead", *told)
    merged = _Merge(_without(root, vanished), other, steps, now, touched).merged(told)
    return replace(merged, finished=lost and not vanished)


def _lost_carrier(before: State, now: State, touched: tuple[str, ...]) -> bool:
    """Whether a touched bridge had the host's addresses and is gone."""
    there = {link.index for link in now.links}
    lost = [x for x in before.links if x.name in touched and x.kind == "bridge" and x.index not in there]
    return any(before.addresses_of(link.name) or before.routes_of(link.name) for link in lost)


def _vanished(root: State, now: State, touched: tuple[str, ...]) -> frozenset[IfName]:
    there = {link.index for link in now.links}
    return frozenset(x.name for x in root.links if x.name in touched and x.index not in there)


def _deleted_taps(root: State, steps: Sequence[Step]) -> frozenset[IfName]:
    """The persistent taps that the change deletes: they can be made again."""
    deleted = {name for step in steps if isinstance(step, DeleteTaps) for name in step.taps}
    deleted |= {step.link for step in steps if isinstance(step, DeleteLink)}
    return frozenset(x.name for x in root.links if x.name in deleted and x.tap is not None and x.tap.persist)


def _without(state: State, names: frozenset[IfName]) -> State:
    if not names:
        return state
    links = tuple(
        replace(x, master=None, master_kind=None, port=None, vlans=()) if x.master in names else x
        for x in state.links
        if x.name not in names
    )
    return replace(
        state,
        links=links,
        addresses=tuple(a for a in state.addresses if a.link not in names),
        routes=tuple(r for r in state.routes if not any(hop.link in names for hop in r.nexthops)),
        neighbours=tuple(n for n in state.neighbours if n.link not in names),
        sysctls=tuple(s for s in state.sysctls if s.link not in names),
        clients=tuple(c for c in state.clients if c.link not in names),
        dns=tuple(d for d in state.dns if d.link not in names),
    )


class _Merge:
    def __init__(self, root: State, other: State, steps: Sequence[Step], now: State, touched: tuple[str, ...]) -> None:
        self._root, self._now = root, now
        self._known = (root, other)
        self._steps = steps
        self._was = {link.index: link for link in root.links if link.name in touched}
        # also a touched link that somebody has renamed: it gets its name back, with what is on it
        self._names = set(touched) | {x.name for x in now.links if x.ours or x.index in self._was}
        self._carrier = _find_carrier(root, touched)

    def merged(self, told: tuple[str, ...]) -> Merged:
        addresses = tuple(self._new_addresses())
        routes = tuple(self._new_routes())
        rules = tuple(self._new_rules())
        neighbours = tuple(self._new_neighbours())
        kept = [f"{a.ip}/{a.prefix} was added meanwhile and is kept on {a.link}" for a in addresses]
        kept += [f"a route to {r.dst} was added meanwhile and is kept" for r in routes]
        state = replace(
            self._root,
            addresses=self._root.addresses + addresses,
            routes=self._root.routes + routes,
            rules=self._root.rules + rules,
            neighbours=self._root.neighbours + neighbours,
        )
        return Merged(state=state.sorted() if kept or rules or neighbours else self._root, told=(*told, *kept))

    def _home(self, name: IfName | None) -> IfName | None:
        """Where what is on this link now will be: on the link itself, its bridge, or the one that carried the host."""
        link = self._now.link(name) if name is not None else None
        was = self._was.get(link.index) if link is not None else None
        if was is None:
            return self._carrier
        return was.master if was.master is not None and was.master in self._names else was.name

    def _new_addresses(self) -> Iterator[Address]:
        known = {_key(a) for state in self._known for a in state.addresses}
        known |= {_key(step.address) for step in self._steps if isinstance(step, PutAddress)}
        for address in self._now.addresses:
            if address.link not in self._names or _key(address) in known or passes(address):
                continue
            home = self._home(address.link)
            if home is not None:
                label = None if address.label is None else address.label.replace(address.link, home, 1)
                yield replace(address, link=home, label=label)

    def _new_routes(self) -> Iterator[Route]:
        known = {_way(r) for state in self._known for r in state.routes}
        known |= {_way(step.route) for step in self._steps if isinstance(step, PutRoute | AddRoute)}
        for route in self._now.routes:
            on = [hop.link for hop in route.nexthops if hop.link in self._names]
            if not on or _way(route) in known or route.protocol in (PROTO_KERNEL, PROTO_RA):
                continue
            hops = tuple(
                replace(hop, link=self._home(hop.link)) if hop.link in self._names else hop for hop in route.nexthops
            )
            if all(hop.link is not None for hop in hops):
                yield replace(route, nexthops=hops)

    def _new_rules(self) -> Iterator[Rule]:
        """Rules stay as they are: one that names a link which is gone waits for the next of that name."""
        known = {rule for state in self._known for rule in state.rules}
        known |= {step.rule for step in self._steps if isinstance(step, AddRule)}
        for rule in self._now.rules:
            if (rule.iif in self._names or rule.oif in self._names) and rule not in known:
                yield rule

    def _new_neighbours(self) -> Iterator[Neighbour]:
        known = {_entry(n) for state in self._known for n in state.neighbours}
        known |= {_entry(step.neighbour) for step in self._steps if isinstance(step, PutNeighbour)}
        for neighbour in self._now.neighbours:
            if not neighbour.configured or neighbour.link not in self._names or _entry(neighbour) in known:
                continue
            home = self._home(neighbour.link)
            if home is not None:
                yield replace(neighbour, link=home)


def _find_carrier(root: State, touched: tuple[str, ...]) -> IfName | None:
    """The touched link with the host's addresses; without any, the first that was there."""
    there: list[Link] = [link for name in touched for link in root.links if link.name == name]
    carrying = [
        link.name for link in there if any(not is_link_local(a.family, a.ip) for a in root.addresses_of(link.name))
    ]
    return next(iter(carrying), there[0].name if there else None)


def passes(address: Address) -> bool:
    """Whether an address comes and goes by itself: the kernel's own, and our copies of temporary ones."""
    return (
        is_link_local(address.family, address.ip) or address.temporary or address.proto in (*_KERNELS_OWN, COPY_PROTO)
    )


def _key(address: Address) -> tuple[object, ...]:
    return address.family, address.ip, address.prefix, address.peer


def _way(route: Route) -> tuple[object, ...]:
    gateways = tuple(hop.gateway for hop in route.nexthops)
    return route.family, route.table, route.type, route.dst, route.src, route.tos, gateways


def _entry(neighbour: Neighbour) -> tuple[object, ...]:
    return neighbour.family, neighbour.ip, neighbour.mac, neighbour.flags
