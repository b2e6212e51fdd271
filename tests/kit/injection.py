"""Faults at a system call of a program, by strace: counted in a dry run, then each in turn. The program knows nothing.

Theory of operation. strace counts the calls of each kind by itself (`when=K` is the K-th sendto, not the K-th call), so
a point is a kind and a number. Only the program's first process is watched; what it starts runs free.

To kill, strace would stop the program at all of its two thousand calls. With --seccomp-bpf it stops at the watched
ones alone, four times as fast, but cannot deliver a signal there; and it must follow children, each with a count of
its own. So where the program starts none, strace holds it at the entry of the call (delay_enter) and it is killed
there by us; the call is never carried out. What strace saw last is compared with what was asked for, so that a point
is what it is called.
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

Role = Literal["changes", "starts", "tells", "asks"]

_KINDS: Final = (
    *("sendmsg", "sendto", "sendmmsg", "write", "pwrite64", "writev", "ftruncate", "fallocate", "fsync", "fdatasync"),
    *("rename", "renameat", "renameat2", "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir", "link", "linkat"),
    *("symlink", "symlinkat", "chmod", "fchmod", "fchmodat", "chown", "fchown", "fchownat", "utimensat", "ioctl"),
    *("bpf", "kill", "tgkill", "pidfd_send_signal", "clone", "clone3", "fork", "vfork", "execve", "execveat"),
    *("setns", "unshare", "mount", "umount2", "openat"),
)
_STARTS: Final = ("clone", "clone3", "fork", "vfork")
_ASKING: Final = re.compile(r"nlmsg_type=(?:\w+<<8\|)?(?:RTM_GET|NFT_MSG_GET|SOCK_DIAG_BY_FAMILY|\w+_GET)")
_CHANGING: Final = re.compile(r"nlmsg_type=(?:\w+<<8\|)?(?:RTM_NEW|RTM_DEL|RTM_SET|NFT_MSG_NEW|NFT_MSG_DEL|NFNL_MSG)")
_ASKING_IOCTLS: Final = ("TCGETS", "FIONBIO", "FIOCLEX", "FIONCLEX", "SIOCETHTOOL", "SIOCGIF", "TUNGET", "TIOCGWINSZ")
_MAKING: Final = re.compile(r"O_(?:CREAT|TRUNC)")
_LINE: Final = re.compile(r"(?:\d+ +)?(\w+)\((.*)")
_PATH: Final = re.compile(r'^AT_FDCWD[^"]*"([^"]+)"')
_CALLS, _KILL, _FAIL = "calls.strace", "kill.strace", "fail.strace"
_HELD_S: Final = 120
_LIMIT_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """The system call of this kind and number; of files that are made, of those to this path."""

    kind: str
    number: int
    role: Role
    text: str
    path: str | None = None

    def __str__(self) -> str:
        return f"{self.kind} {self.number} ({self.text[:90]})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Where a program runs: what it is told, the words before it that lead there, and a folder for strace's log, which
    strace sees as `there`."""

    environment: Mapping[str, str]
    folder: Path
    there: str
    before: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a program ended under a fault. `reached`: it came to the call at all; `calls` are those that strace saw."""

    code: int
    reached: bool
    output: str


def calls_of(words: Sequence[str], where: Where) -> list[Call]:
    """Run a program to its end, and tell its calls that change something, that start something, or that ask."""
    _run([*where.before, *_strace(f"{where.there}/{_CALLS}"), "-s", "200", f"--trace={_kinds(_KINDS)}", *words], where)
    return _read((where.folder / _CALLS).read_text(errors="replace"))


def kill(call: Call, words: Sequence[str], where: Where, *, alone: bool) -> Ended:
    """Run a program and kill it before this call. `alone`: it starts no other, and nothing leads there."""
    log = where.folder / _KILL
    log.write_text("")
    traced = [*where.before, *_strace(f"{where.there}/{_KILL}"), "-s", "0", f"--trace={call.kind}", *_only(call)]
    if alone:
        held = f"--inject={call.kind}:delay_enter={_HELD_S}s:when={call.number}"
        words = [*traced, "--follow-forks", "--seccomp-bpf", held, *words]
        ended = _kill_held(words, where, lambda: _count(log, call) >= call.number - 1)
    else:
        ended = _run([*traced, f"--inject={call.kind}:signal=SIGKILL:when={call.number}", *words], where)
    reached = ended.returncode in (137, -9)
    assert not reached or _count(log, call) == call.number, f"not killed at {call}: {log.read_text()[-2000:]}"
    return Ended(code=ended.returncode, reached=reached, output=ended.stderr)


def calls_of_running(pid: int, folder: Path) -> list[Call]:
    """The calls of a process that runs already, from now to its end."""
    log = folder / _CALLS
    with _attached(pid, [*_strace(log), "-s", "200", f"--trace={_kinds(_KINDS)}"]):
        pass
    return _read(log.read_text(errors="replace"))


def kill_running(call: Call, pid: int, folder: Path) -> bool:
    """Kill a process that runs already before this call, counted from now; whether it came to it."""
    log = folder / _KILL
    inject = f"--inject={call.kind}:signal=SIGKILL:when={call.number}"
    with _attached(pid, [*_strace(log), "-s", "0", f"--trace={call.kind}", *_only(call), inject]):
        pass
    return _count(log, call) == call.number


def fail(call: Call, fault: str, words: Sequence[str], where: Where, *, alone: bool) -> Ended:
    """Run a program whose call fails with this error, or is late by this `delay_enter=…`."""
    log = where.folder / _FAIL
    traced = [*where.before, *_strace(f"{where.there}/{_FAIL}"), "-s", "0"]
    quick = ["--follow-forks", "--seccomp-bpf"] if alone else []
    inject = f"--inject={call.kind}:{fault}:when={call.number}"
    ended = _run([*traced, *quick, f"--trace={call.kind}", *_only(call), inject, *words], where)
    said = ended.stdout + ended.stderr
    return Ended(code=ended.returncode, reached=_count(log, call) >= call.number, output=said)


@contextmanager
def _attached(pid: int, words: Sequence[str]) -> Iterator[None]:
    """Strace at a process until that ends."""
    with subprocess.Popen([*words, "-p", str(pid)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as strace:
        deadline = time.monotonic() + _LIMIT_S
        while strace.poll() is None and f"TracerPid:\t{strace.pid}\n" not in Path(f"/proc/{pid}/status").read_text():
            assert time.monotonic() < deadline, f"strace does not attach to {pid}"
            time.sleep(0.002)
        yield
        strace.wait(_LIMIT_S)


def _strace(log: Path | str) -> list[str]:
    return ["strace", "-qq", "-e", "signal=none", "-o", str(log)]


def _kinds(kinds: Sequence[str]) -> str:
    return ",".join(f"?{kind}" for kind in kinds)  # an architecture that has not all of them


def _only(call: Call) -> list[str]:
    return ["-P", call.path] if call.path is not None else []


def _run(words: Sequence[str], where: Where) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(words),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=_LIMIT_S,
        env={**os.environ, **where.environment},
    )


def _kill_held(words: Sequence[str], where: Where, there: Callable[[], bool]) -> subprocess.CompletedProcess[str]:
    """Kill the program once it is held, and has come as far as that: strace stops it at every call, and on a busy
    machine may be slow to let it go on."""
    with subprocess.Popen(
        list(words),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **where.environment},
    ) as strace:
        deadline = time.monotonic() + _LIMIT_S
        while strace.poll() is None:
            assert time.monotonic() < deadline, f"neither held nor at its end: {words}"
            now = _stopped(strace.pid)
            time.sleep(0.003)
            if now and there() and _sleeps(strace.pid) and _stopped(strace.pid) == now:  # it has not run in between
                _end(int(now.split()[0]), strace)
        assert strace.stderr is not None
        return subprocess.CompletedProcess(words, strace.returncode, "", strace.stderr.read())


def _end(pid: int, strace: subprocess.Popen[str]) -> None:
    """Kill the program, then strace, which would wait until the hold is over; the program is gone when this returns."""
    program = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(program, signal.SIGKILL)
        time.sleep(0.003)  # strace notes the call that was cut off
        strace.kill()
        gone = select.poll()
        gone.register(program, select.POLLIN)
        assert gone.poll(_LIMIT_S * 1000), f"process {pid} did not die"
    finally:
        os.close(program)


def _stopped(strace: int) -> str:
    """The PID of the program and how often it was on a CPU, if its tracer has stopped it; else nothing."""
    try:
        pid = Path(f"/proc/{strace}/task/{strace}/children").read_text().split()[0]
        status = Path(f"/proc/{pid}/status").read_text()
    except (OSError, IndexError):
        return ""
    switches = re.findall(r"ctxt_switches:\s+(\d+)", status)
    return f"{pid} {switches}" if re.search(r"^State:\s+t", status, re.MULTILINE) else ""


def _sleeps(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def _count(log: Path, call: Call) -> int:
    """The calls of its kind that the watched process made; a call that was cut off has a line as well."""
    seen = sum(1 for line in log.read_text(errors="replace").splitlines() if f"{call.kind}(" in line)
    return seen - (call.kind == "execve")


def _read(text: str) -> list[Call]:
    counts: Counter[str] = Counter()
    found = []
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        kind, rest = match.groups()
        if kind == "openat":
            path = _PATH.match(rest)
            if path is None or not _MAKING.search(rest) or "/proc/" in path[1] or re.search(r"\.\d+\.", path[1]):
                continue
            counts[path[1]] += 1
            found.append(Call(kind=kind, number=counts[path[1]], role="changes", text=rest, path=path[1]))
            continue
        counts[kind] += 1
        number = counts[kind] - (kind == "execve")  # the first is strace's own, which no fault hits
        if number:
            found.append(Call(kind=kind, number=number, role=_role(kind, rest), text=rest))
    return [call for call in found if not (call.kind == "ioctl" and call.role == "asks")]


def _role(kind: str, rest: str) -> Role:
    if kind in _STARTS:
        return "starts"
    if kind.startswith("send"):
        return "asks" if _ASKING.search(rest) and not _CHANGING.search(rest) else "changes"
    if kind == "ioctl" and any(word in rest for word in _ASKING_IOCTLS):
        return "asks"
    return "tells" if kind in ("write", "writev") and re.match(r"[12]\b", rest) else "changes"
