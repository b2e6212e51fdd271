"""Moving a host's place on the network from one link to another, make before break.

`up` moves it from the NIC to the bridge, `down` from the bridge to the NIC; the parts are the same:

1. prepare: the target gets every address, held back: its connected route has a metric that loses against every
   other (IPv4: `noprefixroute` cannot be changed later) or is not made yet (IPv6). It gets the neighbours, else
   the first packet out would wait for ARP or ND.
2. move, in one netlink batch: every route changes its link in its place (NLM_F_REPLACE), connected routes first, the
   default last; then the source loses its addresses. A SIGKILL cannot come between two messages of a batch.
3. settle: the addresses get their own metric and flags.

Where a manager configures the target anew it throws away what it finds there: foreign addresses, and routes but for
the kernel's own (protocol `kernel`). So the addresses wait aside, on the loopback link, which makes them ours and
answers for them on every link; the routes lead through the target as if they were the kernel's, with metrics that lose
against the manager's. Without an address of its own the target cannot lose its last one, and its routes with it
(fib_disable_ip). In the end, when the manager has put its own, they go. Those of IPv6 are on the target as well, for as
long as the manager leaves them there: the kernel answers for them (neighbour discovery) on their own link alone.

Frames may arrive on either link meanwhile: both have every address, and rp_filter is loose for as long.
"""

from __future__ import annotations

from tapbridge.core.draft import Draft
from tapbridge.core.routing import is_first, same_route
from tapbridge.model.noun import replace
from tapbridge.model.state import (
    COPY_PROTO,
    DADFAILED,
    DEPRECATED,
    MANAGETEMPADDR,
    NOPREFIXROUTE,
    PROTO_KERNEL,
    PROTO_RA,
    SECONDARY,
    TENTATIVE,
    Address,
    Neighbour,
    Route,
    Rule,
    State,
    Sysctl,
)
from tapbridge.model.step import (
    AddRoute,
    AddRule,
    AwaitLocal,
    DeleteAddress,
    DeleteNeighbour,
    DeleteRoute,
    DeleteRule,
    DropRouterRoutes,
    PutAddress,
    PutNeighbour,
    PutRoute,
    SetDns,
    SetSysctl,
)
from tapbridge.model.values import IfName, is_link_local

LAST_METRIC = 4_000_000
"""Where the metrics begin of routes that lead on until a manager has brought its own."""

HOLD_METRIC = 3 * LAST_METRIC
"""The metric of a connected route that must not be used yet: it loses against those as well."""

RA_COPY_METRIC = 1025
"""IP6_RT_PRIO_USER + 1."""

LOOPBACK = IfName("lo")

LEARNT_NEIGHBOURS = 1024
"""How many learnt neighbours are copied at most: gc_thresh3, the kernel's own ceiling."""

_STALE = 0x04
_USABLE = 0x02 | 0x04 | 0x08 | 0x10  # REACHABLE, STALE, DELAY, PROBE


