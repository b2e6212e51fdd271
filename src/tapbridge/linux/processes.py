"""Processes as /proc shows them: found, looked into, ended, started.

Whoever has an account chooses the names and arguments of his processes, and by a user namespace of his own also their
capabilities as /proc prints them. What counts is the user id as seen from here, which nobody chooses.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from tapbridge.model.errors import HostError

_ARGV_BYTES = 65536
_DESCRIPTORS = 200_000  # looked at in one search at most
_CAP_NET_ADMIN = 12  # include/uapi/linux/capability.h


class Holder(NamedTuple):
    """The process that has a socket open."""

    program: str
    pid: int


def read_bytes(path: str, limit: int = 4096) -> bytes:
    """The first `limit` bytes of a file; nothing where it cannot be read, for processes come and go."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        parts = []
        while limit > 0 and (part := os.read(fd, limit)):
            parts.append(part)
            limit -= len(part)
        return b"".join(parts)
    except OSError:
        return b""
    finally:
        os.close(fd)


def pids() -> Iterator[int]:
    """Every process that /proc shows."""
    return (int(name) for name in os.listdir("/proc") if name.isdecimal())


def command_name(pid: int) -> str:
    """The name of a process: 15 bytes at most, chosen by itself."""
    return read_bytes(f"/proc/{pid}/comm", 64).removesuffix(b"\n").decode(errors="replace")


def argument_vector(pid: int) -> tuple[str, ...]:
    """The argument vector of a process, cut at 64 KiB."""
    words = read_bytes(f"/proc/{pid}/cmdline", _ARGV_BYTES)
    return (
        tuple(word.decode(errors="surrogateescape") for word in words.removesuffix(b"\0").split(b"\0")) if words else ()
    )


def in_our_netns(pid: int) -> bool:
    """Whether a process is in the network namespace of this thread; no, where we may not know."""
    return _same_file(f"/proc/{pid}/ns/net", "/proc/thread-self/ns/net")


def sees_our_file(pid: int, path: str) -> bool:
    """Whether a path is the same file for a process, in its mount namespace and root, as it is for us."""
    return _same_file(f"/proc/{pid}/root{path}", path)


def may_configure_network(pid: int) -> bool:
    """Whether a process has the right to configure our links.

    User id 0 as seen from here, or CAP_NET_ADMIN in our own user namespace: in a namespace of his own every user has
    all capabilities, and they mean nothing here. (The owner of the files in /proc/PID would not do: those of a
    process that forbids its being dumped are root's.)
    """
    status = dict(line.split(b":\t", 1) for line in read_bytes(f"/proc/{pid}/status").splitlines() if b":\t" in line)
    ids = status.get(b"Uid", b"").split()
    if len(ids) > 1 and ids[1] == b"0":
        return True
    capable = bool(int(status.get(b"CapEff", b"0"), 16) >> _CAP_NET_ADMIN & 1)
    return capable and _same_file(f"/proc/{pid}/ns/user", "/proc/thread-self/ns/user")


def parent(pid: int) -> int:
    """The process id of a process's parent; 0 where it has none or is gone."""
    fields = _stat(pid)
    return int(fields[1]) if len(fields) > 1 else 0


def session(pid: int) -> int:
    """The process id of the leader of a process's session (proc(5), stat, field 6), who may be dead; 0 where it is
    gone."""
    fields = _stat(pid)
    return int(fields[3]) if len(fields) > 3 else 0


def state(pid: int) -> str:
    """What a process does, in one letter (proc(5), stat, field 3): `T` if it was stopped; "" where it is gone."""
    fields = _stat(pid)
    return fields[0].decode() if fields else ""


def start_time(pid: int) -> int:
    """When a process started, in clock ticks since boot (proc(5), stat, field 22); 0 where there is none."""
    fields = _stat(pid)
    return int(fields[19]) if len(fields) > 19 else 0


def clock_ticks() -> int:
    """Now, as `start_time` counts."""
    import time

    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK") // 1_000_000_000


def _stat(pid: int) -> list[bytes]:
    """The fields of /proc/PID/stat behind the name."""
    return read_bytes(f"/proc/{pid}/stat").rpartition(b") ")[2].split()


def descriptors(pid: int) -> Iterator[str]:
    """What the file descriptors of a process lead to: a path, or a word such as `socket:[4711]`."""
    folder = f"/proc/{pid}/fd"
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        try:
            yield os.readlink(f"{folder}/{name}")
        except OSError:
            continue


