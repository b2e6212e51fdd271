"""The laws of the plans, over random hosts on the model of the kernel."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from kit.worlds import NIC, hosts
from tapbridge.core.adopt import HandOver, adopt
from tapbridge.core.compare import comparable, differences
from tapbridge.core.describe import describe
from tapbridge.core.effect import fold
from tapbridge.core.guard import guard, leads_out
from tapbridge.core.merge import Merged, merge
from tapbridge.core.release import release
from tapbridge.core.restore import restore
from tapbridge.core.restore_owner import restore_owner
from tapbridge.core.verify import verify
from tapbridge.model.intent import Adopt, Release
from tapbridge.model.journal import dump, load
from tapbridge.model.noun import replace
from tapbridge.model.plan import Plan, Reason
from tapbridge.model.state import Route, State
from tapbridge.model.step import StartClient, StartUnit, StopClient, StopUnit, WriteLinkFile
from tapbridge.model.values import IfName

intents = st.builds(Adopt, nic=st.just(NIC), bridge=st.just(IfName("br0")), take_name=st.booleans())
thorough = settings(max_examples=1000, deadline=None)


def _hand_over(state: State, intent: Adopt) -> HandOver:
    """A client or a manager that follows the place, as the owners' table makes it."""
    clients = [client for client in state.clients if client.link == intent.nic]
    if not clients:
        return HandOver()
    final = intent.nic if intent.take_name else intent.bridge
    if clients[0].profile:
        held = replace(clients[0], link=final, profile="after")
        file = WriteLinkFile(folder="/run/states", link=final, content="of the manager's")
        stop = StopUnit(unit="manager.service", clients=(clients[0],))
        return HandOver(before=(stop,), after=(file, StartUnit(unit="manager.service", clients=(held,))))
    moved = replace(clients[0], link=final, argv=("dhclient", "-lf", "moved", final))
    return HandOver(before=(StopClient(client=clients[0]),), after=(StartClient(client=moved),))


def _adopted(state: State, intent: Adopt) -> Plan:
    return adopt(intent, state, _hand_over(state, intent))


def _told(one: State, other: State) -> tuple[str, ...]:
    names = {link.name for link in (*one.links, *other.links)}
    return differences(one, other, tuple(names))


@thorough
@given(hosts(), intents)
def test_an_adoption_does_what_was_asked_and_a_second_one_plans_nothing(state: State, intent: Adopt) -> None:
    plan = _adopted(state, intent)
    assert verify(intent, plan.after).findings == ()
    port = intent if not intent.take_name else replace(intent, nic=IfName("reth0"))
    assert adopt(port, plan.after).stages == ()


@thorough
@given(hosts(), intents)
def test_folding_the_steps_gives_the_state_after(state: State, intent: Adopt) -> None:
    plan = _adopted(state, intent)
    assert fold(plan.steps, plan.before) == plan.after


@thorough
@given(hosts(), intents, st.data())
def test_stopped_anywhere_the_way_back_leads_to_the_state_before(
    state: State, intent: Adopt, data: st.DataObject
) -> None:
    plan = _adopted(state, intent)
    cut = data.draw(st.integers(0, len(plan.steps)))
    halfway = fold(plan.steps[:cut], state)
    assert merge(state, plan.after, plan.steps, halfway, plan.touched) == Merged(state=state)
    end = fold(restore(state, halfway, plan.touched).steps, halfway)
    end = fold(restore_owner(state, end, plan.touched, (), plan.steps).steps, end)
    assert _told(state, end) == ()
    assert comparable(end) == comparable(state)
    assert restore(state, end, plan.touched).steps == ()
    assert restore_owner(state, end, plan.touched).steps == ()


@thorough
@given(hosts(), intents)
def test_links_that_are_not_touched_never_change(state: State, intent: Adopt) -> None:
    plan = _adopted(state, intent)
    others = tuple(link.name for link in state.links if link.name not in plan.touched)
    now = state
    for step in plan.steps:
        now = fold((step,), now)
        shared = tuple(r for r in now.routes if any(r.uses(name) for name in others) and not r.uses(NIC))
        assert [a for a in now.addresses if a.link in others] == [a for a in state.addresses if a.link in others]
        for route in state.routes:
            if any(route.uses(name) for name in others) and not route.uses(NIC):
                assert route in shared


@thorough
@given(hosts(), intents)
def test_after_every_prefix_the_host_still_answers_and_still_has_its_routes(state: State, intent: Adopt) -> None:
    nic = state.link(NIC)
    assert nic is not None
    plan = _adopted(state, intent)
    assert guard(plan, nic).findings == ()
    final = intent.nic if intent.take_name else intent.bridge
    down = release(Release(bridge=final), plan.after)
    uplink = next(x for x in plan.after.links if x.index == nic.index)
    assert guard(down, uplink).findings == ()


@thorough
@given(hosts(), st.data())
def test_the_way_back_from_a_down_leads_nothing_to_a_bridge_without_a_port(state: State, data: st.DataObject) -> None:
    """Where a manager begins the NIC anew, the host's routes wait behind all others."""
    nic, bridge = state.link(NIC), IfName("br0")
    assert nic is not None
    up = adopt(Adopt(nic=NIC, bridge=bridge), replace(state, clients=()))
    down = release(Release(bridge=bridge), up.after, HandOver(anew=True))
    now = fold(down.steps[: data.draw(st.integers(0, len(down.steps)))], up.after)
    back = restore(up.after, now, down.touched)
    reached = _reached(now, nic.index)
    for stage in back.stages:
        if stage.reason in (Reason.PREPARE, Reason.SHIELD):
            now = fold(stage.steps, now)
            assert _reached(now, nic.index) >= reached


def _reached(state: State, index: int) -> set[tuple[int, int, str]]:
    """The networks whose best route leads out."""
    best: dict[tuple[int, int, str], Route] = {}
    for route in sorted(state.routes, key=lambda r: r.metric):
        best.setdefault((route.family, route.table, route.dst), route)
    return {network for network, route in best.items() if leads_out(state, route, index)}


@thorough
@given(hosts(), intents)
def test_down_leads_to_the_state_before_up(state: State, intent: Adopt) -> None:
    state = replace(state, clients=())
    up = adopt(intent, state)
    final = intent.nic if intent.take_name else intent.bridge
    down = release(Release(bridge=final), up.after)
    assert comparable(down.after) == comparable(state), differences(
        state, down.after, tuple(x.name for x in state.links)
    )


@thorough
@given(hosts(), intents)
def test_every_noun_survives_its_journal(state: State, intent: Adopt) -> None:
    plan = _adopted(state, intent)
    assert load(dump(plan)) == plan
    for step in plan.steps:
        assert load(dump(step)) == step


@thorough
@given(hosts(), intents)
def test_every_step_has_a_sentence_and_a_reason(state: State, intent: Adopt) -> None:
    for step in _adopted(state, intent).steps:
        told = describe(step)
        assert told.sentence and told.reason
        assert told.command is None or "\n" not in told.command
