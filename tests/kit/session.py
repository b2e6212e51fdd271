"""Run the tests under a time limit and leave no process behind: `python session.py LIMIT_S COMMAND…`.

Orphans of whatever runs below come to this process (PR_SET_CHILD_SUBREAPER) instead of process 1. It reaps the dead
ones at once, so that a process which has ended looks ended; those that still live at the end are named and killed,
and make the run a failure. At the limit the command is interrupted, so that pytest says where it was, and half a
minute later killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

_PR_SET_CHILD_SUBREAPER = 36
_GRACE_S = 30
_DYING_S = 2
TIMED_OUT = 124


class _Alarm(Exception):
    pass


def _ring(_signal: int, _frame: FrameType | None) -> None:
    raise _Alarm


def main(argv: Sequence[str]) -> int:
    """The command's own exit code; 124 at the limit; 1 where it was 0 and something was left behind."""
    limit_s, *command = argv
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGALRM, _ring)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to the command as well
    signal.signal(signal.SIGTERM, _ring)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup's is inherited, and changes what the tests look at
    child = subprocess.Popen(command, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    code = _wait(child.pid, int(limit_s))
    left = _left_behind()
    for pid, line in left:
        print(f"left behind: process {pid}: {line}", file=sys.stderr)
    return code or (1 if left else 0)


def _wait(pid: int, limit_s: int) -> int:
    for number, seconds in ((signal.SIGINT, limit_s), (signal.SIGKILL, _GRACE_S)):
        try:
            return _reap(pid, seconds)
        except _Alarm:
            print(f"stopped at the limit of {limit_s} s, or by a signal: {number.name}", file=sys.stderr)
            os.kill(pid, number)
    return TIMED_OUT


def _reap(pid: int | None, seconds: int) -> int:
    """Reap until `pid` has ended, or with None until no child is left. Raises _Alarm after `seconds`."""
    signal.alarm(seconds)
    try:
        while True:
            try:
                ended, status = os.wait()
            except ChildProcessError:
                return 0
            if ended == pid:
                return os.waitstatus_to_exitcode(status) % 256
    finally:
        signal.alarm(0)


def _left_behind() -> list[tuple[int, str]]:
    """The processes that do not end by themselves, killed."""
    left: list[tuple[int, str]] = []
    while True:
        try:
            _reap(None, _DYING_S)
        except _Alarm:
            for pid in _children():
                left.append((pid, _command_line(pid)))
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        else:
            return left


def _children() -> list[int]:
    return [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and _parent(pid) == os.getpid()]


def _parent(pid: str) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return "(ended meanwhile)"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
