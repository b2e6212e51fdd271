"""`lab up` killed wherever it starts a process or writes its record: the next `lab down --all` leaves nothing."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from kit.labs import TAPBRIDGE, Tapbridge

NAME = f"killed{os.getpid()}"  # another session's labs are not ours to find
UP = (*TAPBRIDGE, "lab", "up", NAME, "--addresses", "static", "--no-dad")
CALLS = {"fork,clone,clone3": 4, "vfork": 12, "rename": 7}  # strace counts each by itself; how often at least


def of_the_lab() -> list[str]:
    """What bears the mark: processes that are not zombies, named namespaces, links that are ours to see."""
    found = [str(path) for path in Path("/run/netns").glob(f"tb-{NAME}-*")]
    for pid in [name for name in os.listdir("/proc") if name.isdigit()]:
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if re.match(rf"tapbridge-lab \w+ {NAME} ".encode(), words[0]) or list(UP[-4:]) == [
            word.decode() for word in words[-5:-1]
        ]:
            found.append(f"process {pid} {words}")
    return found


def killed(words: tuple[str, ...], run_dir: Path, calls: str, point: int) -> int:
    """Run a command, killed where it enters one of these system calls for the `point`th time; the exit code."""
    inject = f"inject={calls}:signal=KILL:when={point}"
    return subprocess.run(
        ["strace", "-q", "-o", "/dev/null", "-e", f"trace={calls}", "-e", inject, *words],
        env={**os.environ, "TAPBRIDGE_RUN_DIR": str(run_dir)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=60,
    ).returncode


@pytest.mark.parametrize("calls", CALLS)
def test_a_killed_up_is_cleaned_up_wherever_it_was(tapbridge: Tapbridge, run_dir: Path, calls: str) -> None:
    outcomes = set()
    for point in range(1, 100):
        if killed(UP, run_dir, calls, point) == 0:
            break
        left = bool(of_the_lab()) or (run_dir / f"labs/{NAME}.json").exists()
        outcomes.add((left, tapbridge("lab", "down", "--all").stdout))
        assert of_the_lab() == []
        assert not list(run_dir.rglob("*.json")), f"point {point}"
        assert not list(run_dir.rglob("*.new")), f"point {point}"
    assert tapbridge("lab", "down").stdout == f"removed: {NAME}\n"  # the last one was not killed any more
    assert CALLS[calls] < point < 99
    assert (True, f"removed: {NAME}\n") in outcomes


def test_up_after_a_killed_up_makes_the_lab(tapbridge: Tapbridge, run_dir: Path) -> None:
    assert killed(UP, run_dir, "vfork", 10) != 0
    assert (run_dir / f"labs/{NAME}.json").exists()
    tapbridge(*UP[len(TAPBRIDGE) :])
    assert tapbridge("lab", "exec", "--", "hostname").stdout == "h1\n"
    tapbridge("lab", "down")


@pytest.mark.parametrize(("calls", "point"), [("rename", 1), ("pidfd_send_signal", 2), ("umount2", 1), ("umount2", 4)])
def test_a_killed_down_is_finished_by_the_next(tapbridge: Tapbridge, run_dir: Path, calls: str, point: int) -> None:
    tapbridge(*UP[len(TAPBRIDGE) :])
    assert killed((*TAPBRIDGE, "lab", "down"), run_dir, calls, point) != 0
    assert (run_dir / f"labs/{NAME}.json").exists()
    assert tapbridge("lab", "down", "--all").stdout == f"removed: {NAME}\n"
    assert of_the_lab() == []
    assert list(run_dir.iterdir()) == []
