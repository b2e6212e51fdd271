"""Which process holds which tap, from /proc.

Theory of operation. A process that attached a file of /dev/net/tun to a tap shows the tap's name in the line
`iff:` of /proc/PID/fdinfo/FD (tun_chr_show_fdinfo(), drivers/net/tun.c). The name is the link's present one, and
it is bare: it does not say in which network namespace. A tap is born in the namespace in which its process
opened /dev/net/tun, which is nearly always the process's own, so a holder in our namespace is believed. A holder
that lives in another one (a rootless guest's tap lies there; a guest that got its fd from a service has it here)
is asked: see `netns.py`. A macvtap's file is /dev/tapN, N being its ifindex in the namespace of its link.

/proc belongs to strangers: processes end while they are read, and their texts may hold anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from tapbridge.model.noun import dataclass

PROC = "/proc"
CMDLINE_BYTES = 1 << 18
NETWORKD = "systemd-network"  # TASK_COMM_LEN cuts the rest


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """A file descriptor of a process that is attached to a tap (`link`) or to a macvtap (`index`)."""

    pid: int
    fd: int
    link: str | None = None
    index: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """What is known of a process. `program` is the file name of its executable, or where that cannot be read of
    its first argument; `comm` is the kernel's name for it. `started` is in clock ticks since boot. `netns` is None
    where it cannot be seen."""

    pid: int
    uid: int
    comm: str
    program: str
    argv: tuple[str, ...]
    started: int
    netns: tuple[int, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """Every holding that can be seen, the processes that serve DHCP by dnsmasq or may by systemd-networkd, and how many
    processes did not let themselves be read."""

    holdings: tuple[Holding, ...] = ()
    dnsmasq: tuple[int, ...] = ()
    networkd: tuple[int, ...] = ()
    hidden: int = 0


def take_census() -> Census:
    """Read every process's descriptors once."""
    holdings: list[Holding] = []
    servers: dict[str, list[int]] = {"dnsmasq": [], NETWORKD: []}
    hidden = 0
    for name in os.listdir(PROC):
        if not name.isdigit():
            continue
        try:
            holdings += _holdings(name)
        except PermissionError:
            hidden += 1
        except OSError:  # it has ended
            continue
        comm = _comm(name)
        if comm in servers:
            servers[comm].append(int(name))
    return Census(
        holdings=tuple(holdings),
        dnsmasq=tuple(servers["dnsmasq"]),
        networkd=tuple(servers[NETWORKD]),
        hidden=hidden,
    )


def _holdings(pid: str) -> Iterator[Holding]:
    folder = f"{PROC}/{pid}/fd/"
    for fd in os.listdir(folder):
        try:
            target = os.readlink(folder + fd)
        except FileNotFoundError:
            continue
        # Inside a container or a jail the path may be another one; the line `iff:` is what decides.
        if target[:5] != "/dev/" and "/tun" not in target:
            continue
        target = target.removesuffix(" (deleted)")
        if target.endswith("/tun"):
            link = _find_iff(pid, fd)
            if link is not None:
                yield Holding(pid=int(pid), fd=int(fd), link=link)
        elif target.startswith("/dev/tap") and target[8:].isascii() and target[8:].isdigit():
            yield Holding(pid=int(pid), fd=int(fd), index=int(target[8:]))


def _find_iff(pid: str, fd: str) -> str | None:
    try:
        lines = _glance(f"{PROC}/{pid}/fdinfo/{fd}").split(b"\n")
    except OSError:
        return None
    names = [line[4:].strip() for line in lines if line.startswith(b"iff:")]
    return names[0].decode("utf-8", "surrogateescape") if names and names[0] else None


def find_process(pid: int) -> Process | None:
    """What is known of a process; None if it has ended."""
    folder = f"{PROC}/{pid}"
    try:
        status = _glance(f"{folder}/status").decode("ascii", "backslashreplace")
        stat = _glance(f"{folder}/stat")
        words = read(f"{folder}/cmdline", CMDLINE_BYTES).removesuffix(b"\0")
    except OSError:
        return None
    argv = tuple(word.decode("utf-8", "backslashreplace") for word in words.split(b"\0")) if words else ()
    uids = next((line.split() for line in status.split("\n") if line.startswith("Uid:")), [])
    comm = stat[stat.index(b"(") + 1 : stat.rindex(b")")].decode("utf-8", "backslashreplace")
    first = argv[0].rsplit("/", 1)[-1] if argv else ""
    return Process(
        pid=pid,
        uid=int(uids[2]),  # the effective one
        comm=comm,
        program=_find_executable(folder) or first or comm,
        argv=argv,
        started=int(stat[stat.rindex(b")") + 1 :].split()[19]),
        netns=find_namespace("net", folder),
    )


def find_namespace(kind: str, folder: str = f"{PROC}/thread-self") -> tuple[int, int] | None:
    """The identity (device, inode) of a process's namespace, `net` or `mnt`; None where it cannot be seen."""
    try:
        status = os.stat(f"{folder}/ns/{kind}")
    except OSError:
        return None
    return status.st_dev, status.st_ino


def read_cgroup(pid: int) -> str:
    """The control groups of a process, a line for each hierarchy; "" if it has ended."""
    try:
        return _glance(f"{PROC}/{pid}/cgroup").decode("utf-8", "backslashreplace")
    except OSError:
        return ""


def _find_executable(folder: str) -> str | None:
    try:
        target = os.readlink(f"{folder}/exe")
    except OSError:
        return None
    name = target.removesuffix(" (deleted)").rsplit("/", 1)[-1]
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _comm(pid: str) -> str:
    try:
        return _glance(f"{PROC}/{pid}/comm").decode("utf-8", "backslashreplace").rstrip("\n")
    except OSError:
        return ""


def read(path: str, limit: int) -> bytes:
    """A file of /proc, as much of it as `limit`; unbuffered. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        chunks = []
        while limit > 0 and (chunk := os.read(fd, limit)):
            chunks.append(chunk)
            limit -= len(chunk)
        return b"".join(chunks)
    finally:
        os.close(fd)


def _glance(path: str) -> bytes:
    """A file of /proc that is one record: a single read has all of it. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 16384)
    finally:
        os.close(fd)