def find_holders(inodes: Collection[int]) -> dict[int, Holder]:
    """The process behind each socket, by the socket's inode, as far as /proc lets us see it.

    Costs a readlink(2) for each descriptor of the machine, so ask only when there is something to ask for; it gives
    up after 200,000. Of several processes that share a socket one is named.
    """
    wanted = {f"socket:[{inode}]": inode for inode in inodes if inode}
    found: dict[int, Holder] = {}
    seen = 0
    for pid in pids() if wanted else ():
        for target in descriptors(pid):
            seen += 1
            inode = wanted.get(target)
            if inode is not None and inode not in found:
                found[inode] = Holder(command_name(pid), pid)
        if len(found) == len(wanted) or seen > _DESCRIPTORS:
            break
    return found


def control_group(pid: int) -> str:
    """The control group in which systemd keeps a process, as `/system.slice/…`; "" where none tells anything."""
    unified = named = ""
    for line in read_bytes(f"/proc/{pid}/cgroup").decode(errors="replace").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0":
            unified = path
        elif controllers == "name=systemd":
            named = path
    path = unified if unified not in ("", "/") else named
    return "" if path in ("", "/") or ".." in path.split("/") else path


def hold(found: Iterable[int], matches: Callable[[int], bool]) -> dict[int, int]:
    """A descriptor by PID for each process of `found` that `matches`, asked once the process is held: from then on
    its PID cannot become another's. `wait_for_ends` closes the descriptors."""
    held = {}
    for pid in found:
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        if matches(pid):
            held[pid] = fd
        else:
            os.close(fd)
    return held


def wait_for_ends(held: Iterable[int], limit_s: float) -> bool:
    """Wait until every process has ended; False if one has not after `limit_s` seconds. Closes the descriptors."""
    import select
    import time

    waiting = set(held)
    poll = select.poll()
    for fd in waiting:
        poll.register(fd, select.POLLIN)
    deadline = time.monotonic() + limit_s
    try:
        while waiting and (left := deadline - time.monotonic()) > 0:
            for fd, _ in poll.poll(left * 1000):
                poll.unregister(fd)
                waiting.discard(fd)
                os.close(fd)
        return not waiting
    finally:
        for fd in waiting:
            os.close(fd)


def spawn(argv: Sequence[str], environment: Sequence[str], cwd: str, cgroup: str) -> int:
    """Start a program that has nothing of ours: no terminal, no descriptor, no signal mask; its PID.

    It is in the network namespace of this thread, and in the control group `cgroup` where that exists. Raises
    HostError if the program cannot be executed.
    """
    variables = dict(item.split("=", 1) for item in environment if "=" in item)
    reading, writing = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            _detach(keep=writing)
            _join(cgroup)
            _enter(cwd)
            os.execvpe(argv[0], list(argv), variables)
        except OSError as error:
            os.write(writing, str(error.errno or 0).encode())
        finally:
            os._exit(127)
    os.close(writing)
    failed = os.read(reading, 16)
    os.close(reading)
    if failed:
        os.waitpid(pid, 0)
        raise HostError(f"{argv[0]} cannot be started: {os.strerror(int(failed))}", errno=int(failed))
    return pid


def control_group_folders(cgroup: str) -> list[str]:
    """The folders of a control group that exist, in the unified and in systemd's own hierarchy."""
    if not cgroup:
        return []
    roots = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd")
    return [root + cgroup for root in roots if os.path.exists(f"{root}{cgroup}/cgroup.procs")]


def _detach(keep: int) -> None:
    import signal

    os.setsid()
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.closerange(3, keep)
    os.closerange(keep + 1, 2**31 - 1)
    os.umask(0o022)
    _write("/proc/self/oom_score_adj", "0")  # a guardian's protection is not for its children


def _join(cgroup: str) -> None:
    for folder in control_group_folders(cgroup):
        _write(f"{folder}/cgroup.procs", "0")


def _write(path: str, text: str) -> None:
    """Write where it is allowed; what this is for is not worth a failure."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.write(fd, text.encode())
    except OSError:
        pass
    finally:
        os.close(fd)


def _enter(folder: str) -> None:
    try:
        os.chdir(folder)
    except OSError:
        os.chdir("/")


def _same_file(one: str, other: str) -> bool:
    try:
        return os.path.samestat(os.stat(one), os.stat(other))
    except OSError:
        return False
