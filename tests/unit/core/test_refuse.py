"""Kinds of links that this machine's kernel may lack: which can be the uplink, and what is said of the others."""

from __future__ import annotations

from typing import Any

import pytest

from tapbridge.core.adopt import require_adoption
from tapbridge.core.forecast import adoption_risks
from tapbridge.model.errors import Refused
from tapbridge.model.intent import Adopt
from tapbridge.model.state import Link, State
from tapbridge.model.values import IfName, Mac

ETH0 = IfName("eth0")
MAC = Mac("02:00:00:00:01:02")


def nic(kind: str = "", **more: Any) -> Link:
    return Link(name=ETH0, kind=kind, mac=MAC, up=True, carrier=True, **more)


def on(parent: str, kind: str, **more: Any) -> Link:
    return Link(name=IfName("on0"), kind=kind, mac=MAC, parent=IfName(parent), **more)


@pytest.mark.parametrize("kind", ["", "bond", "team", "vlan"])
def test_a_link_that_carries_any_frame_can_be_the_uplink(kind: str) -> None:
    assert require_adoption(Adopt(nic=ETH0), State(links=(nic(kind),))).name == ETH0


@pytest.mark.parametrize(
    ("kind", "phrase"),
    [
        ("wifi", "access point"),
        ("vrf", "a set of routes"),
        ("openvswitch", "a bridge already"),
        ("ipvlan", "cannot carry"),
        ("ipvtap", "cannot carry"),
    ],
)
def test_a_link_that_does_not_is_refused_with_what_helps_instead(kind: str, phrase: str) -> None:
    with pytest.raises(Refused, match=phrase) as refused:
        require_adoption(Adopt(nic=ETH0, force=True), State(links=(nic(kind),)))
    assert refused.value.hint


@pytest.mark.parametrize(
    ("kind", "hint"),
    [
        ("bond", "tapbridge up up0"),
        ("team", "tapbridge up up0"),
        ("vrf", "ip link set eth0 nomaster"),
        ("openvswitch", "ovs-vsctl add-port"),
    ],
)
def test_a_port_of_something_else_is_refused_with_what_can_be_done(kind: str, hint: str) -> None:
    port = nic(master=IfName("up0"), master_kind=kind)
    with pytest.raises(Refused, match=f"is a port of the {kind} up0") as refused:
        require_adoption(Adopt(nic=ETH0, force=True), State(links=(port,)))
    assert refused.value.hint is not None
    assert hint in refused.value.hint


@pytest.mark.parametrize("kind", ["macvlan", "macvtap", "ipvlan", "ipvtap"])
def test_what_takes_the_nic_for_itself_is_named(kind: str) -> None:
    with pytest.raises(Refused, match=f"the {kind} on0"):
        require_adoption(Adopt(nic=ETH0, force=True), State(links=(nic(), on("eth0", kind))))


def test_a_vlan_on_the_nic_is_told_of_with_what_its_guests_can_do() -> None:
    state = State(links=(nic(), on("eth0", "vlan"), Link(name=IfName("other0"), kind="vlan", parent=IfName("eth1"))))
    (finding,) = adoption_risks(state, nic(), Adopt(nic=ETH0))
    assert (finding.code, finding.subject) == ("vlan-stays", "on0")
    assert finding.fix is not None
    assert "tapbridge up on0" in finding.fix
    (port,) = adoption_risks(State(links=(nic(), on("eth0", "vlan", master=IfName("br7")))), nic(), Adopt(nic=ETH0))
    assert port.fix is None
