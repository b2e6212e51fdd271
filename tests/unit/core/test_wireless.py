"""A wireless station as the uplink: what is planned, what is refused, and the way back from anywhere."""

from __future__ import annotations

import pytest

from tapbridge.core.adopt import adopt
from tapbridge.core.compare import comparable, differences
from tapbridge.core.describe import describe
from tapbridge.core.effect import fold
from tapbridge.core.forecast import adoption_risks
from tapbridge.core.mark import make_mark, read_mark
from tapbridge.core.merge import Merged, merge
from tapbridge.core.release import release
from tapbridge.core.restore import restore
from tapbridge.core.wireless import witnesses
from tapbridge.model.errors import Refused
from tapbridge.model.intent import Adopt, Release
from tapbridge.model.journal import dump, load
from tapbridge.model.noun import replace
from tapbridge.model.state import Address, Attachment, Link, Neighbour, Nexthop, Route, State
from tapbridge.model.step import SetFourAddress, SetMaster
from tapbridge.model.values import IfName, Mac

BR, WLAN = IfName("br0"), IfName("wlan0")
GATEWAY = "192.0.2.1"
CARD = Link(index=2, name=WLAN, kind="wifi", mac=Mac("02:00:00:00:00:01"), up=True, carrier=True, operstate="up")
ADDRESS = Address(link=WLAN, family=4, ip="192.0.2.7", prefix=24, label=WLAN)
DEFAULT = Route(family=4, dst="0.0.0.0/0", nexthops=(Nexthop(link=WLAN, gateway=GATEWAY),))
NEIGHBOUR = Neighbour(link=WLAN, family=4, ip="192.0.2.9", mac=Mac("02:00:00:00:00:99"), state=0x04)
HOST = State(links=(CARD,), addresses=(ADDRESS,), routes=(DEFAULT,), neighbours=(NEIGHBOUR,))
FOUR = replace(HOST, links=(replace(CARD, four_address=True),))
INTENT = Adopt(nic=WLAN, bridge=BR, four_address=True)


def modes(plan_steps: tuple[object, ...]) -> list[SetFourAddress]:
    return [step for step in plan_steps if isinstance(step, SetFourAddress)]


def test_the_mode_is_switched_before_anything_else_and_by_those_who_can_tell() -> None:
    plan = adopt(INTENT, HOST)
    assert plan.steps[0] == SetFourAddress(link=WLAN, on=True, asked=(GATEWAY,))
    assert modes(plan.steps) == [plan.steps[0]]
    assert [risk.code for risk in plan.risks] == ["four-addresses"]
    bridge = plan.after.link(BR)
    assert bridge is not None
    mark = read_mark(bridge)
    assert mark is not None
    assert mark.three_addresses


def test_on_the_way_back_the_mode_is_switched_when_the_card_is_no_port_any_more() -> None:
    plan = release(Release(bridge=BR), adopt(INTENT, HOST).after)
    (mode,) = modes(plan.steps)
    assert mode == SetFourAddress(link=WLAN, on=False, asked=(GATEWAY,))
    assert plan.steps.index(SetMaster(link=WLAN, master=None)) < plan.steps.index(mode)
    assert comparable(plan.after) == comparable(HOST)


def test_a_card_that_has_the_mode_already_is_a_nic_like_any_other_and_keeps_it() -> None:
    plan = adopt(replace(INTENT, four_address=False), FOUR)
    assert modes(plan.steps) == []
    assert "4addr" not in make_mark(FOUR.links[0])
    back = release(Release(bridge=BR), plan.after)
    assert modes(back.steps) == []
    assert comparable(back.after) == comparable(FOUR)
    assert adopt(INTENT, FOUR).risks == ()


@pytest.mark.parametrize("down", [False, True], ids=["up", "down"])
def test_stopped_anywhere_the_way_back_leads_to_the_state_before(down: bool) -> None:
    plan = adopt(INTENT, HOST)
    if down:
        plan = release(Release(bridge=BR), plan.after)
    for cut in range(len(plan.steps) + 1):
        halfway = fold(plan.steps[:cut], plan.before)
        assert merge(plan.before, plan.after, plan.steps, halfway, plan.touched) in (
            Merged(state=plan.before),
            Merged(state=plan.after, told=merge_words(), finished=True),
        )
        if halfway.link(BR) is None and down:
            continue  # the bridge is gone, and the change is finished instead
        back = restore(plan.before, halfway, plan.touched)
        end = fold(back.steps, halfway)
        assert differences(plan.before, end, (WLAN, BR)) == ()
        assert restore(plan.before, end, plan.touched).steps == ()
        ports = [step for step in back.steps if isinstance(step, SetMaster) and step.link == WLAN]
        for mode in modes(back.steps):
            assert mode.on is down
            assert all((back.steps.index(mode) < back.steps.index(port)) is down for port in ports)


def merge_words() -> tuple[str, ...]:
    return ("there is no way back without the bridge, so the change was finished instead",)


def test_without_the_option_the_refusal_names_it() -> None:
    with pytest.raises(Refused, match="is a Wi-Fi station") as refused:
        adopt(replace(INTENT, four_address=False, force=True), HOST)
    assert "tapbridge up wlan0 --4addr" in (refused.value.hint or "")
    assert "--net user" in (refused.value.hint or "")


def test_a_card_that_is_not_wireless_is_refused() -> None:
    with pytest.raises(Refused, match="no Wi-Fi station") as refused:
        adopt(INTENT, replace(HOST, links=(replace(CARD, kind=""),)))
    assert refused.value.code == "not-wireless"


@pytest.mark.parametrize("state", [HOST, FOUR], ids=["three", "four"])
def test_a_card_keeps_the_name_by_which_its_supplicant_knows_it(state: State) -> None:
    with pytest.raises(Refused, match="cannot give its name away"):
        adopt(replace(INTENT, take_name=True), state)


def test_where_nobody_could_tell_nothing_is_switched() -> None:
    alone = replace(HOST, routes=(), neighbours=())
    with pytest.raises(Refused, match="nobody could tell") as refused:
        adopt(INTENT, alone)
    assert refused.value.code == "nobody-to-ask"
    assert witnesses(replace(HOST, routes=()), WLAN) == (NEIGHBOUR.ip,)


def test_what_the_supplicant_hears_is_not_lost() -> None:
    heard = Attachment(link=WLAN, kind="packet-socket", detail="packet socket", program="wpa_supplicant", pid=7)
    state = replace(HOST, attachments=(heard,))
    assert adoption_risks(state, replace(CARD, four_address=True), INTENT) == ()
    assert len(adoption_risks(state, replace(CARD, kind=""), Adopt(nic=WLAN))) == 1


def test_the_step_is_told_as_the_command_of_iw_and_survives_its_journal() -> None:
    on, off = (SetFourAddress(link=WLAN, on=mode, asked=(GATEWAY,)) for mode in (True, False))
    assert describe(on).command == "iw dev wlan0 set 4addr on"
    assert describe(off).command == "iw dev wlan0 set 4addr off; wpa_cli -i wlan0 reattach"
    assert [load(dump(step)) for step in (on, off)] == [on, off]
    assert load(dump(FOUR)) == FOUR
