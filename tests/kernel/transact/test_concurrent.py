"""Several commands at once, some of them killed: one at a time has the lock, and the host ends at one of its two ends.

What eight workers do in which round, and which of them is killed when, comes from one seed, so every run is the same
as far as the scheduler lets it be. Six rounds; fifty with TAPBRIDGE_TEST_ALL.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from kit.changes import PROGRAM, document, guardians, is_ended, until
from kit.command import run
from kit.lan import host_on_lan
from kit.meddlers import Reading, answers, read_host
from kit.netns import Netns
from tapbridge.model.errors import Refused
from tapbridge.transact.lock import writing

ROUNDS = 50 if os.environ.get("TAPBRIDGE_TEST_ALL") else 6
WORKERS = 8
SEED = 3
VERBS: tuple[tuple[str, ...], ...] = (
    ("up", "--confirm", "0"),
    ("up", "--confirm", "0", "--wait", "20"),
    ("up", "--confirm", "60", "--no-wait"),
    ("up", "--confirm", "1", "--no-wait"),
    ("down",),
    ("down", "--wait", "20"),
    ("confirm",),
    ("rollback",),
    ("recover",),
    ("status",),
    ("run", "--name", "g{}", "--", "true-qemu", "-nographic"),
)
ENDS = ("done", "nothing", "pending", "rolled-back", "refused", None)


@pytest.fixture
def lan() -> Iterator[Netns]:
    """A host on a LAN; this thread is the host's."""
    with host_on_lan() as lan:
        yield lan


