"""Kill anywhere, never cut off at rest: before each changing system call of each verb, in each scene.

After the kill somebody new reaches the host, with nothing recovered; after one recovery the host is as before or as
after, wholly. With `--all`, before the calls that only ask as well.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from kit.ordeal import VERBS, ordeal_of
from kit.scenes import SCENES
from kit.tally import WHOLE, Tally, changing, sample

SAMPLE = 12


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("scene", SCENES)
def test_a_host_survives_a_kill_anywhere(scene: str, verb: str, tmp_path: Path, tallies: list[Tally]) -> None:
    tally = Tally("kill", scene, verb)
    tallies.append(tally)
    with ordeal_of(scene, tmp_path / "stage") as ordeal:
        rehearsal = ordeal.rehearse(VERBS[verb])
        assert len(changing(rehearsal.calls)) > 5
        for call in rehearsal.calls if WHOLE else sample(changing(rehearsal.calls), SAMPLE, offset=len(scene)):
            told = ordeal.attempt(lambda call=call: ordeal.killed(VERBS[verb], rehearsal, call))
            tally.note(str(call), call, told)
    assert tally.told() == ""
