"""A signal at any batch of `up` and `down`: the change is taken back or finished, which is said, and nothing is left.

strace delivers it as the program sends its k-th message to the kernel, so the product holds no code for this. In turn
with each signal every third message is tried; all of them with TAPBRIDGE_TEST_ALL.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kit.changes import is_ended, until
from kit.lan import host_on_lan
from kit.meddlers import answers, read_host
from tapbridge.cli.main import main

EVERY = 1 if os.environ.get("TAPBRIDGE_TEST_ALL") else 8
MOST = 200
VERBS = {"up": ("up", "--confirm", "0"), "guarded": ("up", "--confirm", "auto"), "down": ("down",)}
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
OTHERS = (signal.SIGTSTP, signal.SIGPIPE)
ORDER = ENDING + OTHERS


def cases(*numbers: signal.Signals) -> Iterator[Any]:
    """Every verb with every signal; with a guardian only the first of them, unless TAPBRIDGE_TEST_ALL is set."""
    for number in numbers:
        for verb in VERBS:
            if verb != "guarded" or number == numbers[0] or EVERY == 1:
                yield pytest.param(verb, number, id=f"{verb}-{number.name}")


def _signalled(number: signal.Signals, point: int, folder: Path, *words: str) -> tuple[int, str, bool]:
    """Run the program with the signal at its message of that number: exit code, what it said, whether it came so far.

    One that stops is let go on.
    """
    log = folder / "strace"
    log.write_text("")
    inject = f"inject=sendto,sendmsg:signal={number.name}:when={point}"
    strace = ["strace", "-o", str(log), "-e", "trace=sendto,sendmsg", "-e", inject]
    process = subprocess.Popen(
        [*strace, sys.executable, "-m", "tapbridge", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        if number is signal.SIGTSTP:
            assert until(lambda: process.poll() is not None or "--- stopped by SIGTSTP" in log.read_text())
            if process.poll() is None:
                os.kill(int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()), signal.SIGCONT)
        _, said = process.communicate(timeout=20)
    finally:
        process.kill()
    return process.returncode, said, log.read_text().count("send") >= point


@pytest.mark.parametrize(("verb", "number"), [*cases(*ENDING)])
def test_one_that_ends(verb: str, number: signal.Signals, tmp_path: Path, run_dir: Path) -> None:
    outcomes = set()
    for point in range(1 + 3 * ORDER.index(number) % EVERY, MOST, EVERY):
        with host_on_lan() as lan:
            if verb == "down":
                assert main(["up", "--quiet", "--confirm", "0"]) == 0
            before = read_host()
            code, said, came = _signalled(number, point, tmp_path, *VERBS[verb])
            changed = read_host() != before
            assert until(lambda: is_ended(run_dir)), f"left over at message {point}"
            assert answers(lan), f"cut off at message {point}"
            assert changed == (code == 0), f"message {point}: exit {code}: {said}"
            if not came:
                break
            assert code in (0, 128 + number, -number), said
            outcomes.add((code, "taken back" in said))
    assert point < MOST
    assert (128 + number, True) in outcomes


@pytest.mark.parametrize(("verb", "number"), [*cases(*OTHERS)])
def test_one_that_does_not_matter(verb: str, number: signal.Signals, tmp_path: Path, run_dir: Path) -> None:
    for point in range(1 + 3 * ORDER.index(number) % EVERY, MOST, EVERY):
        with host_on_lan() as lan:
            if verb == "down":
                assert main(["up", "--quiet", "--confirm", "0"]) == 0
            before = read_host()
            code, said, came = _signalled(number, point, tmp_path, *VERBS[verb])
            assert code == 0, f"message {point}: {said}"
            assert read_host() != before
            assert until(lambda: is_ended(run_dir)), f"left over at message {point}"
            assert answers(lan), f"cut off at message {point}"
            if not came:
                break
    assert point < MOST
