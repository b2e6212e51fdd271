"""A namespace with a bridge, folders of the test's own, and a /dev/net/tun that everybody may open."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from kit.command import run
from kit.holders import Processes, make_bridge
from kit.netns import in_netns
from tapbridge.linux.tun import TUN


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Journals and state of a test live and die with it."""
    monkeypatch.setenv("TAPBRIDGE_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("TAPBRIDGE_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture
def processes() -> Iterator[Processes]:
    """What a test starts, in a namespace of its own that has a bridge br0."""
    with in_netns():
        make_bridge()
        started = Processes()
        try:
            yield started
        finally:
            started.end()


@pytest.fixture
def open_tun(tmp_path: Path) -> Iterator[None]:
    """The file of all taps as most distributions have it: 0666."""
    node = tmp_path / "tun"
    os.mknod(node, stat.S_IFCHR | 0o666, os.stat(TUN).st_rdev)
    node.chmod(0o666)
    run("mount", "--bind", node, TUN)
    try:
        yield
    finally:
        run("umount", TUN)
