"""A process that becomes nobody's: what a guardian leaves behind so that nothing which ends its command ends it."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGPIPE, signal.SIGTSTP)


def detach(keep: Collection[int]) -> list[str]:
    """Leave the command's files but those of `keep`, its folder, its control group, and its terminal's signals.

    The process is not chosen when memory is short, and its memory is locked. Sentences about what could not be had.
    """
    missing: list[str] = []
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    os.chdir("/")
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    for low, high in zip([2, *sorted(keep)], [*sorted(keep), 1 << 16], strict=True):
        os.closerange(low + 1, high)
    try:
        Path("/proc/self/oom_score_adj").write_text("-1000")
    except OSError as error:
        missing.append(f"the kernel may choose the guardian when memory is short ({error.strerror})")
    missing += _lock_memory()
    missing += _leave_control_group()
    return missing


def _lock_memory() -> Sequence[str]:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(15, b"tapbridge-guard", 0, 0, 0)  # PR_SET_NAME
    if libc.mlockall(3) == 0:  # MCL_CURRENT | MCL_FUTURE
        return ()
    return (f"the guardian's memory could not be locked ({os.strerror(ctypes.get_errno())})",)


def _control_groups() -> Path | None:
    """Where the unified hierarchy of control groups is mounted, if it is."""
    with suppress(OSError):
        for line in Path("/proc/self/mounts").read_text().splitlines():
            words = line.split()
            if words[2] == "cgroup2" and "rw" in words[3].split(","):
                return Path(words[1])
    return None


def _leave_control_group() -> Sequence[str]:
    """A control group of its own: KillUserProcesses= kills whole groups."""
    top = _control_groups()
    if top is None:
        return ()
    own = top / f"tapbridge-guard-{os.getpid()}"
    try:
        own.mkdir(exist_ok=True)
        (own / "cgroup.procs").write_text("0")
    except OSError as error:
        with suppress(OSError):
            own.rmdir()
        return (f"the guardian stays in the command's control group ({error.strerror})",)
    return ()


def come_back() -> None:
    """Go back to the top of the control groups, so that our own can be taken away."""
    top = _control_groups()
    if top is not None and (top / f"tapbridge-guard-{os.getpid()}").is_dir():
        with suppress(OSError):
            (top / "cgroup.procs").write_text("0")
        drop_control_group(os.getpid())


def drop_control_group(pid: int) -> None:
    """Take a guardian's control group away, if it had one and is gone."""
    top = _control_groups()
    if top is not None:
        with suppress(OSError):
            (top / f"tapbridge-guard-{pid}").rmdir()


def start_time(pid: int) -> int:
    """When a process started, in clock ticks since boot (proc(5), stat, field 22); 0 where there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()
    except OSError:
        return 0
    return int(fields[19]) if fields[0] not in (b"Z", b"X") else 0


def ended(pidfd: int, limit_ms: int) -> bool:
    """Whether a process has ended, at the latest after the limit."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(limit_ms))
