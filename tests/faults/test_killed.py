"""Kill anywhere, never cut off at rest: before each changing system call of each verb, in each scene.

After the kill somebody new reaches the host, with nothing recovered; after one recovery the host is as before or as
after, wholly. With `--all`, before every third of the calls that only ask as well.
"""

from __future__ import annotations

from functools import partial

import pytest

from kit import injection
from kit.ordeal import VERBS, Ordeal
from kit.tally import WHOLE, Tally, changing, sample, thinned

SAMPLE = 5
GUARDIANS = 2


@pytest.mark.parametrize("verb", VERBS)
def test_a_host_survives_a_kill_anywhere(ordeal: Ordeal, verb: str, tallies: list[Tally]) -> None:
    tally = Tally("kill", ordeal.scene.name, verb)
    tallies.append(tally)
    calls = ordeal.rehearse(VERBS[verb]).calls
    assert len(changing(calls)) > 5
    points = thinned(calls) if WHOLE else sample(changing(calls), SAMPLE, offset=len(ordeal.scene.name))
    for call in points:
        tally.note(str(call), call, ordeal.attempt(partial(ordeal.killed, VERBS[verb], call)))
    assert tally.told() == ""


def test_a_host_survives_the_death_of_its_guardian(ordeal: Ordeal, tallies: list[Tally]) -> None:
    tally = Tally("kill", ordeal.scene.name, "the guardian")
    tallies.append(tally)
    calls = changing(injection.calls_of_running(ordeal.guardian(), ordeal.folder))
    assert len(calls) > 5
    for call in sample(calls, GUARDIANS, offset=len(ordeal.scene.name)):
        tally.note(str(call), call, ordeal.attempt(partial(ordeal.guardian_killed, call)))
    assert tally.told() == ""