class Transfer:
    """The move of one link's addresses, routes, rules, neighbours and DNS to another, written into a draft.

    `source` and `target` are the links' names before the move; `source_after` and `target_after` those after it,
    where names are exchanged in between.
    """

    def __init__(
        self,
        draft: Draft,
        *,
        source: IfName,
        target: IfName,
        source_after: IfName,
        target_after: IfName,
        aside: bool = False,
    ) -> None:
        self._draft, self._aside = draft, aside
        self._source, self._target = source, target
        self._source_after, self._target_after = source_after, target_after
        self._origin: State = draft.state
        self._carried = tuple(a for a in _insertion_order(self._origin, source) if not a.flags & DADFAILED)
        self._late = self._split_late()

    def prepare(self) -> None:
        """Addresses, held back, and neighbours on the target."""
        early = [a for a in self._carried if a not in self._late]
        renamed = self._target != self._target_after
        labels = (self._target if renamed else self._label(address) for address in early)
        placed = [self._held(address, self._target, label) for address, label in zip(early, labels, strict=True)]
        if self._aside:
            of_v6 = (a for a in early if a.family == 6 and not is_link_local(a.family, a.ip))
            placed += [held(address, self._target, None) for address in of_v6]
        self._draft.do(*(PutAddress(address=address) for address in placed))
        self._draft.do(*(PutNeighbour(neighbour=n) for n in _neighbours(self._origin, self._source, self._target)))
        v6 = [address for address in placed if address.family == 6]
        for link in dict.fromkeys(address.link for address in v6):
            self._draft.do(AwaitLocal(link=link, ips=tuple(a.ip for a in v6 if a.link == link)))

    def late_addresses(self) -> None:
        """The addresses whose label a rename of the target would spoil (inetdev_changename); after the rename."""
        self._draft.do(
            *(PutAddress(address=self._held(a, self._target_after, self._label(a))) for a in self._late),
        )

    def move_routes(self) -> None:
        """Every route of the source, in its place; rules that name the source with it."""
        draft = self._draft
        routes = [r for r in draft.state.routes_of(self._source_after) if not self._stays(r)]
        for route in sorted(routes, key=connected_first):
            moved = self._moved(route)
            if self._aside:
                draft.do(AddRoute(route=kernels_last(moved)), DeleteRoute(route=route))
            elif moved.slot != route.slot or not is_first(draft.state, route):
                draft.do(AddRoute(route=moved), DeleteRoute(route=route))
            else:
                draft.do(PutRoute(route=moved))
        for rule in draft.state.rules:
            renamed = self._moved_rule(rule)
            if renamed != rule:
                draft.do(AddRule(rule=renamed), DeleteRule(rule=rule))

    def leave(self) -> None:
        """Take the addresses from the source, the last first, so that no primary takes its secondaries with it."""
        of_source = self._draft.state.addresses_of(self._source_after)
        self._draft.do(*(DeleteAddress(address=a) for a in reversed(of_source)))
        self._draft.do(*(DeleteRoute(route=r) for r in self._draft.state.routes_of(self._source_after)))
        if hears_routers(self._origin, self._source):
            self._draft.do(DropRouterRoutes(link=self._source_after))

    def settle_link_local(self) -> None:
        """The link-local addresses as they are to stay: a manager that gets a link back begins by them."""
        local = [a for a in self._carried if is_link_local(a.family, a.ip)]
        self._draft.do(*(PutAddress(address=own(a, self._target_after, None), dad=True) for a in local))

    def settle(self) -> None:
        """Own metrics and flags on the target; what was configured on the source goes from it."""
        draft = self._draft
        leased = [a for a in self._carried if self._aside and a.family == 4 and a.valid_lft is not None]
        for address in self._carried:
            if address not in leased:  # that one was waited for
                draft.do(PutAddress(address=own(address, self._target_after, self._label(address)), dad=True))
        wanted = [self._moved(_on(r, self._source, self._source_after)) for r in self._origin.routes_of(self._source)]
        if self._aside:
            missing = [r for r in wanted if not any(same_route(r, other) for other in draft.state.routes)]
            draft.do(*(AddRoute(route=r) for r in missing if r.protocol != PROTO_RA))
        for route in draft.state.routes_of(self._target_after):
            if not any(same_route(route, other) for other in wanted):
                draft.do(DeleteRoute(route=route))
        if self._aside:
            mine = {a.ip for a in self._carried}
            of_loopback = draft.state.addresses_of(LOOPBACK)
            draft.do(*(DeleteAddress(address=a) for a in reversed(of_loopback) if a.ip in mine))
        for neighbour in draft.state.neighbours:
            if neighbour.link == self._source_after and neighbour.configured:
                draft.do(DeleteNeighbour(neighbour=neighbour))
        for dns in self._origin.dns:
            if dns.link == self._source:
                draft.do(SetDns(dns=replace(dns, link=self._target_after)))
                draft.do(SetDns(dns=replace(dns, link=self._source_after, servers=(), domains=())))

    def _held(self, address: Address, link: IfName, label: str | None) -> Address:
        """Aside or on the target; a link-local address is of the link, and managers leave it there."""
        link_local = is_link_local(address.family, address.ip)
        return aside(address) if self._aside and not link_local else held(address, link, label)

    def _split_late(self) -> tuple[Address, ...]:
        if self._target == self._target_after:
            return ()
        v4 = [a for a in self._carried if a.family == 4]
        keep = 1 if v4 and v4[0].label in (None, self._source) else 0
        return tuple(v4[keep:])

    def _label(self, address: Address) -> str | None:
        """The label on the target: the link's own name follows the link, `eth0:1` becomes `br0:1` where it fits."""
        if address.family == 6 or address.label is None:
            return None
        name, colon, suffix = address.label.partition(":")
        if name != self._source:
            return address.label
        moved = f"{self._target_after}{colon}{suffix}"
        return moved if len(moved) <= 15 else address.label

    def _stays(self, route: Route) -> bool:
        """Our copy of a route by router advertisement, where the kernel has made its own since."""
        return is_heard(self._origin, self._source, route) and any(
            other.protocol == PROTO_RA
            and (other.table, other.dst, other.nexthops) == (route.table, route.dst, route.nexthops)
            and other.metric < route.metric
            for other in self._draft.state.routes
        )

    def _moved(self, route: Route) -> Route:
        moved = _on(route, self._source_after, self._target_after)
        if self._aside:
            return replace(moved, nexthop_object=0)  # who brings them has its own objects
        return copy_of_ra(moved) if is_heard(self._origin, self._source, route) else moved

    def _moved_rule(self, rule: Rule) -> Rule:
        if self._source == self._target_after:
            return rule
        iif = self._target_after if rule.iif == self._source else rule.iif
        oif = self._target_after if rule.oif == self._source else rule.oif
        return rule if (iif, oif) == (rule.iif, rule.oif) else replace(rule, iif=iif, oif=oif)


def hears_routers(state: State, link: IfName) -> bool:
    """Whether the kernel makes routes by the router advertisements that it hears on a link."""
    accept = state.sysctl(link, "ipv6", "accept_ra")
    forwarding = state.sysctl(link, "ipv6", "forwarding")
    return accept == 2 or (accept == 1 and not forwarding)


