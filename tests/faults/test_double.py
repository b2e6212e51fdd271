"""Double faults: the verb is killed, and the recovery from that as well; a second recovery leads to before or after.

The pairs are a triangle: the kill of the verb at evenly spread calls, and after each of them that of the recovery at
every call that changes something (`--all`), or at a few.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from kit.ordeal import VERBS, ordeal_of
from kit.scenes import SCENES
from kit.tally import WHOLE, Tally, changing, sample, spread

FIRST, SECOND = (8, 99) if WHOLE else (3, 3)


@pytest.mark.parametrize("verb", ["up", "down"])
@pytest.mark.parametrize("scene", SCENES)
def test_a_recovery_survives_a_kill_as_well(scene: str, verb: str, tmp_path: Path, tallies: list[Tally]) -> None:
    tally = Tally("kill, then kill the recovery", scene, verb)
    tallies.append(tally)
    with ordeal_of(scene, tmp_path / "stage") as ordeal:
        rehearsal = ordeal.rehearse(VERBS[verb])
        for first in spread(changing(rehearsal.calls), FIRST, offset=len(verb)):
            recovery = ordeal.rehearse_recovery(VERBS[verb], rehearsal, first)
            for second in sample(changing(recovery), SECOND, offset=first.number):
                told = ordeal.attempt(
                    lambda first=first, second=second: ordeal.killed(VERBS[verb], rehearsal, first, again=second)
                )
                tally.note(f"{first}, then {second}", second, told)
    assert tally.tried > FIRST
    assert tally.told() == ""
