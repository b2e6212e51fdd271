"""A system call that fails, or hangs for a second, at each point: the program's word about the host is true.

Exit 0 means that the change is there, 4 that something is left, which a recovery mends, and every other code that the
host is as before. The same for the calls of a recovery.
"""

from __future__ import annotations

import pytest

from kit.injection import Call
from kit.ordeal import VERBS, Ordeal
from kit.scenes import SCENES
from kit.tally import WHOLE, Tally, changing, sample

FAULTS = (
    *(f"error={name}" for name in ("EIO", "ENOSPC", "EPERM", "EBUSY", "ENOBUFS", "ENODEV", "EINTR")),
    "delay_enter=1s",
)
SAMPLE = 3


def faults_at(call: Call, turn: int) -> list[str]:
    """One for a call that only asks and in CI's sample, else two: the next two in the next scene, so that four scenes
    have had all."""
    many = 2 if WHOLE and call.role != "asks" else 1
    return [FAULTS[(turn * many + number) % len(FAULTS)] for number in range(many)]


@pytest.mark.parametrize("verb", VERBS)
def test_a_call_that_fails_is_told_truly(ordeal: Ordeal, verb: str, tallies: list[Tally]) -> None:
    tally = Tally("fail", ordeal.scene.name, verb)
    tallies.append(tally)
    place = list(SCENES).index(ordeal.scene.name)
    for number, call in enumerate(sample(ordeal.rehearse(VERBS[verb]).calls, SAMPLE, offset=7 * place)):
        for fault in faults_at(call, number + place):
            trial = ordeal.attempt(lambda call=call, fault=fault: ordeal.failed(VERBS[verb], call, fault))
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
    for number, call in enumerate(sample(recovery, SAMPLE, offset=7 * place)):
        for fault in faults_at(call, number + place):
            trial = ordeal.attempt(
                lambda call=call, fault=fault: ordeal.recovery_failed(VERBS[verb], first, call, fault)
            )
            tally.note(f"{fault} at {call} of the recovery from {first}", call, trial)
    assert changing(recovery)
    assert tally.told() == ""
