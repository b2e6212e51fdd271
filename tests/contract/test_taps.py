"""What the steps of taps do: `effect` foretells it, the kernel does it; and the way back makes a deleted one again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from kit.contract import Pair, pair_of
from tapbridge.core.attach import port_steps
from tapbridge.core.compare import differences
from tapbridge.core.restore import restore
from tapbridge.model.errors import HostError
from tapbridge.model.port import Port
from tapbridge.model.state import Bridge, Tap
from tapbridge.model.step import (
    AddLink,
    AddTap,
    DeleteLink,
    DeleteTaps,
    SetAddressGeneration,
    SetAlias,
    SetMaster,
    SetMtu,
    SetPort,
    SetUp,
    Step,
)
from tapbridge.model.values import IfName, Mac

BR, TAP, OTHER = IfName("br0"), IfName("tap0"), IfName("tap1")
BRIDGE = AddLink(name=BR, kind="bridge", mac=Mac("02:00:00:00:00:01"), mtu=1500, bridge=Bridge(mcast_snooping=False))


def tap(name: IfName = TAP, **more: Any) -> AddTap:
    defaults = {"mac": Mac("fe:00:00:00:00:01"), "tap": Tap(persist=True, vnet_hdr=True), "alias": "tapbridge tap"}
    return AddTap(name=name, **{**defaults, **more})


CASES: dict[str, list[Step]] = {
    "a tap": [tap(), SetUp(link=TAP, up=True), DeleteLink(link=TAP)],
    "taps with everything": [
        tap(tap=Tap(owner=65534, persist=True, multi_queue=True, vnet_hdr=True), altnames=("a-tap", "b-tap")),
        tap(OTHER, tap=Tap(group=100, persist=True), alias=None),
    ],
    "a tap joins a bridge and leaves it": [
        BRIDGE,
        SetMtu(link=BR, mtu=1400),
        tap(),
        SetAddressGeneration(link=TAP, mode=1),
        SetMtu(link=TAP, mtu=1400),
        SetMaster(link=TAP, master=BR),
        SetUp(link=TAP, up=True),
        SetMaster(link=TAP, master=None),
    ],
    "taps with their place": [
        BRIDGE,
        SetUp(link=BR, up=True),
        tap(master=BR, up=True, addr_gen_mode=1, altnames=("a-tap",)),
        SetMtu(link=BR, mtu=1400),
        tap(OTHER, mtu=1400, master=BR),
        DeleteLink(link=TAP),
    ],
    "taps go at once": [
        BRIDGE,
        *(tap(IfName(f"tap{number}")) for number in range(3)),
        SetMaster(link=OTHER, master=BR),
        DeleteTaps(taps=(TAP, OTHER, IfName("tap7"))),
        DeleteTaps(taps=(TAP, IfName("tap2"))),
        DeleteTaps(taps=(TAP, IfName("tap2"))),
    ],
}


@pytest.fixture
def pair() -> Iterator[Pair]:
    with pair_of() as made:
        yield made


@pytest.mark.parametrize("steps", CASES.values(), ids=CASES.keys())
def test_the_kernel_does_what_effect_foretells(pair: Pair, steps: list[Step]) -> None:
    for step in steps:
        pair.perform(step)
        pair.assert_same(step)


def test_a_tap_is_not_made_of_one_that_is_there(pair: Pair) -> None:
    pair.perform(tap())
    with pytest.raises(HostError, match="busy"):
        pair.kernel.perform([tap(mac=Mac("fe:00:00:00:00:02"))])
    pair.assert_same("nothing")


def test_a_tap_whose_bridge_is_not_there_is_not_made(pair: Pair) -> None:
    with pytest.raises(HostError, match="there is no link 'br0'"):
        pair.kernel.perform([tap(master=BR)])
    pair.assert_same("nothing")


@pytest.mark.parametrize("foreign", [OTHER, IfName("nic0")])
def test_taps_are_deleted_only_if_all_of_them_are_ours_at_that_moment(pair: Pair, foreign: IfName) -> None:
    pair.perform(tap(), tap(OTHER), SetAlias(link=OTHER, alias="mine"))
    with pytest.raises(HostError, match=f"{foreign} is no tap of ours any more"):
        pair.kernel.perform([DeleteTaps(taps=(TAP, foreign))])
    pair.assert_same("nothing")


def test_the_way_back_takes_a_begun_tap_away_and_makes_a_deleted_one_again(pair: Pair) -> None:
    kept = tap(OTHER, tap=Tap(owner=65534, persist=True, vnet_hdr=True), altnames=("mine",))
    pair.perform(BRIDGE, SetMtu(link=BR, mtu=1400), SetUp(link=BR, up=True), kept)
    bridge = pair.kernel.observe().link(BR)
    pair.perform(*port_steps(OTHER, bridge, ipv6=True), SetPort(link=OTHER, port=Port(isolated=True)))
    before = pair.kernel.observe()
    pair.perform(tap(), DeleteTaps(taps=(OTHER,)))
    back = restore(before, pair.kernel.observe(), (TAP, OTHER))
    pair.perform(*back.steps)
    pair.assert_same("the way back")
    end = pair.kernel.observe()
    assert differences(before, end, tuple(link.name for link in (*before.links, *end.links))) == ()
    assert restore(before, end, (TAP, OTHER)).steps == ()


def test_the_way_back_of_others_leaves_a_guest_s_tap_alone(pair: Pair) -> None:
    before = pair.kernel.observe()
    pair.perform(tap(alias="tapbridge guest=web"))
    assert restore(before, pair.kernel.observe(), (IfName("nic0"),)).steps == ()
