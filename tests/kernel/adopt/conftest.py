"""The adoption tests keep their journals to themselves."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Journals and state of a test live and die with it."""
    monkeypatch.setenv("TAPBRIDGE_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("TAPBRIDGE_STATE_DIR", str(tmp_path / "state"))
