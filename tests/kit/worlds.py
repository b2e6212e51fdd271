"""Random hosts for Hypothesis: states that a kernel could be in, because they are made by the model of the kernel."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from tapbridge.core.addressing import put_address
from tapbridge.core.routing import append_route, put_route
from tapbridge.model.noun import replace
from tapbridge.model.state import (
    MANAGETEMPADDR,
    NOPREFIXROUTE,
    PROTO_BOOT,
    PROTO_DHCP,
    PROTO_RA,
    PROTO_STATIC,
    Address,
    Client,
    Link,
    LinkDns,
    Neighbour,
    Nexthop,
    Route,
    Rule,
    State,
    Sysctl,
)
from tapbridge.model.values import Family, IfName, Mac, network

NIC = IfName("eth0")
OTHER = IfName("eth1")
_LO = IfName("lo")
_SWITCHES = (
    ("ipv4", "rp_filter", st.integers(0, 2)),
    ("ipv4", "arp_ignore", st.integers(0, 2)),
    ("ipv4", "promote_secondaries", st.integers(0, 1)),
    ("ipv6", "accept_ra", st.integers(0, 2)),
    ("ipv6", "forwarding", st.integers(0, 1)),
    ("ipv6", "use_tempaddr", st.integers(0, 2)),
)


@st.composite
def hosts(draw: DrawFn) -> State:
    """A host with the NIC eth0, perhaps a second NIC on the same networks, and any mix of what a NIC can carry."""
    two = draw(st.booleans())
    links = [
        Link(index=1, name=_LO, kind="loopback", up=True, carrier=True, operstate="unknown", ethernet=False),
        _nic(draw, 2, NIC),
        *([_nic(draw, 3, OTHER)] if two else []),
    ]
    switches = [
        Sysctl(link=IfName(name), stack=stack, name=key, value=draw(values))
        for name in ("all", "default", *(link.name for link in links))
        for stack, key, values in _SWITCHES
    ]
    state = State(kernel=(6, 2), links=tuple(links), sysctls=tuple(switches)).sorted()
    for link in links[1:]:
        for address in draw(st.lists(_addresses(link.name), max_size=5)):
            state = put_address(state, address, dad=True)
    for _ in range(draw(st.integers(0, 5))):
        state = _with_route(draw, state)
    state = _with_neighbours(draw, state)
    rules = draw(st.lists(_rules(), max_size=3, unique_by=lambda rule: rule.priority))
    dns = draw(st.sampled_from([(), (LinkDns(link=NIC, servers=("192.0.2.1",), domains=("example.net",)),)]))
    client = Client(link=NIC, program="dhclient", pid=77, argv=("dhclient", NIC))
    daemon = Client(link=NIC, program="NetworkManager", pid=78, argv=("NetworkManager",), profile="before")
    clients = draw(st.sampled_from([(), (client,), (daemon,)]))
    return replace(state, rules=tuple(rules), dns=dns, clients=clients).sorted()


def _nic(draw: DrawFn, index: int, name: IfName) -> Link:
    mac = Mac(f"02:00:00:00:00:{index:02x}")
    return Link(
        index=index,
        name=name,
        kind=draw(st.sampled_from(["", "veth"])),
        mac=mac,
        permanent_mac=draw(st.sampled_from([None, mac])),
        mtu=draw(st.sampled_from([1280, 1400, 1500, 9000, 65535])),
        up=True,
        carrier=True,
        operstate="up",
        altnames=draw(st.sampled_from([(), (f"enp{index}s0",)])),
        addr_gen_mode=draw(st.sampled_from([0, 1, 2, 3])),
        token=draw(st.sampled_from([None, "::42"])),
    )


@st.composite
def _addresses(draw: DrawFn, link: IfName) -> Address:
    family: Family = draw(st.sampled_from([4, 6]))
    host = draw(st.integers(1, 6))
    subnet = draw(st.integers(0, 2))
    lifetime = draw(st.sampled_from([None, None, 3600]))
    metric = draw(st.sampled_from([0, 0, 0, 100, 1024]))
    flags = draw(st.sampled_from([0, NOPREFIXROUTE]))
    if family == 4:
        return Address(
            link=link,
            family=4,
            ip=f"192.0.{subnet}.{host}",
            prefix=draw(st.sampled_from([24, 24, 25, 32])),
            broadcast=draw(st.sampled_from([None, f"192.0.{subnet}.255"])),
            label=draw(st.sampled_from([None, link, f"{link}:1", f"{link}:backup", "odd"])),
            scope=draw(st.sampled_from([0, 0, 253])),
            flags=flags,
            valid_lft=lifetime,
            preferred_lft=lifetime,
            metric=metric,
        )
    ip = draw(st.sampled_from([f"2001:db8:{subnet + 1}::{host}", f"fd00::{host}", f"fe80::{host}"]))
    return Address(
        link=link,
        family=6,
        ip=ip,
        prefix=draw(st.sampled_from([64, 64, 128])),
        scope=253 if ip.startswith("fe80") else 0,
        flags=flags | draw(st.sampled_from([0, MANAGETEMPADDR, 0x01 if lifetime else 0])),
        valid_lft=lifetime,
        preferred_lft=lifetime,
        metric=metric,
    )


def _with_route(draw: DrawFn, state: State) -> State:
    family: Family = draw(st.sampled_from([4, 6]))
    names = [link.name for link in state.links if link.kind != "loopback"]
    hop = Nexthop(link=draw(st.sampled_from(names)), gateway=draw(_gateways(family)))
    hops: tuple[Nexthop, ...] = (hop,)
    if len(names) > 1 and hop.gateway and draw(st.booleans()):
        other = next(name for name in names if name != hop.link)
        hops = (hop, Nexthop(link=other, gateway=hop.gateway, weight=draw(st.integers(1, 3))))
    kind = draw(st.sampled_from(["unicast"] * 6 + ["blackhole"]))
    protocol = draw(st.sampled_from([PROTO_BOOT, PROTO_STATIC, PROTO_DHCP, *([PROTO_RA] if family == 6 else [])]))
    route = Route(
        family=family,
        dst=draw(_destinations(family)),
        table=draw(st.sampled_from([254, 254, 100, 1000])),
        type=kind,
        protocol=protocol,
        scope=0 if family == 6 or hop.gateway else 253,
        metric=draw(st.sampled_from([100, 1024])) if family == 6 else draw(st.sampled_from([0, 100, 600])),
        nexthops=hops if kind == "unicast" else (),
        metrics=draw(st.sampled_from([(), ((2, 1400), (8, 1360))])),
        expires=1800 if protocol == PROTO_RA else None,
    )
    if family == 6 and any(other.slot == route.slot for other in state.routes):
        return put_route(state, route)
    return append_route(state, route)


def _gateways(family: Family) -> st.SearchStrategy[str | None]:
    return st.sampled_from([None, "192.0.2.1"] if family == 4 else [None, "fe80::1", "2001:db8::1"])


def _destinations(family: Family) -> st.SearchStrategy[str]:
    if family == 4:
        return st.sampled_from(["0.0.0.0/0", "198.51.100.0/24", "192.0.2.0/24", network(4, "10.1.2.3", 8)])
    return st.sampled_from(["::/0", "2001:db8:ff::/48", "2001:db8::/64", "fe80::/64"])


@st.composite
def _rules(draw: DrawFn) -> Rule:
    return Rule(
        family=draw(st.sampled_from([4, 6])),
        priority=draw(st.integers(1, 32000)),
        table=draw(st.sampled_from([100, 254])),
        iif=draw(st.sampled_from([None, NIC, OTHER])),
        oif=draw(st.sampled_from([None, None, NIC])),
    )


def _with_neighbours(draw: DrawFn, state: State) -> State:
    entries = {}
    for link in state.links[: draw(st.integers(0, 3))]:
        for host in draw(st.lists(st.integers(1, 4), max_size=3, unique=True)):
            entry = Neighbour(
                link=link.name,
                family=4,
                ip=f"192.0.2.{host}",
                mac=Mac(f"02:00:00:00:01:{host:02x}"),
                state=draw(st.sampled_from([0x80, 0x04, 0x02])),
            )
            entries[entry.link, entry.ip] = entry
    return replace(state, neighbours=tuple(entries.values())).sorted()
