"""The way back: from the state that is to the state that was, by comparison. Never inverse steps.

This is the kernel's part: it needs nothing but netlink, and the host is reachable when it is done. The owner's comes
after it (restore_owner.py): files, DNS and DHCP clients, which may take seconds or fail, with the host reachable.

An inverse is wrong as soon as the kernel did more than it was asked; and a plan that was stopped anywhere, or that
somebody else has changed things under, has no inverse at all. Only touched links are looked at; what others put on
links that were not touched is theirs. Links are known by their number, since their names may be what has changed.
What others have added to touched links since is in the state to go back to already (merge.py).
The same order as in transfer.py keeps the host answering: everything on the right link first, then the change.
"""

from __future__ import annotations

from typing import Final

from tapbridge.core.access import restore_vlans
from tapbridge.core.compare import comparable
from tapbridge.core.draft import Draft
from tapbridge.core.routing import is_first, same_route
from tapbridge.core.transfer import (
    connected_first,
    copy_of_ra,
    held,
    is_heard,
    learnt_neighbours,
    loosen_rp_filter,
    own,
)
from tapbridge.core.wireless import with_three_addresses
from tapbridge.model.noun import replace
from tapbridge.model.plan import Plan, Reason
from tapbridge.model.state import (
    DADFAILED,
    PROTO_RA,
    Address,
    Link,
    Route,
    State,
    Sysctl,
)
from tapbridge.model.step import (
    AddRoute,
    AddRule,
    AddTap,
    AwaitLocal,
    DeleteAddress,
    DeleteLink,
    DeleteNeighbour,
    DeleteRoute,
    DeleteRule,
    DropRouterRoutes,
    PutAddress,
    PutNeighbour,
    PutRoute,
    RenameLink,
    SetAddressGeneration,
    SetAlias,
    SetFourAddress,
    SetMac,
    SetMaster,
    SetMtu,
    SetPort,
    SetSysctl,
    SetUp,
    Shield,
    Step,
    Unshield,
)
from tapbridge.model.values import IfName

_SPARE: Final = "tbspare"


def restore(before: State, now: State, touched: tuple[str, ...]) -> Plan:
    """The plan that makes the touched links in the kernel what they were in `before`."""
    return _Restore(before, now, touched).plan()


