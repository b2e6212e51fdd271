"""The program as a process of its own that changes a host's network: started, watched, killed."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from kit.command import run
from tapbridge.core.compare import differences
from tapbridge.linux.host import LinuxHost
from tapbridge.model.state import State
from tapbridge.transact.lock import is_held

PROGRAM = (sys.executable, "-m", "tapbridge")
LIMIT_S = 30.0


def until(condition: Callable[[], object], limit_s: float = LIMIT_S) -> bool:
    """Whether something becomes so within the limit; looked at every 20 ms."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@contextmanager
def started(*words: str, stdin: int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[str]]:
    """The program on its way, in the network namespace of this thread; killed at the end if it still runs."""
    process = subprocess.Popen(
        [*PROGRAM, *words], stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        process.communicate()


@contextmanager
def on_a_terminal(*words: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The program with a terminal of its own as stdin and stderr; yields the terminal's other end too."""
    ours, its = pty.openpty()
    process = subprocess.Popen([*PROGRAM, *words], stdin=its, stdout=its, stderr=its, start_new_session=True)
    os.close(its)
    try:
        yield process, ours
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        process.wait()
        os.close(ours)


def document(*words: str, exit_code: int = 0) -> dict[str, Any]:
    """Run the program with --json to its end; its one document."""
    done = run(*PROGRAM, *words, "--json", check=False, timeout_s=LIMIT_S)
    assert done.returncode == exit_code, f"exit {done.returncode}\n{done.stdout}{done.stderr}"
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def pending() -> dict[str, Any] | None:
    """The change that waits, by `status`, once its command has let the lock go: it is seen a moment before."""
    found: dict[str, Any] | None = document("status")["pending"]
    locks = Path(os.environ["TAPBRIDGE_RUN_DIR"]).glob("*/lock")
    return None if any(is_held(lock.parent) for lock in locks) else found


def guardians() -> list[int]:
    """The guardian processes of this network namespace."""
    here = os.readlink("/proc/thread-self/ns/net")
    found = []
    for name in os.listdir("/proc"):
        with suppress(OSError, ValueError):
            if (
                Path(f"/proc/{name}/comm").read_text() == "tapbridge-guard\n"
                and os.readlink(f"/proc/{name}/ns/net") == here
            ):
                found.append(int(name))
    return found


def is_ended(run_dir: Path) -> bool:
    """Whether no journal is left there, and no guardian here: he ends a moment after the command."""
    with suppress(FileNotFoundError):  # a folder may go while it is read
        return not list(run_dir.rglob("*")) and not guardians()
    return False


def is_as(before: State) -> bool:
    """Whether the host is as it was, by our own word; the fault suite asks iproute2."""
    with LinuxHost() as host:
        now = host.observe()
    return differences(before, now, tuple({link.name for link in (*before.links, *now.links)})) == ()
