"""The guardian is killed before each call of its way back: the host is never cut off, and a recovery finishes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kit import injection
from kit.ordeal import ordeal_of
from kit.scenes import SCENES
from kit.tally import Tally, changing, sample

SAMPLE = 3


@pytest.mark.parametrize("scene", SCENES)
def test_a_host_survives_the_death_of_its_guardian(scene: str, tmp_path: Path, tallies: list[Tally]) -> None:
    tally = Tally("kill", scene, "the guardian")
    tallies.append(tally)
    with ordeal_of(scene, tmp_path / "stage") as ordeal:
        calls = changing(injection.calls_of_running(ordeal.guardian(), ordeal.folder))
        assert len(calls) > 5
        for call in sample(calls, SAMPLE, offset=len(scene)):
            tally.note(str(call), call, ordeal.attempt(lambda call=call: ordeal.guardian_killed(call)))
    assert tally.told() == ""
