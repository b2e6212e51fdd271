"""Taps that wait for guests: what is planned, what is refused, what is remembered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapbridge.core.compare import comparable
from tapbridge.core.effect import fold
from tapbridge.core.macs import lone_tap_mac
from tapbridge.core.mark import TapMark, make_tap_mark, read_tap_mark
from tapbridge.core.merge import merge
from tapbridge.core.restore import restore
from tapbridge.core.saved import dump_saved, load_saved
from tapbridge.core.taps import add_tap, delete_taps, find_intent, return_taps, tap_uses, verify_gone, verify_tap
from tapbridge.core.topology import find_guest_name
from tapbridge.model.errors import HostError, Refused
from tapbridge.model.guest import Guest, GuestNic, TapUse
from tapbridge.model.intent import DropTaps, MakeTap
from tapbridge.model.journal import dump, load
from tapbridge.model.noun import replace
from tapbridge.model.port import Port
from tapbridge.model.state import Link, State, Sysctl, Tap
from tapbridge.model.step import AddTap, DeleteLink, DeleteTaps, WriteFile
from tapbridge.model.values import IfName, Mac

BR, T0 = IfName("br0"), IfName("t0")
BRIDGE = Link(index=2, name=BR, kind="bridge", mac=Mac("02:00:00:00:00:01"), up=True)
HOST = State(links=(BRIDGE, Link(index=3, name=IfName("eth0"), master=BR, master_kind="bridge", port=Port())))
INTENT = MakeTap(name=T0, owner=1000, bridge=BR)
SAVE = (WriteFile(path="/taps", content="x"),)
intents = st.builds(
    MakeTap,
    name=st.sampled_from([T0, IfName("t1"), IfName("a-b.c_d")]),
    owner=st.none() | st.integers(0, 0xFFFFFFFE),
    bridge=st.sampled_from([None, BR]),
    queues=st.integers(1, 256),
)


def uses(state: State, *guests: Guest) -> tuple[TapUse, ...]:
    return tap_uses(state, guests, str, str, {T0})


def made(*several: MakeTap, state: State = HOST) -> State:
    for intent in several or (INTENT,):
        state = add_tap(intent, state).after
    return state


@given(intents)
def test_what_is_asked_for_is_made_and_a_second_time_nothing(intent: MakeTap) -> None:
    plan = add_tap(intent, HOST)
    assert verify_tap(intent, plan.after).findings == ()
    assert add_tap(intent, plan.after).stages == ()
    link = plan.after.link(intent.name)
    assert link is not None and find_intent(link) == intent
    assert plan.touched == (intent.name,)
    assert load(dump(plan)) == plan
    assert fold(restore(HOST, plan.after, plan.touched).steps, plan.after) == HOST


@given(intents, st.integers(0, 6))
def test_a_tap_that_was_begun_is_taken_away(intent: MakeTap, cut: int) -> None:
    plan = add_tap(intent, HOST)
    halfway = fold(plan.steps[:cut], HOST)
    assert fold(restore(HOST, halfway, plan.touched).steps, halfway) == HOST


@given(st.lists(intents, min_size=1, max_size=3, unique_by=lambda intent: intent.name), st.integers(0, 8))
def test_deleted_taps_are_made_again_on_the_way_back_wherever_that_is_cut_off(several: list[MakeTap], cut: int) -> None:
    before = made(*several)
    late = Link(index=1000, name=IfName("late"))  # the kernel gives no number twice
    before = replace(before, links=(*before.links, late)).sorted()
    plan = delete_taps(DropTaps(), before, uses(before))
    assert verify_gone([intent.name for intent in several], plan.after).findings == ()

    def back(now: State, most: int | None = None) -> State:
        wanted = merge(before, plan.after, plan.steps, now, plan.touched)
        assert wanted.told == ()
        return fold(restore(wanted.state, now, plan.touched).steps[:most], now)

    assert comparable(back(back(plan.after, cut))) == comparable(before)


def test_a_tap_that_somebody_else_has_deleted_is_not_made_again() -> None:
    before = made()
    plan = add_tap(INTENT, replace(before, links=tuple(replace(x, up=x.name == BR) for x in before.links)))
    wanted = merge(plan.before, plan.after, plan.steps, HOST, plan.touched)
    assert wanted.told == ("t0 is not there any more",)
    assert restore(wanted.state, HOST, plan.touched).steps == ()


def test_a_guest_never_meets_a_tap_s_address() -> None:
    addresses = {lone_tap_mac(f"t{number}") for number in range(1000)}
    assert len(addresses) == 1000
    assert all(mac.startswith("fe:") for mac in addresses)


def test_a_large_mtu_is_cut_to_what_a_tap_can_have_and_ipv6_is_kept_silent() -> None:
    switch = Sysctl(link=IfName("default"), stack="ipv6", name="accept_ra", value=1)
    state = replace(HOST, links=(replace(BRIDGE, mtu=65535),), sysctls=(switch,))
    (step,) = add_tap(INTENT, state).steps
    assert isinstance(step, AddTap)
    assert (step.mtu, step.addr_gen_mode, step.master) == (65521, 1, BR)


def test_a_name_of_another_s_is_left_alone() -> None:
    taken = replace(HOST, links=(*HOST.links, Link(index=9, name=T0, kind="tap", alias="mine")))
    with pytest.raises(Refused, match="taken"):
        add_tap(INTENT, taken)
    plan = return_taps([INTENT, replace(INTENT, name=IfName("t1"))], taken)
    assert (plan.touched, [risk.code for risk in plan.risks]) == (("t1",), ["name-taken"])


def test_a_full_bridge_takes_no_more() -> None:
    ports = tuple(Link(index=n, name=IfName(f"p{n}"), master=BR) for n in range(10, 10 + 1023))
    with pytest.raises(Refused, match="1023 ports"):
        add_tap(INTENT, State(links=(BRIDGE, *ports)))


def test_what_is_to_come_back_is_written_down_first() -> None:
    assert add_tap(INTENT, HOST, SAVE).steps[0] == SAVE[0]
    assert add_tap(INTENT, made(), SAVE).steps == SAVE


def test_deleting_forgets_first_and_takes_ours_at_once() -> None:
    foreign = Link(index=9, name=IfName("x"), kind="tap", tap=Tap(persist=True))
    state = made(INTENT, replace(INTENT, name=IfName("t1")), state=replace(HOST, links=(*HOST.links, foreign)))
    plan = delete_taps(DropTaps(), state, uses(state), SAVE)
    assert plan.steps == (*SAVE, DeleteTaps(taps=(T0, IfName("t1"))))
    with pytest.raises(Refused, match="not made by tapbridge"):
        delete_taps(DropTaps(name=IfName("x")), state, uses(state))
    assert delete_taps(DropTaps(name=IfName("x"), force=True), state, uses(state)).steps == (
        DeleteLink(link=foreign.name),
    )


@pytest.mark.parametrize("seen", [True, False])
def test_a_tap_in_use_stays(seen: bool) -> None:
    state = made()
    state = replace(state, links=tuple(replace(x, carrier=not seen or x.carrier) for x in state.links))
    guests = [Guest(name="web", pid=7, nics=(GuestNic(link=T0),))] if seen else []
    with pytest.raises(Refused, match=r"'web' \(PID 7\)" if seen else "cannot be seen"):
        delete_taps(DropTaps(name=T0), state, uses(state, *guests))
    assert delete_taps(DropTaps(), state, uses(state, *guests)).stages == ()
    assert delete_taps(DropTaps(force=True), state, uses(state, *guests)).touched == (T0,)


def test_a_saved_tap_waits_for_its_bridge() -> None:
    alone = replace(HOST, links=HOST.links[1:])
    alone = replace(alone, links=(replace(alone.links[0], master=None, master_kind=None, port=None),))
    back = return_taps([INTENT], alone)
    link = back.after.link(T0)
    assert link is not None and link.master is None
    again = replace(back.after, links=(BRIDGE, *back.after.links))
    assert verify_tap(INTENT, return_taps([INTENT], again).after).findings == ()
    assert return_taps([INTENT], return_taps([INTENT], again).after).stages == ()


@given(
    st.builds(
        TapMark,
        queues=st.integers(1, 256),
        bridge=st.sampled_from([None, BR, IfName("a=b")]),
        vlan=st.none() | st.integers(1, 4094),
    )
)
def test_a_mark_can_be_read_again(mark: TapMark) -> None:
    link = Link(name=T0, kind="tap", alias=make_tap_mark(mark))
    assert read_tap_mark(link) == mark
    assert link.ours and find_guest_name(link) is None
    assert read_tap_mark(replace(link, kind="bridge")) is None


@pytest.mark.parametrize(
    "alias", [None, "", "tapbridge", "tapbridge guest=tap", "tapbridge tap", "tapbridge tap queues=x"]
)
def test_another_alias_is_no_mark(alias: str | None) -> None:
    assert read_tap_mark(Link(name=T0, kind="tap", alias=alias)) is None


@given(st.lists(intents, max_size=3, unique_by=lambda intent: intent.name))
def test_what_is_saved_can_be_read_again_and_other_networks_stay(several: list[MakeTap]) -> None:
    text = dump_saved(dump_saved(None, "blue", [INTENT]), "", several)
    assert set(load_saved(text, "")) == set(several)
    assert load_saved(text, "blue") == (INTENT,)
    assert dump_saved(text, "", load_saved(text, "")) == text


@pytest.mark.parametrize(
    "text", ["", "[]", '{"taps": 7}', '{"taps": {"": [1]}}', '{"taps": {"": [{"_": "Adopt", "nic": "x"}]}}']
)
def test_a_damaged_file_is_said(text: str) -> None:
    with pytest.raises(HostError, match="damaged"):
        load_saved(text, "")
