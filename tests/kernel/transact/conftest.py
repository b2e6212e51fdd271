"""The tests of transactions keep their journals to themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kit.lan import host_on_lan
from kit.netns import Netns
from tapbridge.linux.host import LinuxHost
from tapbridge.model.state import State


@pytest.fixture(autouse=True)
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the journals of a test are; they die with it."""
    monkeypatch.setenv("TAPBRIDGE_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("TAPBRIDGE_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "run"


@pytest.fixture
def lan() -> Iterator[Netns]:
    """A host on a LAN; this thread is the host's."""
    with host_on_lan() as lan:
        yield lan


@pytest.fixture
def before(lan: Netns) -> State:
    """The host as it was."""
    with LinuxHost() as host:
        return host.observe()
