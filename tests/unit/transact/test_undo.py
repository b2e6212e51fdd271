"""Which files a change leaves that is finished because there is no way back."""

from __future__ import annotations

import pytest

from tapbridge.model.state import File
from tapbridge.model.step import WriteFile
from tapbridge.transact.undo import _as_left

PATH = "/run/dhclient.eth0.pid"


@pytest.mark.parametrize(
    ("before", "now", "written", "left"),
    [
        (None, "4711\n", None, "4711\n"),  # the client that was started since has written its PID
        ("12\n", "4711\n", None, "4711\n"),
        ("12\n", "12\n", None, None),  # not taken away yet
        ("12\n", None, None, None),
        ("old", "spoilt", "new", "new"),
    ],
)
def test_what_was_taken_away_and_is_there_anew_is_somebody_s(
    before: str | None, now: str | None, written: str | None, left: str | None
) -> None:
    was, there = File(path=PATH, content=before), File(path=PATH, content=now)
    assert _as_left(was, there, [WriteFile(path=PATH, content=written)]).content == left
