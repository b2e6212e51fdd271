"""Faults with somebody in charge of the NIC, who is at work meanwhile: a DHCP client or a manager.

`up` and `down` are killed before each of their changing system calls, or what waits to be confirmed is not, and may be
killed on its way there. To what holds for every scene comes the owner's own word: it holds the right link, there is
one of it, it renews the lease, which was neither given up nor asked for anew, and after that nothing is there twice.
"""

from __future__ import annotations

import pytest

from kit.ordeal import VERBS, Ordeal
from kit.tally import WHOLE, Tally, changing, sample, spread

SAMPLE = 2
LAPSING = 12 if WHOLE else 1


@pytest.mark.parametrize("verb", ["up", "down"])
def test_an_owner_survives_a_kill_anywhere(owned: Ordeal, verb: str, tallies: list[Tally]) -> None:
    tally = Tally("kill beside an owner", owned.scene.name, verb)
    tallies.append(tally)
    calls = changing(owned.rehearse(VERBS[verb]).calls)
    assert len(calls) > 5
    for call in sample(calls, SAMPLE, offset=len(owned.scene.name) * len(verb)):
        trial = owned.attempt(lambda call=call: owned.killed_beside_owner(VERBS[verb], call))
        tally.note(str(call), call, trial)
    assert tally.told() == ""


def test_an_owner_has_back_what_nobody_confirms(owned: Ordeal, tallies: list[Tally]) -> None:
    tally = Tally("not confirmed beside an owner", owned.scene.name, "up --confirm")
    tallies.append(tally)
    calls = changing(owned.rehearse(VERBS["up --confirm"]).calls)
    last = calls[-1]
    tally.note("not killed", last, owned.attempt(owned.lapsed))
    for call in spread(calls, LAPSING, offset=len(owned.scene.name)):
        tally.note(str(call), call, owned.attempt(lambda call=call: owned.lapsed(call)))
    assert tally.told() == ""
