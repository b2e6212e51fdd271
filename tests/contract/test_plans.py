"""The laws of the plans, on the model and on the kernel at once: after every step, and stopped at every step."""

from __future__ import annotations

import pytest

from kit.contract import Pair, pair_of
from tapbridge.core.adopt import adopt
from tapbridge.core.compare import differences
from tapbridge.core.release import release
from tapbridge.core.restore import restore
from tapbridge.core.verify import verify
from tapbridge.model.intent import Adopt, Release
from tapbridge.model.noun import replace
from tapbridge.model.plan import Plan
from tapbridge.model.state import Neighbour, State
from tapbridge.model.step import DeleteNeighbour, PutNeighbour, PutRoute, SetMaster, Shield, Unshield
from tapbridge.model.values import IfName, Mac

NIC, BR = IfName("nic0"), IfName("br0")
NUD_STALE = 0x04
both_names = pytest.mark.parametrize("take_name", [False, True], ids=["br0", "take-name"])


def told(one: State, other: State) -> tuple[str, ...]:
    return differences(one, other, tuple({link.name for link in (*one.links, *other.links)}))


def planned(pair: Pair, take_name: bool) -> tuple[Adopt, Plan]:
    intent = Adopt(nic=NIC, bridge=BR, take_name=take_name)
    return intent, adopt(intent, pair.kernel.observe())


@both_names
def test_the_model_is_the_kernel_after_every_step_there_and_back(take_name: bool) -> None:
    with pair_of() as pair:
        before = pair.kernel.observe()
        intent, plan = planned(pair, take_name)
        for step in plan.steps:
            pair.perform(step)
            pair.assert_same(step)
        found = pair.kernel.observe()
        assert told(plan.after, found) == ()
        assert verify(intent, found).findings == ()
        for step in release(Release(bridge=NIC if take_name else BR), found).steps:
            pair.perform(step)
            pair.assert_same(step)
        assert told(before, pair.kernel.observe()) == ()


@both_names
def test_stopped_after_any_step_both_find_the_way_back(take_name: bool) -> None:
    stopped = 0
    with pair_of() as pair:
        before = pair.kernel.observe()
        _, plan = planned(pair, take_name)
        while stopped < len(plan.steps):
            stopped += 1
            pair.perform(*plan.steps[:stopped])
            back = restore(before, pair.kernel.observe(), plan.touched)
            pair.perform(*back.steps)
            pair.assert_same(f"the way back from {plan.steps[stopped - 1]}")
            end = pair.kernel.observe()
            assert told(before, end) == (), f"after {stopped} steps"
            assert restore(before, end, plan.touched).steps == ()
    assert stopped > 15


@pytest.mark.parametrize("verb", ["up", "down"])
def test_the_way_back_knows_the_neighbours_and_bypasses_the_hole_of_the_port_change(verb: str) -> None:
    """Else the kernel asks in the midst of the move, the answer goes to the wrong link, and it asks again after 1 s;
    and what arrives in the hole is lost."""
    peer = Neighbour(link=BR, family=4, ip="10.0.0.7", mac=Mac("02:00:00:00:00:07"), state=NUD_STALE)
    with pair_of() as pair:
        _, plan = planned(pair, take_name=False)
        if verb == "down":
            pair.perform(*plan.steps, PutNeighbour(neighbour=peer))
            plan = release(Release(bridge=BR), pair.kernel.observe())
        now, then = (BR, NIC) if verb == "up" else (NIC, BR)
        before = pair.kernel.observe()
        scaffolding, moved, _ = plan.parts()
        pair.perform(*(step for stage in (*scaffolding, *moved) for step in stage.steps))
        pair.perform(PutNeighbour(neighbour=replace(peer, link=now)))
        for neighbour in pair.kernel.observe().neighbours:
            if (neighbour.link, neighbour.ip) == (then, peer.ip):  # as a port, it asked in vain
                pair.perform(DeleteNeighbour(neighbour=neighbour))
        back = restore(before, pair.kernel.observe(), plan.touched)
        known = PutNeighbour(neighbour=replace(peer, link=then))
        first_route = next(n for n, step in enumerate(back.steps) if isinstance(step, PutRoute | SetMaster))
        assert known in back.steps[:first_route]
        shielded = [type(step) for step in back.steps if isinstance(step, Shield | SetMaster | Unshield)]
        assert shielded == [Shield, SetMaster, Unshield]
        pair.perform(*back.steps)
        assert restore(before, pair.kernel.observe(), plan.touched).steps == ()
