"""The system calls around namespaces, and a child process inside one. The standard library has them from 3.12 on."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from typing import Final

CLONE_NEWNS: Final = 0x00020000  # include/uapi/linux/sched.h
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWNET: Final = 0x40000000
MS_BIND: Final = 0x1000  # include/uapi/linux/mount.h
MS_REC: Final = 0x4000
MS_SLAVE: Final = 0x80000
MNT_DETACH: Final = 2

_libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    """Leave some namespaces for new ones. Raises OSError."""
    _checked(_libc.unshare(flags), "unshare")


def setns(fd: int, flags: int) -> None:
    """Enter namespaces of the process that a pidfd stands for. Raises OSError."""
    _checked(_libc.setns(fd, flags), "setns")


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """Mount a file system, or with MS_BIND a folder. Raises OSError."""
    arguments = (
        source.encode(),
        target.encode(),
        kind.encode() or None,
        ctypes.c_ulong(flags),
        options.encode() or None,
    )
    _checked(_libc.mount(*arguments), f"mount {kind or source} on {target}")


def detach(target: str) -> None:
    """Unmount lazily, what is mounted below it too. Raises OSError."""
    _checked(_libc.umount2(target.encode(), MNT_DETACH), f"umount {target}")


def enter_user_namespace() -> None:
    """Become root of a user namespace of our own. Raises OSError where the system does not allow that.

    setgroups must be denied before an unprivileged process may map its group: user_namespaces(7).
    """
    uid, gid = os.geteuid(), os.getegid()
    unshare(CLONE_NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


def enter(pid: int, pidfd: int) -> None:
    """Enter the namespaces of a process, all at once, so that nobody is ever half in the machine. Raises OSError."""
    other_user = os.stat("/proc/self/ns/user").st_ino != os.stat(f"/proc/{pid}/ns/user").st_ino
    setns(pidfd, CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWUTS | (CLONE_NEWUSER if other_user else 0))


def in_own_user_namespace() -> bool:
    """Whether this process is outside of the user namespace that the machine started with."""
    with open("/proc/self/uid_map", encoding="ascii") as file:
        return file.read().split() != ["0", "0", "4294967295"]


def started(pid: int) -> int | None:
    """When a process started, in clock ticks since boot, or None: PID and this together name one process for ever."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(fields[19]) if fields[0] not in "ZX" else None  # a zombie has no namespaces any more


def find_pidfd(pid: int, start: int) -> int | None:
    """A pidfd of that very process, or None if it is gone."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    if started(pid) == start:  # read behind pidfd_open: the two cannot be different processes
        return pidfd
    os.close(pidfd)
    return None


def close_all_but(kept: Sequence[int]) -> None:
    """Close every descriptor above stderr, but for those."""
    low = 3
    for fd in sorted(kept):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX"))


def _checked(result: int, what: str) -> None:
    if result != 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno), what)
