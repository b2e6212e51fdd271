"""Who is what on a bridge."""

from __future__ import annotations

from typing import Any

import pytest

from tapbridge.core.topology import find_guest_name, find_uplink
from tapbridge.model.state import Address, Link, Nexthop, Route, State
from tapbridge.model.values import IfName, Mac

BR0 = IfName("br0")


def port(name: str, kind: str, **more: Any) -> Link:
    return Link(name=IfName(name), kind=kind, master=BR0, master_kind="bridge", **more)


def state(*ports: Link, alias: str | None = None, **more: Any) -> State:
    return State(links=(Link(name=BR0, kind="bridge", alias=alias), *ports), **more).sorted()


def uplink(of: State) -> str | None:
    found = find_uplink(of, "br0")
    return None if found is None else found.name


@pytest.mark.parametrize("kind", ["", "vlan", "bond", "team", "wifi"])
def test_the_only_card_is_the_uplink(kind: str) -> None:
    assert uplink(state(port("up0", kind), port("t0", "tap"), port("v0", "veth"))) == "up0"


def test_which_of_two_cards_is_the_uplink_is_not_guessed() -> None:
    assert uplink(state(port("eth0", ""), port("eth1", ""))) is None


def test_our_mark_says_which_of_two_cards_it_is() -> None:
    cards = (port("eth0", "", mac=Mac("02:00:00:00:00:01")), port("eth1", "veth", mac=Mac("02:00:00:00:00:02")))
    assert uplink(state(*cards, alias="tapbridge uplink=02:00:00:00:00:02 nic=eth1")) == "eth1"


def test_a_mark_whose_card_has_gone_leaves_the_only_card() -> None:
    marked = "tapbridge uplink=02:00:00:00:00:09 nic=eth9"
    assert uplink(state(port("eth0", "", mac=Mac("02:00:00:00:00:01")), alias=marked)) == "eth0"


def test_a_container_s_end_is_no_uplink() -> None:
    address = Address(link=BR0, family=4, ip="172.17.0.1", prefix=16)
    assert uplink(state(port("veth1", "veth"), addresses=(address,))) is None


def test_a_veth_behind_which_the_host_lives_is_the_uplink() -> None:
    route = Route(family=4, dst="0.0.0.0/0", nexthops=(Nexthop(link=BR0, gateway="192.0.2.1"),))
    assert uplink(state(port("veth1", "veth"), routes=(route,))) == "veth1"
    leased = Address(link=BR0, family=4, ip="192.0.2.5", prefix=24, valid_lft=600)
    assert uplink(state(port("veth1", "veth"), addresses=(leased,))) == "veth1"


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("tapbridge guest=web", "web"),
        ("tapbridge guest=the web guest=x", "the web guest=x"),
        ("tapbridge guard=mac guest=web guard=ip", "web guard=ip"),
        ("tapbridge guard=ip guest=", None),
        ("tapbridge guard=all guest=web", None),
        ("tapbridge guest=", None),
        ("tapbridge", None),
        ("other guest=web", None),
        (None, None),
    ],
)
def test_everything_behind_guest_is_the_name(alias: str | None, name: str | None) -> None:
    assert find_guest_name(port("t0", "tap", alias=alias)) == name
