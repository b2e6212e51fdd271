"""A system call that fails, or hangs for a second, at each point: the program's word about the host is true.

Exit 0 means that the change is there, 4 that something is left, which a recovery mends, and every other code that the
host is as before. The same for the calls of a recovery.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from kit.injection import Call
from kit.ordeal import VERBS, ordeal_of
from kit.scenes import SCENES
from kit.tally import WHOLE, Tally, changing, sample

FAULTS = (
    *(f"error={name}" for name in ("EIO", "ENOSPC", "EPERM", "EBUSY", "ENOBUFS", "ENODEV", "EINTR")),
    "delay_enter=1s",
)
SAMPLE = 6


def faults_at(call: Call, turn: int) -> list[str]:
    """One for a call that only asks and in CI's sample, else half of them: the other half in the next scene."""
    many = 4 if WHOLE and call.role != "asks" else 1
    return [FAULTS[(turn * many + number) % len(FAULTS)] for number in range(many)]


@pytest.mark.parametrize("verb", ["up", "down", "run", "up --confirm", "confirm", "rollback"])
@pytest.mark.parametrize("scene", SCENES)
def test_a_call_that_fails_is_told_truly(scene: str, verb: str, tmp_path: Path, tallies: list[Tally]) -> None:
    tally = Tally("fail", scene, verb)
    tallies.append(tally)
    with ordeal_of(scene, tmp_path / "stage") as ordeal:
        rehearsal = ordeal.rehearse(VERBS[verb])
        for number, call in enumerate(sample(rehearsal.calls, SAMPLE, offset=len(scene + verb))):
            for fault in faults_at(call, number + list(SCENES).index(scene)):
                told = ordeal.attempt(lambda call=call, fault=fault: ordeal.failed(VERBS[verb], rehearsal, call, fault))
                tally.note(f"{fault} at {call}", call, told)
    assert tally.told() == ""


@pytest.mark.parametrize("verb", ["up", "down"])
@pytest.mark.parametrize("scene", SCENES)
def test_a_call_of_a_recovery_that_fails_is_told_truly(
    scene: str, verb: str, tmp_path: Path, tallies: list[Tally]
) -> None:
    tally = Tally("kill, then fail the recovery", scene, verb)
    tallies.append(tally)
    with ordeal_of(scene, tmp_path / "stage") as ordeal:
        rehearsal = ordeal.rehearse(VERBS[verb])
        first = changing(rehearsal.calls)[-len(rehearsal.calls) // 8]
        recovery = ordeal.rehearse_recovery(VERBS[verb], rehearsal, first)
        for number, call in enumerate(sample(recovery, SAMPLE // 2, offset=len(scene + verb))):
            for fault in faults_at(call, number + list(SCENES).index(scene)):
                told = ordeal.attempt(
                    lambda call=call, fault=fault: ordeal.recovery_failed(VERBS[verb], rehearsal, first, call, fault)
                )
                tally.note(f"{fault} at {call} of the recovery from {first}", call, told)
    assert changing(recovery)
    assert tally.told() == ""
