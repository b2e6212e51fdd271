"""What one step does to a State. The model of the kernel that plans, previews and properties stand on.

The contract suite performs the same steps on a real kernel and compares. Not modelled, because no plan of ours
depends on it: addresses that the kernel makes by itself when a link comes up, the proxied neighbours that it forgets a
moment after a carrier goes, an IPv6 route by a gateway that becomes one of the ways of another, and a bridge's MTU and
MAC that follow its ports (ours are explicit).
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from operator import attrgetter
from typing import Any, TypeVar

from tapbridge.core.addressing import connected_route, delete_address, put_address
from tapbridge.core.routing import append_route, delete_route, drop_link, put_route
from tapbridge.core.vlans import drop_vlans, first_vlans, own_vlans, put_vlans
from tapbridge.model import step as steps
from tapbridge.model.noun import replace
from tapbridge.model.port import Port
from tapbridge.model.state import PERMANENT, PROTO_RA, Address, Link, Rule, State, Sysctl
from tapbridge.model.step import Step
from tapbridge.model.values import IfName

_PROXY = 0x08  # NTF_PROXY
_Name = TypeVar("_Name", bound=IfName | None)


def effect(step: Step, state: State) -> State:
    """The state after a step. Steps that may be repeated change nothing the second time."""
    act = _EFFECTS.get(type(step))
    return state if act is None else act(step, state)


def fold(sequence: tuple[Step, ...], state: State) -> State:
    """The state after all steps, in order."""
    for step in sequence:
        state = effect(step, state)
    return state


def _with_link(state: State, name: str, **changes: Any) -> State:
    return replace(state, links=tuple(replace(x, **changes) if x.name == name else x for x in state.links))


def _add_link(step: steps.AddLink, state: State) -> State:
    index = max((link.index for link in state.links), default=0) + 1
    mtu = step.mtu or 1500
    mode = state.sysctl("default", "ipv6", "addr_gen_mode") or 0
    made = [
        Link(
            index=index,
            name=step.name,
            kind=step.kind,
            mac=step.mac,
            mtu=mtu,
            up=step.up,
            bridge=step.bridge,
            vlans=own_vlans(step.bridge) if step.bridge is not None else (),
            parent=step.peer,
            addr_gen_mode=mode,
        )
    ]
    if step.peer is not None:
        far = Link(index=index + 1, name=step.peer, kind="veth", mtu=mtu, up=True, parent=step.name, addr_gen_mode=mode)
        made.append(far)
    fresh = tuple(item for link in made for item in _switches(state, link))
    state = replace(state, links=state.links + tuple(made), sysctls=state.sysctls + fresh).sorted()
    if step.master is not None:
        state = _set_master(steps.SetMaster(link=step.name, master=step.master), state)
    return _settle_operstate(state)


def _add_tap(step: steps.AddTap, state: State) -> State:
    """Nobody has it open, so it has no carrier and gives its bridge none."""
    mode = step.addr_gen_mode
    made = Link(
        index=max(map(attrgetter("index"), state.links), default=0) + 1,
        name=step.name,
        kind="tap",
        mac=step.mac,
        mtu=step.mtu or 1500,
        up=step.up,
        master=step.master,
        master_kind="bridge" if step.master else None,
        port=Port() if step.master else None,
        vlans=first_vlans(state.link(step.master)) if step.master else (),
        addr_gen_mode=state.sysctl("default", "ipv6", "addr_gen_mode") or 0 if mode is None else mode,
        alias=step.alias,
        altnames=step.altnames,
        tap=step.tap,
    )
    links = list(state.links)
    insort(links, made, key=attrgetter("name"))  # sorting all of it for each of many taps would take longest
    state = replace(state, links=tuple(links))
    if step.master is not None:  # the switches of a guest's tap are not observed
        return state
    return replace(state, sysctls=state.sysctls + _switches(state, made)).sorted()


def _switches(state: State, link: Link) -> tuple[Sysctl, ...]:
    """The switches of a new link."""
    return tuple(
        replace(item, link=link.name)
        for item in state.sysctls
        if item.link == "default" and item.name != "addr_gen_mode"
    )


def _delete_link(step: steps.DeleteLink, state: State) -> State:
    link = state.link(step.link)
    if link is None:
        return state
    return _without(state, {link.name} | ({link.parent} if link.kind == "veth" and link.parent else set()))


def _without(state: State, gone: set[IfName]) -> State:
    links = tuple(
        replace(x, master=None, master_kind=None, port=None, vlans=()) if x.master in gone else x
        for x in state.links
        if x.name not in gone
    )
    for name in gone:
        state = drop_link(state, name, gone=True)
    state = replace(
        state,
        links=links,
        addresses=tuple(a for a in state.addresses if a.link not in gone),
        neighbours=tuple(n for n in state.neighbours if n.link not in gone),
        sysctls=tuple(s for s in state.sysctls if s.link not in gone),
        dns=tuple(d for d in state.dns if d.link not in gone),
        forwarding=tuple(f for f in state.forwarding if f.bridge not in gone and f.port not in gone),
    )
    return _settle_operstate(state)


def _delete_taps(step: steps.DeleteTaps, state: State) -> State:
    named = set(step.taps)
    gone = {link.name for link in state.links if link.name in named and link.kind == "tap" and link.ours}
    return _without(state, gone) if gone else state


def _set_up(step: steps.SetUp, state: State) -> State:
    link = state.link(step.link)
    if link is None or link.up == step.up:
        return state
    state = _settle_operstate(_with_link(state, step.link, up=step.up))
    if step.up:
        for address in state.addresses_of(step.link):
            route = connected_route(address) if address.family == 4 or address.flags & PERMANENT else None
            state = append_route(state, route) if route else state
        return state
    state = drop_link(state, step.link)
    return replace(
        state,
        addresses=tuple(a for a in state.addresses if a.link != step.link or a.family == 4),
        neighbours=tuple(n for n in state.neighbours if n.link != step.link),
    )


def _set_master(step: steps.SetMaster, state: State) -> State:
    link = state.link(step.link)
    if link is None or link.master == step.master:
        return state
    if link.kind == "tap":  # those of a guest's tap are not observed
        kept = tuple(item for item in state.sysctls if item.link != link.name)
        without = replace(state, sysctls=kept)
        state = without if step.master else replace(state, sysctls=(*kept, *_switches(state, link))).sorted()
    port = None if step.master is None else Port()
    kind = None if step.master is None else "bridge"
    vlans = () if step.master is None else first_vlans(state.link(step.master))
    state = _with_link(state, step.link, master=step.master, master_kind=kind, port=port, vlans=vlans)
    return _settle_operstate(state)


def _set_vlan_filtering(step: steps.SetVlanFiltering, state: State) -> State:
    """What ports are in is not seen while it means nothing; it is what they began with, unless somebody has put them
    elsewhere."""
    link = state.link(step.link)
    if link is None or link.bridge is None or link.bridge.vlan_filtering == step.on:
        return state
    bridge = replace(link.bridge, vlan_filtering=step.on)
    state = _with_link(state, step.link, bridge=bridge, vlans=own_vlans(bridge))
    for port in state.ports(step.link):
        state = _with_link(state, port.name, vlans=own_vlans(bridge))
    return state


def _put_vlans(step: steps.PutVlans, state: State) -> State:
    link = state.link(step.link)
    return state if link is None else _with_link(state, step.link, vlans=put_vlans(link.vlans, step.vlans))


def _delete_vlans(step: steps.DeleteVlans, state: State) -> State:
    link = state.link(step.link)
    return state if link is None else _with_link(state, step.link, vlans=drop_vlans(link.vlans, step.vlans))


def _set_mac(step: steps.SetMac, state: State) -> State:
    """neigh_changeaddr(): the neighbours know it by another address, so all are forgotten, permanent ones too."""
    state = _with_link(state, step.link, mac=step.mac)
    return replace(state, neighbours=tuple(n for n in state.neighbours if n.link != step.link or n.flags & _PROXY))


def _settle_operstate(state: State) -> State:
    """A bridge has carrier while a port has; the rest keep what they have, a veth of ours has it at once."""
    links = []
    for link in state.links:
        if link.kind == "bridge":
            carrier = link.up and any(x.up and (x.carrier or x.kind == "veth") for x in state.ports(link.name))
            link = replace(link, carrier=carrier, operstate="up" if carrier else "down")
        links.append(link)
    return replace(state, links=tuple(links))


def _rename(step: steps.RenameLink, state: State) -> State:
    old, new = step.link, step.to
    if state.link(old) is None or old == new:
        return state

    def called(name: _Name) -> _Name | IfName:
        return new if name == old else name

    def renamed(items: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(replace(item, link=new) if item.link == old else item for item in items)

    routes = tuple(
        replace(route, nexthops=tuple(replace(hop, link=called(hop.link)) for hop in route.nexthops))
        if route.uses(old)
        else route
        for route in state.routes
    )
    return replace(
        state,
        links=tuple(
            replace(x, name=called(x.name), master=called(x.master), parent=called(x.parent)) for x in state.links
        ),
        addresses=_relabelled(renamed(state.addresses), new),
        routes=routes,
        neighbours=renamed(state.neighbours),
        sysctls=renamed(state.sysctls),
        clients=state.clients,
        dns=renamed(state.dns),
        forwarding=tuple(
            replace(entry, bridge=called(entry.bridge), port=called(entry.port)) for entry in state.forwarding
        ),
    ).sorted()


def _relabelled(addresses: tuple[Address, ...], link: IfName) -> tuple[Address, ...]:
    """inetdev_changename(): the first IPv4 label becomes the name; the others keep or get a suffix."""
    done, count = [], 0
    for address in addresses:
        if address.link == link and address.family == 4:
            old = address.label or ""
            label: str = link
            if count:
                label = _suffixed(link, old[old.index(":") :] if ":" in old else f":{count + 1}")
            address = replace(address, label=label)
            count += 1
        done.append(address)
    return tuple(done)


def _suffixed(name: str, suffix: str) -> str:
    return name + suffix if len(name) + len(suffix) < 16 else name[: 15 - len(suffix)] + suffix


def _put_neighbour(step: steps.PutNeighbour, state: State) -> State:
    return replace(_delete_neighbour(step, state), neighbours=(*_others(step, state), step.neighbour)).sorted()


def _delete_neighbour(step: steps.PutNeighbour | steps.DeleteNeighbour, state: State) -> State:
    return replace(state, neighbours=_others(step, state))


def _others(step: steps.PutNeighbour | steps.DeleteNeighbour, state: State) -> tuple[Any, ...]:
    one = step.neighbour
    return tuple(
        n
        for n in state.neighbours
        if (n.link, n.family, n.ip, n.flags & _PROXY) != (one.link, one.family, one.ip, one.flags & _PROXY)
    )


def _add_rule(step: steps.AddRule, state: State) -> State:
    return state if step.rule in state.rules else replace(state, rules=(*state.rules, step.rule)).sorted()


def _drop_router_routes(step: steps.DropRouterRoutes, state: State) -> State:
    kept = (r for r in state.routes if r.family != 6 or r.protocol != PROTO_RA or not r.uses(step.link))
    return replace(state, routes=tuple(kept))


def _delete_rule(step: steps.DeleteRule, state: State) -> State:
    rules: list[Rule] = list(state.rules)
    if step.rule in rules:
        rules.remove(step.rule)
    return replace(state, rules=tuple(rules))


def _set_sysctl(step: steps.SetSysctl, state: State) -> State:
    one = step.sysctl
    kept = tuple(s for s in state.sysctls if (s.link, s.stack, s.name) != (one.link, one.stack, one.name))
    return replace(state, sysctls=(*kept, one)).sorted()


def _set_dns(step: steps.SetDns, state: State) -> State:
    kept = tuple(d for d in state.dns if d.link != step.dns.link)
    wanted = (step.dns,) if step.dns.servers or step.dns.domains else ()
    return replace(state, dns=kept + wanted).sorted()


def _stop_client(step: steps.StopClient, state: State) -> State:
    one = step.client
    kept = tuple(c for c in state.clients if (c.pid, c.argv, c.link) != (one.pid, one.argv, one.link))
    return replace(state, clients=kept)


def _start_client(step: steps.StartClient, state: State) -> State:
    running = any(
        (c.program, c.argv, c.link) == (step.client.program, step.client.argv, step.client.link) for c in state.clients
    )
    return state if running else replace(state, clients=(*state.clients, step.client)).sorted()


def _await_client(step: steps.AwaitClient, state: State) -> State:
    """What a manager that was waited for has done: the link is in its hands, or not any more."""
    one = step.client
    others = tuple(c for c in state.clients if (c.program, c.link) != (one.program, one.link))
    state = replace(state, clients=others if step.left else (*others, one)).sorted()
    for address in step.addresses:
        state = put_address(state, address, dad=True)
    for route in step.routes:
        state = append_route(state, route)
    return state


def _stop_unit(step: steps.StopUnit, state: State) -> State:
    ended = {(c.program, c.argv) for c in step.clients}
    return replace(state, clients=tuple(c for c in state.clients if (c.program, c.argv) not in ended))


def _start_unit(step: steps.StartUnit, state: State) -> State:
    held = {(c.program, c.link) for c in step.clients}
    kept = tuple(c for c in state.clients if (c.program, c.link) not in held)
    return replace(state, clients=kept + step.clients).sorted()


_EFFECTS: dict[type, Callable[[Any, State], State]] = {
    steps.AddLink: _add_link,
    steps.DeleteLink: _delete_link,
    steps.AddTap: _add_tap,
    steps.DeleteTaps: _delete_taps,
    steps.SetUp: _set_up,
    steps.SetMaster: _set_master,
    steps.SetMtu: lambda step, state: _with_link(state, step.link, mtu=step.mtu),
    steps.SetMac: _set_mac,
    steps.SetAlias: lambda step, state: _with_link(state, step.link, alias=step.alias or None),
    steps.SetAddressGeneration: lambda step, state: _with_link(
        state, step.link, addr_gen_mode=step.mode, token=step.token
    ),
    steps.RenameLink: _rename,
    steps.SetPort: lambda step, state: _with_link(state, step.link, port=step.port),
    steps.SetVlanFiltering: _set_vlan_filtering,
    steps.PutVlans: _put_vlans,
    steps.DeleteVlans: _delete_vlans,
    steps.SetFourAddress: lambda step, state: _with_link(state, step.link, four_address=step.on),
    steps.PutAddress: lambda step, state: put_address(state, step.address, dad=step.dad),
    steps.DeleteAddress: lambda step, state: delete_address(state, step.address),
    steps.PutRoute: lambda step, state: put_route(state, step.route),
    steps.AddRoute: lambda step, state: append_route(state, step.route, first=step.first),
    steps.DeleteRoute: lambda step, state: delete_route(state, step.route),
    steps.PutNeighbour: _put_neighbour,
    steps.DeleteNeighbour: _delete_neighbour,
    steps.AddRule: _add_rule,
    steps.DropRouterRoutes: _drop_router_routes,
    steps.DeleteRule: _delete_rule,
    steps.SetSysctl: _set_sysctl,
    steps.SetDns: _set_dns,
    steps.StopClient: _stop_client,
    steps.StartClient: _start_client,
    steps.AwaitClient: _await_client,
    steps.StopUnit: _stop_unit,
    steps.StartUnit: _start_unit,
}