@pytest.fixture(autouse=True)
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands in for qemu: it ends at once."""
    program = tmp_path / "bin" / "true-qemu"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


@contextmanager
def together(commands: Sequence[tuple[str, ...]]) -> Iterator[list[subprocess.Popen[str]]]:
    """All of them on their way; those that still run at the end are killed."""
    started = [
        subprocess.Popen(
            [*PROGRAM, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for words in commands
    ]
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


def as_json(words: tuple[str, ...], number: int) -> tuple[str, ...]:
    """A verb of a schedule as a command line."""
    if words[0] == "run":
        return tuple(word.format(number) for word in words)
    return (*words, "--json")


def the_ends() -> tuple[Reading, Reading]:
    """The host with its bridge and without."""
    without = read_host()
    document("up", "--confirm", "0")
    bridged = read_host()
    document("down")
    assert read_host() == without
    return without, bridged


def test_eight_at_once(lan: Netns, run_dir: Path) -> None:
    ends, chance = the_ends(), random.Random(SEED)
    for number in range(ROUNDS):
        commands = [as_json(chance.choice(VERBS), worker) for worker in range(WORKERS)]
        kills = sorted((chance.uniform(0.05, 0.6), worker) for worker in chance.sample(range(WORKERS), 3))
        begun = time.monotonic()
        with together(commands) as processes:
            for after_s, worker in kills:
                time.sleep(max(0.0, begun + after_s - time.monotonic()))
                with suppress(ProcessLookupError):
                    processes[worker].send_signal(signal.SIGKILL)
            said = [process.communicate(timeout=40) for process in processes]
        for words, process, (out, error) in zip(commands, processes, said, strict=True):
            assert process.returncode in (0, 1, 3, -signal.SIGKILL), f"{words}: {process.returncode} {out}{error}"
            if process.returncode in (0, 1, 3) and words[-1] == "--json" and words[0] != "status":
                assert json.loads(out)["outcome"] in ENDS, out
            if "another tapbridge" in out + error:
                assert re.search(r"another tapbridge \(PID ([0-9]+|unknown)\)", out + error), out + error
        settle()
        assert read_host() in ends, f"round {number}: {commands}"
        assert is_ended(run_dir), f"round {number}"
        assert answers(lan), f"round {number}"


def settle() -> None:
    """A change that waits is taken back, one that was cut off is mended; a guardian has its time to go."""
    if document("recover", "--wait")["outcome"] == "pending":
        taken = run(*PROGRAM, "rollback", "--wait", check=False)
        assert taken.returncode in (0, 3), taken.stderr  # 3: its guardian was quicker
    assert document("recover", "--wait")["outcome"] == "nothing"
    assert until(lambda: not guardians())


def test_of_two_at_once_one_does_it_and_the_other_is_refused(lan: Netns) -> None:
    refused = 0
    for _ in range(4):
        with together([("up", "--confirm", "0", "--json")] * 2) as processes:
            ends = []
            for process in processes:
                out, _ = process.communicate(timeout=20)
                ends.append((process.returncode, json.loads(out)))
        codes = sorted(code for code, _ in ends)
        assert codes in ([0, 0], [0, 3])
        for code, told in ends:
            if code == 3:
                refused += 1
                assert told["findings"][0]["code"] == "locked"
                assert re.search(r"PID [0-9]+", told["findings"][0]["message"])
        assert "done" in [told["outcome"] for _, told in ends]
        document("down")
    assert refused > 0
    assert answers(lan)


def test_with_patience_both_do_it_one_after_the_other(lan: Netns, run_dir: Path) -> None:
    with together([("up", "--confirm", "0", "--wait", "--json")] * WORKERS) as processes:
        outcomes = [json.loads(process.communicate(timeout=40)[0])["outcome"] for process in processes]
        assert all(process.returncode == 0 for process in processes)
    assert sorted(outcomes) == ["done"] + ["nothing"] * (WORKERS - 1)
    assert answers(lan)
    assert not list(run_dir.rglob("*"))


def test_a_folder_that_comes_and_goes_is_no_reason_to_refuse(tmp_path: Path) -> None:
    folder, deadline = tmp_path / "netns-1", time.monotonic() + 1

    def come_and_go() -> None:
        while time.monotonic() < deadline:
            with suppress(OSError):
                folder.mkdir()
                folder.rmdir()

    other = threading.Thread(target=come_and_go)
    other.start()
    held = 0
    while time.monotonic() < deadline:
        with writing(folder):
            held += 1
    other.join()
    assert held > 10
    with suppress(FileNotFoundError):
        folder.rmdir()
    folder.write_text("")
    with pytest.raises(Refused, match="cannot be written"), writing(folder):
        raise AssertionError("it is no folder")
    folder.unlink()
    folder.symlink_to("nowhere")
    with pytest.raises(Refused, match="cannot be written"), writing(folder):
        raise AssertionError("it leads nowhere")
    folder.unlink()
    folder.symlink_to(tmp_path)
    with writing(folder):
        assert (tmp_path / "lock").exists()


def test_who_has_just_taken_the_lock_is_named(tmp_path: Path) -> None:
    held = os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR)
    fcntl.flock(held, fcntl.LOCK_EX)
    signing = threading.Timer(0.02, os.pwrite, (held, b"4711", 0))
    signing.start()
    try:
        with pytest.raises(Refused, match=r"PID 4711"), writing(tmp_path):
            raise AssertionError("the lock was held")
    finally:
        signing.join()
        os.close(held)


def test_who_is_refused_is_refused_within_a_second(lan: Netns, run_dir: Path, tmp_path: Path) -> None:
    inject = "inject=sendto:signal=SIGSTOP:when=25"  # it stops with the lock held
    log = tmp_path / "log"
    log.touch()
    holder = subprocess.Popen(
        ["strace", "-o", str(log), "-e", "trace=sendto", "-e", inject, *PROGRAM, "up", "--confirm", "0"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert until(lambda: "--- stopped by SIGSTOP" in log.read_text())
        pid = Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().strip()
        took: list[float] = []
        for words in (("up",), ("down",), ("recover",), ("confirm",), ("rollback",)):
            begun = time.monotonic()
            told = document(*words, exit_code=3)
            took.append(time.monotonic() - begun)
            assert told["findings"][0]["code"] == "locked"
            assert f"PID {pid}" in told["findings"][0]["message"]
        assert sorted(took)[2] < 1, took
        os.kill(int(pid), signal.SIGCONT)
        assert holder.wait(timeout=20) == 0
    finally:
        holder.kill()
        holder.wait()
    assert answers(lan)
    assert not list(run_dir.rglob("*"))
