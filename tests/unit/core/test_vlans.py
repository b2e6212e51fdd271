"""VLANs on a bridge: what is planned for a tap, what is refused, and the way back."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapbridge.core.access import access_steps, find_access, require_access, restore_vlans
from tapbridge.core.adopt import adopt
from tapbridge.core.attach import with_taps
from tapbridge.core.describe import describe
from tapbridge.core.effect import fold
from tapbridge.core.mark import make_mark
from tapbridge.core.restore import restore
from tapbridge.core.taps import add_tap, return_taps, verify_tap
from tapbridge.core.verify import verify
from tapbridge.core.vlans import VLAN, drop_vlans, find_pvid, is_in, numbers, one_vlan, put_vlans
from tapbridge.model.errors import Refused
from tapbridge.model.intent import Adopt, MakeTap
from tapbridge.model.noun import replace
from tapbridge.model.port import Port
from tapbridge.model.state import Address, Bridge, Link, State, Vlans
from tapbridge.model.step import PutVlans, SetMaster, SetUp, SetVlanFiltering
from tapbridge.model.values import IfName, Mac

BR, ETH0, T0 = IfName("br0"), IfName("eth0"), IfName("t0")
MAC = Mac("02:00:00:00:00:01")
OWN = (one_vlan(1, access=True),)
NIC = Link(index=2, name=ETH0, mac=MAC, up=True, carrier=True, operstate="up")
PORT = replace(NIC, master=BR, master_kind="bridge", port=Port(), vlans=OWN)
BRIDGE = Link(index=3, name=BR, kind="bridge", mac=MAC, up=True, carrier=True, operstate="up", alias=make_mark(NIC))
AWARE = replace(BRIDGE, bridge=Bridge(vlan_filtering=True), vlans=OWN)
ADDRESS = Address(link=BR, family=4, ip="192.0.2.7", prefix=24)
HOST = State(links=(AWARE, PORT), addresses=(ADDRESS,))
UNAWARE = State(links=(replace(BRIDGE, bridge=Bridge()), replace(PORT, vlans=())), addresses=(ADDRESS,))
INTENT = MakeTap(name=T0, owner=1000, bridge=BR, vlan=7)
few = st.integers(1, 12)
some = st.builds(
    lambda first, more, untagged: Vlans(first=first, last=first + more, untagged=untagged),
    few,
    st.integers(0, 4),
    st.booleans(),
) | st.builds(
    lambda number, untagged: Vlans(first=number, last=number, pvid=True, untagged=untagged), few, st.booleans()
)


def put(*several: Vlans) -> tuple[Vlans, ...]:
    there: tuple[Vlans, ...] = ()
    for vlans in several:
        there = put_vlans(there, vlans)
    return there


def told(vlans: tuple[Vlans, ...]) -> dict[int, tuple[bool, bool]]:
    return {number: (one.pvid, one.untagged) for one in vlans for number in numbers(one)}


@given(st.lists(some, max_size=6), some)
def test_a_port_is_in_what_it_was_put_in_less_what_it_was_taken_out_of(several: list[Vlans], gone: Vlans) -> None:
    there = put(*several)
    meant: dict[int, tuple[bool, bool]] = {}
    for one in several:
        meant = {number: (False if one.pvid else pvid, untagged) for number, (pvid, untagged) in meant.items()}
        meant |= dict.fromkeys(numbers(one), (one.pvid, one.untagged))
    assert told(there) == meant
    assert told(drop_vlans(there, gone)) == {n: how for n, how in meant.items() if n not in numbers(gone)}
    assert all(
        (one.last + 1, one.pvid, one.untagged) != (two.first, two.pvid, two.untagged) for one, two in pairwise(there)
    )


@given(st.lists(some, min_size=1, max_size=5), st.lists(some, max_size=5), st.booleans())
def test_a_port_gets_back_into_its_vlans_and_nothing_is_done_twice(
    was: list[Vlans], now: list[Vlans], on: bool
) -> None:
    before = replace(HOST, links=(AWARE, replace(PORT, vlans=put(*was))))
    after = replace(HOST, links=(AWARE, replace(PORT, vlans=put(*now))))
    if not on:
        after = fold((SetVlanFiltering(link=BR, on=False),), after)
    back = restore(before, after, (BR, ETH0))
    assert fold(back.steps, after).links == before.links
    assert restore(before, before, (BR, ETH0)).steps == ()


def test_a_bridge_that_told_none_apart_says_nothing_of_its_ports() -> None:
    after = fold((SetVlanFiltering(link=BR, on=True), PutVlans(link=ETH0, vlans=one_vlan(7))), UNAWARE)
    pairs = [(was, now) for was, now in zip(UNAWARE.links, after.links, strict=True)]
    assert list(restore_vlans(pairs)) == [SetVlanFiltering(link=BR, on=False)]
    assert fold(tuple(restore_vlans(pairs)), after).links == UNAWARE.links


@given(st.sampled_from([1, 2, 7, 4094]), st.sampled_from([0, 1, 7]))
def test_a_tap_is_in_its_vlan_alone_and_the_uplink_leads_there(vlan: int, default: int) -> None:
    own = (one_vlan(default, access=True),) if default else ()
    bridge = replace(AWARE, bridge=Bridge(vlan_filtering=True, default_pvid=default), vlans=own)
    tap = Link(index=4, name=T0, kind="tap")
    state = State(links=(bridge, replace(PORT, vlans=own), tap))
    access = require_access(bridge, vlan, state)
    assert access is not None
    after = fold((SetMaster(link=T0, master=BR), *access_steps(T0, bridge, access)), state)
    port, uplink = after.link(T0), after.link(ETH0)
    assert port is not None
    assert uplink is not None
    assert port.vlans == (one_vlan(vlan, access=True),)
    assert is_in(uplink, vlan)
    assert find_pvid(uplink) == (default or None)


def test_what_would_not_lead_into_the_vlan_is_refused() -> None:
    with pytest.raises(Refused, match="br0 does not tell VLANs apart") as refused:
        require_access(UNAWARE.links[0], 7, UNAWARE)
    assert "tapbridge up eth0 --vlan-aware" in str(refused.value.hint)
    foreign = replace(UNAWARE.links[0], alias=None)
    with pytest.raises(Refused) as refused:
        require_access(foreign, 7, State(links=(foreign, UNAWARE.links[1])))
    assert "ip link set br0 type bridge vlan_filtering 1" in str(refused.value.hint)
    state = replace(HOST, links=(*HOST.links, Link(name=IfName("lan"), kind="vlan", parent=ETH0, vlan_id=7)))
    with pytest.raises(Refused, match="lan on eth0 takes the frames of VLAN 7"):
        require_access(AWARE, 7, state)
    assert require_access(AWARE, 8, state) is not None
    assert require_access(AWARE, None, state) is None
    assert find_access(None, 7, state) is None


def test_a_bridge_is_made_so_or_told_so_once() -> None:
    host = State(links=(NIC,), addresses=(replace(ADDRESS, link=ETH0),))
    intent = Adopt(nic=ETH0, vlan_aware=True)
    after = adopt(intent, host).after
    assert verify(intent, after).ok
    assert [link.vlans for link in after.links] == [OWN, OWN]
    assert adopt(intent, after).stages == ()
    plan = adopt(intent, UNAWARE)
    assert plan.steps == (SetVlanFiltering(link=BR, on=True),)
    assert not verify(intent, UNAWARE).ok
    assert verify(intent, plan.after).ok
    assert adopt(replace(intent, vlan_aware=False), HOST).stages == ()
    orphan = State(links=(replace(UNAWARE.links[0], carrier=False), NIC), addresses=(replace(ADDRESS, link=ETH0),))
    assert verify(intent, adopt(intent, orphan).after).ok


@pytest.mark.parametrize(
    ("links", "word"),
    [
        ((replace(UNAWARE.links[0], alias=None), UNAWARE.links[1]), "was not made by tapbridge"),
        ((replace(UNAWARE.links[0], alias=make_mark(NIC, kept=MAC)), UNAWARE.links[1]), "was not made by tapbridge"),
        ((*UNAWARE.links, Link(name=IfName("br0.7"), kind="vlan", parent=BR, vlan_id=7)), "br0.7 on br0 would hear"),
        ((replace(UNAWARE.links[0], alias=None), NIC), "was not made by tapbridge"),
        ((replace(AWARE, alias=None, vlans=(one_vlan(5, access=True),)), NIC), "would not be where it is now"),
        ((replace(AWARE, alias=None, vlans=()), NIC), "would not be where it is now"),
    ],
)
def test_a_bridge_that_others_look_after_is_refused(links: tuple[Link, ...], word: str) -> None:
    with pytest.raises(Refused, match=word):
        adopt(Adopt(nic=ETH0, vlan_aware=True), State(links=links))


def test_a_tap_is_made_in_its_vlan_and_an_uplink_is_touched_only_if_it_is_led_there() -> None:
    plan = add_tap(INTENT, HOST)
    assert verify_tap(INTENT, plan.after).ok
    assert plan.touched == (T0, ETH0)
    assert add_tap(INTENT, plan.after).stages == ()
    assert add_tap(replace(INTENT, name=IfName("t1")), plan.after).touched == (IfName("t1"),)
    assert restore(HOST, plan.after, plan.touched).after.links == HOST.links
    spoilt = fold((PutVlans(link=T0, vlans=one_vlan(8, access=True)),), plan.after)
    assert "is not in VLAN 7" in verify_tap(INTENT, spoilt).findings[0].message
    with pytest.raises(Refused, match="another VLAN: 7, not 8"):
        add_tap(replace(INTENT, vlan=8), plan.after)


def test_a_tap_comes_back_into_its_vlan_or_not_at_all() -> None:
    made = add_tap(INTENT, HOST).after
    gone = fold((SetMaster(link=T0, master=None), SetVlanFiltering(link=BR, on=False)), made)
    assert return_taps((INTENT,), gone).stages == ()
    plan = return_taps((INTENT,), UNAWARE)
    assert verify_tap(replace(INTENT, bridge=None, vlan=None), plan.after).ok
    lost = fold((SetMaster(link=T0, master=None),), made)
    for back in (return_taps((INTENT,), lost), with_taps(replace(add_tap(INTENT, made), after=lost), BR)):
        assert verify_tap(INTENT, back.after).ok
        assert (back.steps[0], back.steps[-1]) == (SetUp(link=T0, up=False), SetUp(link=T0, up=True))


@pytest.mark.parametrize(
    ("step", "command"),
    [
        (PutVlans(link=T0, vlans=one_vlan(7, access=True)), "bridge vlan add vid 7 dev t0 pvid untagged"),
        (PutVlans(link=ETH0, vlans=Vlans(first=2, last=9)), "bridge vlan add vid 2-9 dev eth0"),
        (SetVlanFiltering(link=BR, on=True), "ip link set br0 type bridge vlan_filtering 1"),
    ],
)
def test_the_commands_are_those_of_iproute2(step: PutVlans | SetVlanFiltering, command: str) -> None:
    assert describe(step).command == command


def test_the_numbers_are_those_of_the_standard() -> None:
    assert (VLAN[0], VLAN[-1]) == (1, 4094)
