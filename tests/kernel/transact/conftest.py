"""The tests of transactions keep their journals to themselves."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the journals of a test are; they die with it."""
    monkeypatch.setenv("TAPBRIDGE_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("TAPBRIDGE_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "run"
