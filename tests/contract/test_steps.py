"""What each step does: `effect` foretells it, the kernel does it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from kit.contract import ODD_PORT, Pair, pair_of
from tapbridge.model.noun import replace
from tapbridge.model.port import Port
from tapbridge.model.state import (
    MANAGETEMPADDR,
    NOPREFIXROUTE,
    PERMANENT,
    PROTO_DHCP,
    PROTO_KERNEL,
    PROTO_RA,
    PROTO_STATIC,
    SCOPE_LINK,
    Address,
    Bridge,
    Neighbour,
    Nexthop,
    Route,
    Rule,
    Sysctl,
)
from tapbridge.model.step import (
    AddLink,
    AddRoute,
    AddRule,
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
    SetMac,
    SetMaster,
    SetMtu,
    SetPort,
    SetSysctl,
    SetUp,
    Step,
)
from tapbridge.model.values import Family, IfName, Mac

NIC, OTHER, BR = IfName("nic0"), IfName("nic1"), IfName("br0")


def family(text: str) -> Family:
    return 6 if ":" in text else 4


def address(text: str, link: IfName = NIC, **more: Any) -> Address:
    ip, _, prefix = text.partition("/")
    if ip.startswith("fe80:"):
        more.setdefault("scope", SCOPE_LINK)
    if family(ip) == 4:
        more.setdefault("label", link)
    return Address(link=link, family=family(ip), ip=ip, prefix=int(prefix), **more)


def route(dst: str, link: IfName | None = NIC, via: str | None = None, *, onlink: bool = False, **more: Any) -> Route:
    if family(dst) == 6:
        more.setdefault("metric", 1024)
    more.setdefault("nexthops", (Nexthop(link=link, gateway=via, onlink=onlink),))
    return Route(family=family(dst), dst=dst, **more)


def ways(*hops: tuple[IfName, str, int]) -> tuple[Nexthop, ...]:
    return tuple(Nexthop(link=link, gateway=via, weight=weight) for link, via, weight in hops)


def neighbour(ip: str, mac: str | None = "02:00:00:00:00:99", link: IfName = NIC, **more: Any) -> Neighbour:
    return Neighbour(link=link, family=family(ip), ip=ip, mac=Mac(mac) if mac else None, **{"state": 0x80, **more})


def bridge(name: IfName = BR, **more: Any) -> AddLink:
    defaults = {"mac": Mac("02:00:00:00:00:01"), "mtu": 1500, "bridge": Bridge(mcast_snooping=False)}
    return AddLink(name=name, kind="bridge", **{**defaults, **more})


CONNECTED = route("10.0.0.0/24", scope=SCOPE_LINK, protocol=PROTO_KERNEL, prefsrc="10.0.0.1")
DEFAULT = route("0.0.0.0/0", via="10.0.0.254", protocol=PROTO_DHCP, metric=100)
RULE = Rule(family=4, priority=1000, table=77, iif="nic0", src="10.0.0.0/8")

CASES: dict[str, list[Step]] = {
    "a bridge": [bridge(), SetUp(link=BR, up=True)],
    "a bridge with every option": [
        bridge(bridge=Bridge(stp=True, forward_delay=300, mcast_snooping=True), up=True, mtu=1400)
    ],
    "a pair for a bridge": [
        bridge(up=True),
        AddLink(name=IfName("keep0"), kind="veth", peer=IfName("keep1"), master=BR, mtu=1500, up=True),
        DeleteLink(link=IfName("keep0")),
    ],
    "a link goes": [DeleteLink(link=OTHER)],
    "a bridge goes from its ports": [bridge(), SetMaster(link=NIC, master=BR), DeleteLink(link=BR)],
    "a link goes down and up": [SetUp(link=OTHER, up=False), SetUp(link=OTHER, up=True)],
    "a port joins, moves and leaves": [
        bridge(),
        bridge(IfName("br1")),
        SetMaster(link=NIC, master=BR),
        SetMaster(link=NIC, master=IfName("br1")),
        SetMaster(link=NIC, master=None),
    ],
    "mtu": [SetMtu(link=NIC, mtu=1400)],
    "mac": [SetMac(link=NIC, mac=Mac("02:00:00:00:00:77"))],
    "alias": [
        SetAlias(link=NIC, alias="tapbridge uplink=02:00:00:00:00:01 guest=a b"),
        SetAlias(link=NIC, alias=None),
    ],
    "address generation": [
        SetAddressGeneration(link=NIC, mode=3, token="::5"),
        SetAddressGeneration(link=NIC, mode=0),
        SetAddressGeneration(link=NIC, mode=1),
    ],
    "a rename": [RenameLink(link=NIC, to=IfName("lan")), SetUp(link=IfName("lan"), up=True)],
    "port flags": [
        bridge(),
        SetMaster(link=NIC, master=BR),
        SetPort(link=NIC, port=ODD_PORT),
        SetPort(link=NIC, port=Port()),
    ],
    "a switch": [
        SetSysctl(sysctl=Sysctl(link=NIC, stack="ipv4", name="rp_filter", value=2)),
        SetSysctl(sysctl=Sysctl(link=NIC, stack="ipv6", name="accept_ra", value=2)),
    ],
    "a first address": [PutAddress(address=address("192.0.2.1/24"))],
    "an address with everything": [
        PutAddress(
            address=address(
                "192.0.2.1/24",
                broadcast="192.0.2.255",
                label="nic0:x",
                valid_lft=1000,
                preferred_lft=500,
                metric=77,
                proto=5,
                flags=0,
            )
        )
    ],
    "an address with a peer": [PutAddress(address=address("192.0.2.1/32", peer="192.0.2.9"))],
    "an address of link scope": [
        PutAddress(address=address("192.0.2.1/24", scope=SCOPE_LINK)),
        PutAddress(address=address("198.51.100.1/24")),
    ],
    "an address of the host alone": [PutAddress(address=address("192.0.2.1/32"))],
    "a secondary address": [PutAddress(address=address("10.0.0.3/24"))],
    "an address without a route": [PutAddress(address=address("192.0.2.1/24", flags=PERMANENT | NOPREFIXROUTE))],
    "an IPv6 address": [PutAddress(address=address("fd02::1/64"))],
    "an IPv6 address with everything": [
        PutAddress(
            address=address(
                "fd02::1/64",
                flags=NOPREFIXROUTE | MANAGETEMPADDR,
                valid_lft=1000,
                preferred_lft=500,
                metric=77,
                proto=5,
            )
        )
    ],
    "an IPv6 address with a metric": [PutAddress(address=address("fd02::1/64", metric=50))],
    "an IPv6 address that ends": [PutAddress(address=address("fd02::1/64", flags=0, valid_lft=900, preferred_lft=90))],
    "an IPv6 address gets its own metric": [
        PutAddress(address=address("fd02::1/64", metric=4000)),
        PutAddress(address=address("fd02::1/64")),
    ],
    "an IPv6 address loses its route": [
        PutAddress(address=address("fd02::1/64")),
        PutAddress(address=address("fd02::1/64", flags=PERMANENT | NOPREFIXROUTE)),
        PutAddress(address=address("fd02::1/64")),
    ],
    "an IPv4 address gets its own metric": [
        PutAddress(address=address("192.0.2.1/24", metric=4000000)),
        PutAddress(address=address("192.0.2.1/24", metric=7)),
        PutAddress(address=address("192.0.2.1/24")),
    ],
    "an address gets other lifetimes": [
        PutAddress(address=address("10.0.0.1/24", valid_lft=900, preferred_lft=90)),
        PutAddress(address=address("10.0.0.1/24")),
        PutAddress(address=address("fd00::1/64", valid_lft=900, preferred_lft=90)),
        PutAddress(address=address("fd00::1/64")),
    ],
    "the primary goes and takes its secondaries": [DeleteAddress(address=address("10.0.0.1/24"))],
    "the primary goes and a secondary is promoted": [
        SetSysctl(sysctl=Sysctl(link=NIC, stack="ipv4", name="promote_secondaries", value=1)),
        PutAddress(address=address("10.0.0.3/24")),
        DeleteAddress(address=address("10.0.0.1/24")),
    ],
    "a secondary goes": [DeleteAddress(address=address("10.0.0.2/24"))],
    "the last IPv4 address goes, and every IPv4 route": [
        AddRoute(route=route("203.0.113.0/24", OTHER, via="10.1.0.9")),
        DeleteAddress(address=address("10.1.0.1/24", OTHER)),
    ],
    "one IPv6 address of two goes": [DeleteAddress(address=address("fd00::1/64"))],
    "both IPv6 addresses of a subnet go": [
        DeleteAddress(address=address("fd00::1/64")),
        DeleteAddress(address=address("fd00::2/64")),
    ],
    "an address that others stand on goes": [
        PutAddress(address=address("192.0.2.1/32", OTHER)),
        AddRoute(route=route("203.0.113.0/24", prefsrc="192.0.2.1")),
        DeleteAddress(address=address("192.0.2.1/32", OTHER)),
    ],
    "an IPv6 address that a route prefers goes": [
        AddRoute(route=route("fd09::/64", prefsrc="fd00::1")),
        DeleteAddress(address=address("fd00::1/64")),
    ],
    "the same address on two links": [
        PutAddress(address=address("10.0.0.1/24", OTHER, metric=4000000)),
        PutAddress(address=address("fd00::1/64", OTHER, metric=4000000)),
        DeleteAddress(address=address("10.0.0.1/24")),
        DeleteAddress(address=address("fd00::1/64")),
    ],
    "a route": [AddRoute(route=route("203.0.113.0/24", via="10.0.0.9"))],
    "a route with everything": [
        AddRoute(
            route=route(
                "203.0.113.0/24",
                via="192.0.2.9",
                onlink=True,
                table=1000,
                tos=0x10,
                protocol=PROTO_STATIC,
                metric=5,
                prefsrc="10.0.0.2",
                realm=3,
                metrics=((2, 1400), (8, 1360), (11, 20), (16, "reno")),
            )
        )
    ],
    "an IPv6 route with everything": [
        AddRoute(
            route=route(
                "fd09::/64",
                via="fd00::9",
                table=1000,
                protocol=PROTO_STATIC,
                metric=5,
                prefsrc="fd00::2",
                pref=1,
                expires=1000,
                metrics=((2, 1400), (8, 1360)),
            )
        )
    ],
    "a route by an IPv6 gateway": [AddRoute(route=route("203.0.113.0/24", via="fe80::9"))],
    "routes that lead nowhere": [
        AddRoute(route=route("203.0.113.0/24", type=word, metric=metric, nexthops=()))
        for metric, word in enumerate(("blackhole", "unreachable", "prohibit", "throw"), 1)
    ],
    "an IPv6 route that leads nowhere": [AddRoute(route=route("fd09::/64", IfName("lo"), type="unreachable"))],
    "several ways": [
        AddRoute(route=route("203.0.113.0/24", nexthops=ways((NIC, "10.0.0.9", 1), (OTHER, "10.1.0.9", 5)))),
        AddRoute(route=route("fd09::/64", nexthops=ways((NIC, "fd00::9", 1), (OTHER, "fd01::9", 3)))),
        DeleteRoute(route=route("203.0.113.0/24", nexthops=ways((NIC, "10.0.0.9", 1), (OTHER, "10.1.0.9", 5)))),
        DeleteRoute(route=route("fd09::/64", nexthops=ways((NIC, "fd00::9", 1), (OTHER, "fd01::9", 3)))),
    ],
    "a route behind another of its slot": [
        AddRoute(route=route("203.0.113.0/24", via="10.0.0.8")),
        AddRoute(route=route("203.0.113.0/24", via="10.0.0.9")),
        AddRoute(route=route("203.0.113.0/24", via="10.0.0.9")),
        AddRoute(route=route("203.0.113.0/24", via="10.0.0.7"), first=True),
    ],
    "a route is put that is there behind another": [
        AddRoute(route=route("203.0.113.0/24", via="10.0.0.8")),
        AddRoute(route=route("203.0.113.0/24", via="10.0.0.9")),
        PutRoute(route=route("203.0.113.0/24", via="10.0.0.9")),
        PutRoute(route=route("203.0.113.0/24", via="10.0.0.8")),
    ],
    "a route of several ways is put as one of one": [
        AddRoute(route=route("203.0.113.0/24", nexthops=ways((NIC, "10.0.0.9", 1), (OTHER, "10.1.0.9", 5)))),
        AddRoute(route=route("fd09::/64", nexthops=ways((NIC, "fd00::9", 1), (OTHER, "fd01::9", 3)))),
        PutRoute(route=route("203.0.113.0/24", via="10.0.0.8")),
        PutRoute(route=route("fd09::/64", via="fd00::8")),
    ],
    "a link of one of several ways goes": [
        AddRoute(route=route("203.0.113.0/24", nexthops=ways((NIC, "10.0.0.9", 1), (OTHER, "10.1.0.9", 5)))),
        AddRoute(route=route("fd09::/64", nexthops=ways((NIC, "fd00::9", 1), (OTHER, "fd01::9", 3)))),
        SetUp(link=OTHER, up=False),
        SetUp(link=OTHER, up=True),
        DeleteLink(link=OTHER),
    ],
    "a connected route is put elsewhere": [
        PutAddress(address=address("10.0.0.1/24", OTHER, metric=4000000)),
        PutRoute(route=replace(CONNECTED, nexthops=(Nexthop(link=OTHER),))),
        PutRoute(route=replace(CONNECTED, nexthops=(Nexthop(link=OTHER),))),
        DeleteAddress(address=address("10.0.0.2/24")),
    ],
    "a default route is put elsewhere": [
        PutAddress(address=address("10.0.0.1/24", OTHER, metric=4000000)),
        PutRoute(route=replace(DEFAULT, nexthops=ways((OTHER, "10.0.0.254", 1)))),
    ],
    "an IPv6 route is put elsewhere": [
        PutAddress(address=address("fe80::1/64", OTHER, metric=4000000)),
        PutRoute(route=route("::/0", OTHER, via="fe80::ff", metric=512)),
    ],
    "a connected IPv6 route is put elsewhere": [
        PutRoute(route=route("fd00::/64", OTHER, protocol=PROTO_KERNEL, metric=256)),
    ],
    "a route is put where there is none": [PutRoute(route=route("203.0.113.0/24", via="10.0.0.9", metric=9))],
    "a route gets other metrics": [
        PutRoute(route=replace(DEFAULT, metrics=((2, 1300),))),
        PutRoute(route=replace(DEFAULT, metrics=())),
    ],
    "one route of two metrics goes": [
        AddRoute(route=replace(DEFAULT, metric=0)),
        AddRoute(route=replace(DEFAULT, metric=4000000)),
        DeleteRoute(route=replace(DEFAULT, metric=0)),
        DeleteRoute(route=replace(DEFAULT, metric=0)),
        DeleteRoute(route=replace(DEFAULT, metric=4000000)),
    ],
    "a connected IPv6 route goes beside one with a gateway": [
        AddRoute(route=route("fd09::/64")),
        AddRoute(route=route("fd09::/64", via="fd00::9")),
        DeleteRoute(route=route("fd09::/64")),
        DeleteRoute(route=route("fd09::/64")),
    ],
    "a neighbour": [
        PutNeighbour(neighbour=neighbour("10.0.0.9")),
        PutNeighbour(neighbour=neighbour("10.0.0.9", "02:00:00:00:00:98")),
        PutNeighbour(neighbour=neighbour("fd00::9")),
        DeleteNeighbour(neighbour=neighbour("10.0.0.9")),
    ],
    "a proxied neighbour": [
        PutNeighbour(neighbour=neighbour("10.0.0.9", None, state=0, flags=0x08)),
        PutNeighbour(neighbour=neighbour("fd00::9", None, state=0, flags=0x08)),
        DeleteNeighbour(neighbour=neighbour("10.0.0.9", None, state=0, flags=0x08)),
    ],
    "a rule": [AddRule(rule=RULE), AddRule(rule=RULE), DeleteRule(rule=RULE), DeleteRule(rule=RULE)],
    "a rule with everything": [
        AddRule(
            rule=replace(
                RULE,
                table=1000,
                dst="192.0.2.0/24",
                oif="nic1",
                fwmark=16,
                fwmask=255,
                tos=16,
                invert=True,
                protocol=PROTO_STATIC,
                rest=((20, "0a00000014000000"), (22, "06"), (23, "01000200")),
            )
        ),
        AddRule(rule=Rule(family=6, priority=7, action="unreachable", oif="nic0", src="fd00::/8")),
    ],
    "a rule goes beside a narrower one": [
        AddRule(rule=RULE),
        AddRule(rule=replace(RULE, fwmark=1, fwmask=0xFFFFFFFF)),
        DeleteRule(rule=RULE),
        DeleteRule(rule=RULE),
    ],
}


@pytest.fixture
def pair() -> Iterator[Pair]:
    with pair_of() as made:
        yield made


@pytest.mark.parametrize("steps", CASES.values(), ids=CASES.keys())
def test_the_kernel_does_what_effect_foretells(pair: Pair, steps: list[Step]) -> None:
    pair.assert_same("nothing")
    for step in steps:
        pair.perform(step)
        pair.assert_same(step)


def test_what_routers_have_advertised_goes_from_one_link_whether_it_was_known_or_not(pair: Pair) -> None:
    told = [
        AddRoute(route=route("::/0", via="fd00::9", protocol=PROTO_RA)),
        AddRoute(route=route("fd08::/64", via="fd00::9", protocol=PROTO_RA, metric=1025)),
        AddRoute(route=route("fd05::/64", link=OTHER, protocol=PROTO_RA)),
    ]
    pair.perform(*told)
    pair.perform(DropRouterRoutes(link=NIC))
    pair.assert_same("the routers' routes have gone")
    left = {r.dst for r in pair.kernel.observe().routes if r.protocol == PROTO_RA}
    assert left == {"fd05::/64"}
    pair.perform(DropRouterRoutes(link=NIC), DropRouterRoutes(link=IfName("gone0")))


@pytest.mark.parametrize("steps", CASES.values(), ids=CASES.keys())
def test_a_batch_is_its_steps_one_after_the_other(pair: Pair, steps: list[Step]) -> None:
    pair.perform(*steps)
    pair.assert_same(steps)