class _Restore:
    def __init__(self, before: State, now: State, touched: tuple[str, ...]) -> None:
        self._before, self._touched = before, touched
        self._draft = Draft(now)
        there = {link.index: link for link in now.links}
        # (as it was, as it is) for every touched link that still exists
        self._pairs = [(x, there[x.index]) for x in before.links if x.name in touched and x.index in there]

    def plan(self) -> Plan:
        self._draft.stage(Reason.PREPARE)
        self._names()
        self._make_taps()
        for was, _ in self._pairs:
            self._fit_for_bridge(was)
            self._allow_v6(was)
            self._hold_addresses(was)
            self._know_neighbours(was.name)
        shielded = self._shield()
        self._draft.stage(Reason.MOVE)
        for was, _ in self._pairs:
            self._put_routes(was.name)
        for was, link in self._pairs:
            if was.master != self._called(link).master:
                self._draft.do(SetMaster(link=was.name, master=was.master))
        self._draft.do(*restore_vlans([(was, self._called(link)) for was, link in self._pairs]))
        for was, _ in self._pairs:
            self._drop_addresses(was.name)
        self._drop_rivals()
        self._drop_router_routes()
        self._rules()
        self._draft.stage(Reason.SETTLE)
        self._draft.do(*(Unshield(link=link) for link in shielded))
        for was, _ in self._pairs:
            self._settle(was)
        self._delete_links()
        for was, _ in self._pairs:
            self._exact_routes(was.name)
        for was, link in self._pairs:
            if self._called(link).four_address and not was.four_address:  # it waits for the access point
                self._draft.do(with_three_addresses(self._before, was.name, was.name))
        return self._draft.plan("recover", self._touched)

    def _called(self, link: Link) -> Link:
        return next(x for x in self._draft.state.links if x.index == link.index)

    def _fit_for_bridge(self, was: Link) -> None:
        """A wireless card is taken into a bridge with four addresses in its frames alone."""
        link = self._draft.state.link(was.name)
        if was.four_address and link is not None and not link.four_address:
            self._draft.do(SetFourAddress(link=was.name, on=True))

    def _allow_v6(self, was: Link) -> None:
        """Without IPv6 a link takes no address of it."""
        switch = Sysctl(link=was.name, stack="ipv6", name="disable_ipv6", value=0)
        if switch in self._before.sysctls and switch not in self._draft.state.sysctls:
            self._draft.do(SetSysctl(sysctl=switch))

    def _hold_addresses(self, was: Link) -> None:
        present = {(a.family, a.ip, a.prefix) for a in self._draft.state.addresses_of(was.name)}
        v4 = self._before.addresses_of(was.name, 4)
        put: list[str] = []
        for address in v4 + tuple(reversed(self._before.addresses_of(was.name, 6))):
            if (address.family, address.ip, address.prefix) in present or address.flags & DADFAILED:
                continue
            self._draft.do(PutAddress(address=held(address, was.name, address.label)))
            put += [address.ip] if address.family == 6 else []
        if put:
            self._draft.do(AwaitLocal(link=was.name, ips=tuple(put)))

    def _know_neighbours(self, name: IfName) -> None:
        """Whoever is known where the routes lead now is known here before they come back.

        The answer to a question that is asked in the move's own batch arrives while the NIC is still a port, is the
        bridge's, and the kernel asks again after a second only (RETRANS_TIME). What the NIC knew itself may have
        failed meanwhile: asked as a port, it got no answer.
        """
        state = self._draft.state
        ways = {(r.family, r.table, r.dst) for r in self._before.routes_of(name)}
        led = (hop.link for r in state.routes if (r.family, r.table, r.dst) in ways for hop in r.nexthops)
        ours = {link.name for link in state.links if link.ours} | set(self._touched)
        for other in dict.fromkeys(link for link in led if link != name and link in ours):
            known = learnt_neighbours(state, other, name)
            self._draft.do(*(PutNeighbour(neighbour=n) for n in known if n not in state.neighbours))
        self._draft.do(*self._configured_neighbours(name))

    def _shield(self) -> tuple[IfName, ...]:
        """Bypass the hole of the port change where the host's addresses are on both, the bridge and its port.

        Tells which links; their frames arrive on the bridge meanwhile, whichever link the routes lead through.
        """
        draft, shields = self._draft, []
        for was, link in self._pairs:
            master = self._called(link).master
            bridge = draft.state.link(was.master or master or "")
            if was.master == master or bridge is None or not bridge.up or bridge.name not in self._touched:
                continue
            if draft.state.addresses_of(bridge.name) and draft.state.addresses_of(was.name):  # no guest's tap
                loosen_rp_filter(draft, bridge.name)
                shields.append(Shield(link=was.name, to=bridge.name))
        if shields:
            draft.stage(Reason.SHIELD)
            draft.do(*shields)
        return tuple(shield.link for shield in shields)

    def _names(self) -> None:
        for was, link in self._pairs:
            if self._called(link).name == was.name:
                continue
            holder = self._draft.state.link(was.name)
            if holder is not None and was.name not in self._called(link).altnames:
                self._draft.do(RenameLink(link=holder.name, to=_spare_name(self._draft.state)))
            self._draft.do(RenameLink(link=self._called(link).name, to=was.name))

    def _make_taps(self) -> None:
        """A persistent tap that was deleted is made again; as a link of another number it is a pair from now on. So is
        one that an earlier way back has made."""
        there = {link.index for link in self._draft.state.links}
        for was in self._before.links:
            tap = was.tap
            if was.name not in self._touched or was.index in there or tap is None or not tap.persist or not was.mac:
                continue
            if self._draft.state.link(was.name) is None:
                self._draft.do(AddTap(name=was.name, mac=was.mac, tap=tap, alias=was.alias, altnames=was.altnames))
            made = self._draft.state.link(was.name)
            if made is not None and (made.kind, made.alias) == (was.kind, was.alias):  # else the name is somebody's
                self._pairs.append((was, made))

    def _put_routes(self, name: IfName) -> None:
        ours = set(self._touched) | {x.name for x in self._draft.state.links if x.ours}
        for route in sorted(self._before.routes_of(name), key=connected_first):
            wanted = copy_of_ra(route) if is_heard(self._before, name, route) else route
            state = self._draft.state
            if any(same_route(r, wanted) for r in state.routes) or self._heard(wanted, name):
                continue
            first = next((r for r in state.routes if r.slot == wanted.slot), None)
            replaceable = first is None or (
                any(hop.link in ours for hop in first.nexthops) and not _among(first, self._before.routes)
            )
            self._draft.do(PutRoute(route=wanted) if replaceable else AddRoute(route=wanted))

    def _heard(self, wanted: Route, name: IfName) -> bool:
        """Whether the kernel has a route of its own there by a router advertisement."""
        return is_heard(self._before, name, wanted) and any(
            (r.protocol, r.table, r.dst, r.nexthops) == (PROTO_RA, wanted.table, wanted.dst, wanted.nexthops)
            for r in self._draft.state.routes
        )

    def _drop_addresses(self, name: IfName) -> None:
        wanted = {(a.family, a.ip, a.prefix) for a in self._before.addresses_of(name)}
        for address in reversed(self._draft.state.addresses_of(name)):
            known = (address.family, address.ip, address.prefix) in wanted
            if not known and not address.temporary:  # those go with theirs
                self._draft.do(DeleteAddress(address=address))

    def _exact_routes(self, name: IfName) -> None:
        """Put back what the change of an address took along; take away what came with one."""
        for route in self._draft.state.routes_of(name):
            if route.protocol != PROTO_RA and not _among(route, self._before.routes):
                self._draft.do(DeleteRoute(route=route))
        for route in sorted(self._before.routes_of(name), key=connected_first):
            if not is_heard(self._before, name, route) and not _among(route, self._draft.state.routes):
                self._draft.do(AddRoute(route=route))
        for route in self._before.routes_of(name):
            if route.family == 4 and is_first(self._before, route) and not is_first(self._draft.state, route):
                self._draft.do(DeleteRoute(route=route), AddRoute(route=route, first=True))

    def _rules(self) -> None:
        names = {was.name for was, _ in self._pairs} | set(self._touched)
        now = [r for r in self._draft.state.rules if r.iif in names or r.oif in names]
        was = [r for r in self._before.rules if r.iif in names or r.oif in names]
        self._draft.do(*(AddRule(rule=r) for r in was if r not in now))
        self._draft.do(*(DeleteRule(rule=r) for r in now if r not in was))

    def _rebuild_v4(self, name: IfName) -> None:
        """Labels and the order of IPv4 addresses cannot be changed: where a rename has spoilt them, all are put anew.

        In one batch, so that the gap is some tens of microseconds.
        """
        was, now = self._before.addresses_of(name, 4), self._draft.state.addresses_of(name, 4)
        if [_shape(a) for a in was] == [_shape(a) for a in now]:
            return
        self._draft.do(*(DeleteAddress(address=a) for a in reversed(now)))
        self._draft.do(*(PutAddress(address=own(a, name, a.label), dad=True) for a in was))

    def _settle(self, was: Link) -> None:
        draft, name = self._draft, was.name
        self._rebuild_v4(name)
        for address in self._before.addresses_of(name):
            if not address.temporary and not _among_addresses(address, draft.state):
                draft.do(PutAddress(address=own(address, name, address.label), dad=True))
        link = draft.state.link(name)
        assert link is not None, "a paired link exists"
        if (link.addr_gen_mode, link.token) != (was.addr_gen_mode, was.token):
            draft.do(SetAddressGeneration(link=name, mode=was.addr_gen_mode, token=was.token))
        if link.alias != was.alias:
            draft.do(SetAlias(link=name, alias=was.alias))
        if link.mtu != was.mtu:
            draft.do(SetMtu(link=name, mtu=was.mtu))
        if link.mac != was.mac and was.mac is not None:
            draft.do(SetMac(link=name, mac=was.mac))
        if was.port is not None and link.port is not None and link.port != replace(was.port, state=link.port.state):
            draft.do(SetPort(link=name, port=was.port))
        if link.up != was.up:
            draft.do(SetUp(link=name, up=was.up))
        for item in self._before.sysctls:
            if item.link == name and draft.state.sysctl(name, item.stack, item.name) != item.value:
                draft.do(SetSysctl(sysctl=item))
        self._neighbours(name)

    def _neighbours(self, name: IfName) -> None:
        self._draft.do(*self._configured_neighbours(name))
        now = [n for n in self._draft.state.neighbours if n.link == name and n.configured]
        self._draft.do(*(DeleteNeighbour(neighbour=n) for n in now if n not in self._before.neighbours))

    def _configured_neighbours(self, name: IfName) -> list[Step]:
        now = self._draft.state.neighbours
        was = [n for n in self._before.neighbours if n.link == name and n.configured]
        return [PutNeighbour(neighbour=n) for n in was if n not in now]

    def _drop_rivals(self) -> None:
        """Routes of a bridge that goes: with a better metric than the NIC's they would lead to where nobody is now."""
        ways = {(r.family, r.table, r.dst) for was, _ in self._pairs for r in self._before.routes_of(was.name)}
        for name in self._going():
            rivals = self._draft.state.routes_of(name)
            self._draft.do(*(DeleteRoute(route=r) for r in rivals if (r.family, r.table, r.dst) in ways))

    def _going(self) -> list[IfName]:
        known = {link.index for link in self._before.links}
        return [x.name for x in self._draft.state.links if x.index not in known and x.kind == "bridge" and x.ours]

    def _drop_router_routes(self) -> None:
        """A port, and a link that goes, leads to no router, whatever was heard there meanwhile."""
        joining = [was.name for was, link in self._pairs if was.master is not None and was.master != link.master]
        told = [was.name for was, _ in self._pairs if was.master is not None and self._is_told(was.name)]
        for name in dict.fromkeys((*joining, *self._going(), *told)):
            if self._draft.state.sysctl(name, "ipv6", "accept_ra") is not None:
                self._draft.do(DropRouterRoutes(link=name))

    def _is_told(self, name: IfName) -> bool:
        return any(r.family == 6 and r.protocol == PROTO_RA for r in self._draft.state.routes_of(name))

    def _delete_links(self) -> None:
        """What was made since, is ours, and is one of the touched: by name or by what it was renamed to."""
        known = {link.index for link in self._before.links}
        for link in self._draft.state.links:
            # A tap of a guest that came since is the guest's; one that was begun is there only as far as we got.
            begun = link.ours and link.name in self._touched and self._before.link(link.name) is None
            if link.index not in known and (begun if link.kind == "tap" else link.ours or link.name in self._touched):
                # A multipath route of IPv4 would outlive the link, with a dead way.
                self._draft.do(*(DeleteRoute(route=r) for r in self._draft.state.routes_of(link.name)))
                self._draft.do(DeleteLink(link=link.name))


def _among(route: Route, routes: tuple[Route, ...]) -> bool:
    return any(same_route(route, other) for other in routes)


def _among_addresses(address: Address, state: State) -> bool:
    one = comparable(State(addresses=(address,))).addresses
    return any(comparable(State(addresses=(a,))).addresses == one for a in state.addresses_of(address.link))


def _shape(address: Address) -> tuple[str, int, str | None, str | None, bool]:
    return address.ip, address.prefix, address.peer, address.label, address.secondary


def _spare_name(state: State) -> IfName:
    return next(IfName(f"{_SPARE}{n}") for n in range(100) if state.link(f"{_SPARE}{n}") is None)


def find_spare(before: State, now: State) -> tuple[IfName, ...]:
    """What we have made and renamed on a way back, to give the NIC its name again, and have not deleted yet."""
    known = {link.index for link in before.links}
    return tuple(x.name for x in now.links if x.ours and x.name.startswith(_SPARE) and x.index not in known)
