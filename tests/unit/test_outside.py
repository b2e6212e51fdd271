"""The lock on the outside world holds, for every test of this folder."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kit.outside import OutsideWorldError

REACHES: dict[str, Callable[[], object]] = {
    "an internet socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    "a netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0),
    "a process": lambda: subprocess.Popen(["true"]),
    "a shell": lambda: os.system("true"),
    "a fork": os.fork,
    "a signal": lambda: os.kill(os.getpid(), 0),
    "a file": lambda: open("/tmp/tapbridge-reached", "w"),  # noqa: SIM115
    "a file by descriptor": lambda: os.open("/tmp/tapbridge-reached", os.O_CREAT | os.O_WRONLY),
    "a folder": lambda: Path("/tmp/tapbridge-reached").mkdir(),
    "a link": lambda: Path("/tmp/tapbridge-reached").symlink_to("there"),
    "a file of the repository": lambda: Path(__file__).rename(__file__ + "x"),
}


@pytest.mark.parametrize("reach", REACHES.values(), ids=REACHES.keys())
def test_a_pure_test_cannot_reach(reach: Callable[[], object]) -> None:
    with pytest.raises(OutsideWorldError):
        reach()


def test_a_pure_test_writes_below_its_own_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/file").write_text("x")
    (tmp_path / "folder/file").rename(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "x"


def test_a_pure_test_makes_and_removes_links_to_the_world(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("/etc")
    with pytest.raises(OutsideWorldError):
        (link / "tapbridge-reached").mkdir()
    link.unlink()
    assert list(tmp_path.iterdir()) == []


def test_a_pure_test_reads_what_is_there() -> None:
    assert "pure" in Path(__file__).read_text()
