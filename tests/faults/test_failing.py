"""A system call that fails, or hangs for a second, at each point: the program's word about the host is true.

Exit 0 means that the change is there, 4 that something is left, which a recovery mends, and every other code that the
host is as before. The same for the calls of a recovery.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pytest

from kit.injection import Call
from kit.ordeal import VERBS, Ordeal
from kit.scenes import SCENES
from kit.tally import WHOLE, Tally, changing, spread, thinned

FAULTS = (
    *(f"error={name}" for name in ("EIO", "ENOSPC", "EPERM", "EBUSY", "ENOBUFS", "ENODEV", "EINTR")),
    "delay_enter=1s",
)
SAMPLE = 3


def fault_at(turn: int) -> str:
    """The next call gets the next fault, and so does the same call in the next scene: eight scenes, eight faults."""
    return FAULTS[turn % len(FAULTS)]


def points(calls: Sequence[Call], place: int) -> list[Call]:
    """Those that are made to fail."""
    return thinned(calls) if WHOLE else spread(calls, SAMPLE, offset=7 * place)


@pytest.mark.parametrize("verb", VERBS)
def test_a_call_that_fails_is_told_truly(ordeal: Ordeal, verb: str, tallies: list[Tally]) -> None:
    tally = Tally("fail", ordeal.scene.name, verb)
    tallies.append(tally)
    place = list(SCENES).index(ordeal.scene.name)
    for number, call in enumerate(points(ordeal.rehearse(VERBS[verb]).calls, place)):
        fault = fault_at(number + place)
        trial = ordeal.attempt(partial(ordeal.failed, VERBS[verb], call, fault))
        tally.note(f"{fault} at {call}", call, trial)
    assert tally.told() == ""


@pytest.mark.parametrize("verb", ["up", "down"])
def test_a_call_of_a_recovery_that_fails_is_told_truly(ordeal: Ordeal, verb: str, tallies: list[Tally]) -> None:
    tally = Tally("kill, then fail the recovery", ordeal.scene.name, verb)
    tallies.append(tally)
    place = list(SCENES).index(ordeal.scene.name)
    calls = changing(ordeal.rehearse(VERBS[verb]).calls)
    first = calls[len(calls) * 3 // 4]
    recovery = ordeal.rehearse_recovery(VERBS[verb], first)
    for number, call in enumerate(points(recovery, place)):
        fault = fault_at(number + place)
        trial = ordeal.attempt(partial(ordeal.recovery_failed, VERBS[verb], first, call, fault))
        tally.note(f"{fault} at {call} of the recovery from {first}", call, trial)
    assert changing(recovery)
    assert tally.told() == ""
