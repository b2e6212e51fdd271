"""The encoders: what they write, the decoders read; the kernel has one layout for both directions."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.recorded import NAMES, nouns
from tapbridge.linux import uapi
from tapbridge.linux.attributes import pack_u8, walk
from tapbridge.linux.decode_addresses import decode_addresses, decode_neighbours
from tapbridge.linux.decode_links import decode_vlans
from tapbridge.linux.decode_routes import decode_routes, decode_rules
from tapbridge.linux.encode import encode_step
from tapbridge.model.state import Address, Neighbour, Nexthop, Route, Rule, Vlans
from tapbridge.model.step import (
    AddRoute,
    AddRule,
    DeleteAddress,
    DeleteLink,
    DeleteVlans,
    PutAddress,
    PutNeighbour,
    PutRoute,
    PutVlans,
    SetUp,
    Step,
)
from tapbridge.model.values import IfName, parse_ip

NUMBERS: dict[str, int] = {name: index for index, name in NAMES.items()}
NIC = IfName("nic1")
u32 = st.integers(0, 0xFFFFFFFF)
links = st.sampled_from([IfName("nic1"), IfName("br0")])
ips4 = st.ip_addresses(v=4).map(lambda ip: parse_ip(str(ip))[1])
ips6 = st.ip_addresses(v=6).map(lambda ip: parse_ip(str(ip))[1])


def body(step: Step) -> bytes:
    return encode_step(step, NUMBERS.__getitem__)[0].body


@given(st.tuples(st.integers(1, 4094), st.integers(1, 4094)).map(sorted), st.booleans(), st.booleans())
def test_vlans(ends: list[int], pvid: bool, untagged: bool) -> None:
    vlans = Vlans(first=ends[0], last=ends[1], pvid=pvid, untagged=untagged)
    for step in (PutVlans(link=NIC, vlans=vlans), DeleteVlans(link=NIC, vlans=vlans)):
        assert decode_vlans([body(step)]) == {NUMBERS[NIC]: (vlans,)}


def test_a_card_that_is_told_of_once_more_without_vlans_keeps_them() -> None:
    told = body(PutVlans(link=NIC, vlans=Vlans(first=7, last=7)))
    again = told[:16] + pack_u8(uapi.IFLA_OPERSTATE, 6)
    assert decode_vlans([told, again]) == {NUMBERS[NIC]: (Vlans(first=7, last=7),)}


def hops(gateways: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[Nexthop, ...]]:
    hop = st.builds(Nexthop, link=links, gateway=st.none() | gateways, onlink=st.booleans())
    several = st.builds(Nexthop, link=links, gateway=st.none() | gateways, weight=st.integers(1, 256))
    return hop.map(lambda one: (one,)) | st.lists(several, min_size=2, max_size=4).map(tuple) | st.just(())


def routes(family: Any, ips: st.SearchStrategy[str], bits: int) -> st.SearchStrategy[Route]:
    prefix = st.builds(lambda ip, size: f"{ip}/{size}", ips, st.integers(1, bits)) | st.just(
        "0.0.0.0/0" if family == 4 else "::/0"
    )
    return st.builds(
        Route,
        family=st.just(family),
        dst=prefix,
        table=st.integers(1, 0xFFFFFFFF),
        type=st.sampled_from(["unicast", "blackhole", "unreachable", "throw"]),
        tos=st.integers(0, 255),
        scope=st.integers(0, 255),
        protocol=st.integers(3, 255),
        metric=u32,
        prefsrc=st.none() | ips,
        nexthops=hops(ips),
        metrics=st.dictionaries(st.integers(1, 15), u32).map(lambda found: tuple(found.items())),
        pref=st.sampled_from([0, 1, 3]),
        realm=u32,
    )


@given(routes(4, ips4, 32) | routes(6, ips6, 128))
def test_a_route_is_read_as_it_was_written(route: Route) -> None:
    assert decode_routes([body(PutRoute(route=route))], NAMES) == (route,)


@given(
    st.builds(
        Rule,
        family=st.just(4),
        priority=u32,
        table=u32,
        action=st.sampled_from(["lookup", "goto", "nop", "blackhole", "unreachable", "prohibit", "9"]),
        src=st.none() | ips4.map(lambda ip: f"{ip}/24"),
        dst=st.none() | ips4.map(lambda ip: f"{ip}/8"),
        iif=st.none() | links,
        oif=st.none() | links,
        fwmark=st.none() | u32,
        fwmask=st.none() | u32,
        tos=st.integers(0, 255),
        invert=st.booleans(),
        protocol=st.integers(0, 255),
        rest=st.dictionaries(st.integers(22, 31), st.binary(max_size=8).map(bytes.hex)).map(
            lambda found: tuple(sorted(found.items()))
        ),
    )
)
def test_a_rule_is_read_as_it_was_written(rule: Rule) -> None:
    assert decode_rules([body(AddRule(rule=rule))]) == (rule,)


@pytest.mark.parametrize("route", [*nouns("routes4"), *nouns("routes6")], ids=lambda route: route.dst)
def test_every_recorded_route_can_be_made_again(route: Route) -> None:
    made = walk(body(AddRoute(route=route)), 12)
    if route.nexthop_object:
        assert 30 in made
        assert 5 not in made
    elif route.expires is None:
        assert decode_routes([body(AddRoute(route=route))], NAMES) == (route,)
    else:
        assert made[23] == route.expires.to_bytes(4, "little")


@pytest.mark.parametrize("address", nouns("addresses"), ids=lambda address: address.ip)
def test_every_recorded_address_can_be_made_again(address: Address) -> None:
    made = decode_addresses([body(PutAddress(address=address, dad=True))], NAMES)[0]
    kept = {name: getattr(address, name) for name in address.__dataclass_fields__ if name not in ("flags",)}
    assert {name: getattr(made, name) for name in kept} == kept
    assert made.flags == address.flags & 0x302, "only what asks for something: nodad, mngtmpaddr, noprefixroute"


@pytest.mark.parametrize("neighbour", [*nouns("neighbours"), *nouns("proxies")], ids=lambda one: one.ip)
def test_every_recorded_neighbour_can_be_made_again(neighbour: Neighbour) -> None:
    assert decode_neighbours([body(PutNeighbour(neighbour=neighbour))], NAMES) == (neighbour,)


def test_an_address_is_deleted_whatever_its_label() -> None:
    address = Address(link=NIC, family=4, ip="192.0.2.1", prefix=24, label="nic1:x", broadcast="192.0.2.255")
    assert set(walk(body(DeleteAddress(address=address)), 8)) == {1, 2}


def test_an_address_is_put_without_a_probe_unless_that_is_asked_for() -> None:
    address = Address(link=NIC, family=6, ip="2001:db8::9", prefix=64)
    assert walk(body(PutAddress(address=address)), 8)[8] == b"\x02\0\0\0"
    assert walk(body(PutAddress(address=address, dad=True)), 8)[8] == bytes(4)


def test_a_lifetime_of_nothing_is_a_second_and_never_forever() -> None:
    address = Address(link=NIC, family=4, ip="192.0.2.1", prefix=24, valid_lft=0, preferred_lft=9)
    assert walk(body(PutAddress(address=address)), 8)[6][:8] == b"\1\0\0\0\1\0\0\0"


def test_a_route_into_a_tunnel_is_refused_not_flattened() -> None:
    route = Route(family=4, dst="10.0.0.0/8", nexthops=(Nexthop(link=NIC, encap="mpls"),))
    with pytest.raises(OSError, match="mpls encapsulation") as caught:
        body(PutRoute(route=route))
    assert caught.value.errno == errno.EOPNOTSUPP


def test_only_a_deletion_forgives() -> None:
    assert encode_step(DeleteLink(link=NIC), NUMBERS.__getitem__)[0].forgiven
    assert not encode_step(SetUp(link=NIC, up=True), NUMBERS.__getitem__)[0].forgiven