def is_heard(state: State, link: IfName, route: Route) -> bool:
    """Whether this route is kept by the router advertisements that are heard on the link: by the kernel, or by
    systemd-networkd, since version 256 with a nexthop object."""
    return route.protocol == PROTO_RA and (bool(route.nexthop_object) or hears_routers(state, link))


def copy_of_ra(route: Route) -> Route:
    """The copy of a route that the kernel keeps by router advertisements: one metric worse than the kernel's own.

    In the kernel's own slot it would make the next advertisement fail with EEXIST, and with it the refresh of every
    address (ndisc_router_discovery returns early); and where networkd deletes its own by the nexthop object, the kernel
    would take the copy for it (ip6_route_del looks at no other word then). The copy goes when its lifetime ends.
    """
    metric = route.metric if route.metric == RA_COPY_METRIC else route.metric + 1
    return replace(route, metric=metric, nexthop_object=0)


def deafen(draft: Draft, link: IfName) -> Sysctl | None:
    """Let a link that is to be left hear no more router advertisements; the value to put back, if any.

    One that it heard, or that a Shield hands to it, would make a route through it that nobody takes away.
    """
    own = draft.state.sysctl(link, "ipv6", "accept_ra")
    if own is None or not hears_routers(draft.state, link):
        return None
    draft.do(SetSysctl(sysctl=Sysctl(link=link, stack="ipv6", name="accept_ra", value=0)))
    return Sysctl(link=link, stack="ipv6", name="accept_ra", value=own)


def loosen_rp_filter(draft: Draft, link: IfName) -> Sysctl | None:
    """Make a strict reverse path filter loose for the window; the value to put back, if any.

    The kernel takes the larger of `all` and the link's own (ip_sysctl): 0 off, 1 strict, 2 loose.
    """
    own = draft.state.sysctl(link, "ipv4", "rp_filter")
    if own is None or max(own, draft.state.sysctl("all", "ipv4", "rp_filter") or 0) != 1:
        return None
    draft.do(SetSysctl(sysctl=Sysctl(link=link, stack="ipv4", name="rp_filter", value=2)))
    return Sysctl(link=link, stack="ipv4", name="rp_filter", value=own)


def _insertion_order(state: State, link: IfName) -> tuple[Address, ...]:
    """The kernel puts a new IPv6 address before its equals, a new IPv4 address behind them."""
    return state.addresses_of(link, 4) + tuple(reversed(state.addresses_of(link, 6)))


def held(address: Address, link: IfName, label: str | None) -> Address:
    """The address on another link, held back: its connected route loses against every other, or is not made yet."""
    moved = own(address, link, label if address.family == 4 else None)
    if moved.family == 6:
        return replace(moved, flags=moved.flags & ~MANAGETEMPADDR | NOPREFIXROUTE)
    return moved if moved.flags & NOPREFIXROUTE else replace(moved, metric=HOLD_METRIC)


def aside(address: Address) -> Address:
    """The address on the loopback link, alone and for as long as it is left there."""
    label = LOOPBACK if address.family == 4 else None
    prefix = 32 if address.family == 4 else 128
    flags = NOPREFIXROUTE if address.family == 6 else 0
    return Address(link=LOOPBACK, family=address.family, ip=address.ip, prefix=prefix, label=label, flags=flags)


def kernels_last(route: Route) -> Route:
    """The route as if the kernel had made it, behind every other of its destination."""
    return replace(route, protocol=PROTO_KERNEL, metric=LAST_METRIC + min(route.metric, LAST_METRIC), expires=None)


def own(address: Address, link: IfName, label: str | None) -> Address:
    """The address on another link as it is to stay; of a temporary one a plain copy, marked as such."""
    passing = SECONDARY | TENTATIVE | DEPRECATED
    proto = COPY_PROTO if address.temporary else address.proto
    return replace(address, link=link, label=label, flags=address.flags & ~passing, proto=proto)


def _neighbours(state: State, source: IfName, target: IfName) -> tuple[Neighbour, ...]:
    configured = (n for n in state.neighbours if n.link == source and n.configured)
    return (*(replace(n, link=target) for n in configured), *learnt_neighbours(state, source, target))


def learnt_neighbours(state: State, source: IfName, target: IfName) -> tuple[Neighbour, ...]:
    """What a link has learnt of its neighbours, for another link: usable at once, asked for in time (NUD_STALE)."""
    learnt = [n for n in state.neighbours if n.link == source and not n.configured and n.state & _USABLE and n.mac]
    return tuple(replace(n, link=target, state=_STALE) for n in learnt[:LEARNT_NEIGHBOURS])


def _on(route: Route, link: IfName, other: IfName) -> Route:
    return replace(
        route, nexthops=tuple(replace(hop, link=other) if hop.link == link else hop for hop in route.nexthops)
    )


def connected_first(route: Route) -> tuple[bool, int]:
    """The order in which routes are put: a gateway must be reachable before a route leads through it."""
    return any(hop.gateway for hop in route.nexthops), -int(route.dst.partition("/")[2])
