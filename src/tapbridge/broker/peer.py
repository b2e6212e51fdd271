"""Who is at the other end of a socket, and which process a client means: by the kernel's word alone."""

from __future__ import annotations

import os
import select
import socket
import struct
from typing import Final, NamedTuple

from tapbridge.broker.policy import Peer

_SO_PEERGROUPS: Final = 59
_SO_NETNS_COOKIE: Final = 71
_GROUPS: Final = 1024  # bytes, which is all that Python asks for: 256 groups
_STARTED: Final = 19  # among the fields of /proc/PID/stat behind the name


class Process(NamedTuple):
    """A process that lives. `started` is in clock ticks since boot; `uid` is its effective user."""

    pid: int
    uid: int
    started: int


def read_peer(connection: socket.socket) -> Peer:
    """The user and the groups of the process that connected. Raises OSError."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    _, uid, gid = struct.unpack("=iII", credentials)
    try:
        groups = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS)
    except OSError:  # more groups than that: the first one alone counts
        groups = b""
    return Peer(uid, frozenset((gid, *struct.unpack(f"={len(groups) // 4}I", groups))))


def read_netns(connection: socket.socket) -> int:
    """The number of a socket's network namespace. An accepted one is in that of who connected (unix_stream_connect(),
    net/unix/af_unix.c). Raises OSError."""
    cookie: int = struct.unpack("=Q", connection.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8))[0]
    return cookie


def find_process(pidfd: int) -> Process | None:
    """The living process of a pidfd; None for any other file, and for a process that we cannot see."""
    try:
        with open(f"/proc/self/fdinfo/{pidfd}", "rb") as file:
            pids = [line.split()[1] for line in file.read(4096).splitlines() if line.startswith(b"Pid:\t")]
        found = _read_process(int(pids[0])) if pids else None
    except (OSError, ValueError, IndexError):
        return None
    return found if found is not None and not has_ended(pidfd) else None  # so the PID was its own until now


def read_groups(pid: int) -> frozenset[int]:
    """The groups of a process. Raises OSError, ValueError."""
    with open(f"/proc/{pid}/status", "rb") as file:
        lines = file.read(1 << 20).splitlines()
    (effective,) = [line.split()[2] for line in lines if line.startswith(b"Gid:\t")]
    (others,) = [line.split()[1:] for line in lines if line.startswith(b"Groups:\t")]
    return frozenset(map(int, (effective, *others)))


def reopen(pid: int, started: int) -> int | None:
    """A pidfd of the process that had this PID at that time; None if it has ended."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return None
    found = find_process(pidfd)
    if found is not None and found.started == started:
        return pidfd
    os.close(pidfd)
    return None


def has_ended(pidfd: int) -> bool:
    """Whether the process of a pidfd has ended."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def _read_process(pid: int) -> Process | None:
    if pid <= 0:  # it has ended, or is of a PID namespace that is not below ours
        return None
    with open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read(4096).rpartition(b") ")[2].split()
    with open(f"/proc/{pid}/status", "rb") as file:
        uids = [line.split()[2] for line in file.read(8192).splitlines() if line.startswith(b"Uid:\t")]
    return Process(pid, int(uids[0]), int(fields[_STARTED]))
