"""script/bench deadman: how late an unconfirmed change is taken back, whatever became of its command.

Each run makes a change that waits a second to be confirmed, does something to its command, and looks until the journal
goes, which is the guardian's last act after the host has been read back. What is told is how long after the deadline
the kernel told of the last change (to a link, an address, a route or a rule), and how long after it the journal went;
and whether the host is as before by iproute2's word and takes a new TCP connection.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from meter import apart, progress
from meter.figures import table
from meter.recipes import TAPBRIDGE
from meter.rig import HOST_IPS, NIC, Rig, netns_words, run

WINDOW_S = 1
UP = [str(TAPBRIDGE), "-q", "up", NIC, "--yes", "--confirm", str(WINDOW_S)]
LIMIT_S = 10.0
LOOK_S = 0.001
BUSY_LOOPS = 8
BARS_MS = {"p50": 60.0, "p99": 300.0, "max": 1000.0}
WAYS = ("killed", "stopped", "hung up", "stopped while it applies", "killed while it applies")
RUNS = Path("/run/tapbridge")
STRACE = Path("/run/bench-strace")


@dataclass(frozen=True, slots=True, kw_only=True)
class Late:
    """One run: how it was broken, how long after the deadline the host was as before, and how long until the guardian
    had read it back and closed the journal; None: it was not as before."""

    way: str
    late_ms: float | None
    closed_ms: float | None


def main() -> int:
    """Run the program; the exit code says whether every run was restored within the bars."""
    options = argparse.ArgumentParser(prog="script/bench deadman", description=__doc__)
    options.add_argument("--runs", type=int, default=300, help="how many runs (300)")
    options.add_argument("--load", action="store_true", help=f"beside {BUSY_LOOPS} busy loops")
    options.add_argument("--json", action="store_true", help="print the figures of every run as JSON")
    args = options.parse_args()
    apart.enter()
    with load() if args.load else contextlib.nullcontext(), Rig(leased=False), listening(), watching() as changes:
        sends = guarded_sends()
        found = []
        for number in range(args.runs):
            progress.tell(f"run {number + 1} of {args.runs}")
            way, send = WAYS[number % len(WAYS)], sends[number // len(WAYS) % len(sends)]
            # what it asks before it is under guard is not always as many messages
            tried = (one_run(way, send + later, changes) for later in range(len(sends)))
            run = next(filter(None, tried), None)
            if run is None:
                raise RuntimeError(f"no change that is {way} was ever under guard")
            found.append(run)
    every = [[one.way, one.late_ms, one.closed_ms] for one in found]
    print(json.dumps(every) if args.json else report(found, load=args.load))
    return 0 if verdict(found) else 1


def guarded_sends() -> range:
    """The numbers of the netlink messages that a change sends under guard, of one change that nothing breaks."""
    trace = ["strace", "-o", str(STRACE), "-s", "4096", "-e", "trace=sendto,write"]
    subprocess.run([*netns_words("host"), *trace, *UP], check=False, capture_output=True)
    lines = STRACE.read_text().splitlines()
    armed = next(number for number, line in enumerate(lines) if "Armed" in line)
    applied = next(number for number, line in enumerate(lines) if "Applied" in line)
    first = sum(line.startswith("sendto") for line in lines[:armed]) + 1
    return range(first, first + sum(line.startswith("sendto") for line in lines[armed:applied]))


def one_run(way: str, send: int, changes: int) -> Late | None:
    """One change, broken in one way; while it applies, before its message of the number `send`. None: that was before
    it was under guard, so that there was nothing to take back. `changes` is what `watching` yields."""
    before = fingerprint()
    words = [*netns_words("host"), *_traced(way, send), *UP]
    command = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = _deadline("Armed" if "applies" in way else "Applied")
        if deadline is None:
            return None
        if "applies" not in way:
            command.send_signal({"killed": signal.SIGKILL, "stopped": signal.SIGSTOP, "hung up": signal.SIGHUP}[way])
        if way == "killed while it applies":  # there is no deadline: the guardian sees the death
            command.wait(timeout=LIMIT_S)
            deadline = time.clock_gettime(time.CLOCK_BOOTTIME)
        ended = _journal_goes(deadline)
    finally:
        command.kill()
        command.wait()
        for pid in subprocess.run(
            ["ip", "netns", "pids", "host"], capture_output=True, text=True, check=True
        ).stdout.split():
            with contextlib.suppress(OSError):  # it has ended meanwhile
                if Path(f"/proc/{pid}/comm").read_text() == "tapbridge\n":
                    os.kill(int(pid), signal.SIGKILL)
    good = ended is not None and fingerprint() == before and answers()
    if not good or ended is None:
        return Late(way=way, late_ms=None, closed_ms=None)
    changed = max((at for at in _times(changes) if at <= ended), default=ended)
    late_ms, closed_ms = (max(0.0, (at - deadline) * 1000) for at in (changed, ended))
    return Late(way=way, late_ms=late_ms, closed_ms=closed_ms)


def _traced(way: str, send: int) -> list[str]:
    if "applies" not in way:
        return []
    what = "SIGSTOP" if way.startswith("stopped") else "SIGKILL"
    inject = f"inject=sendto:signal={what}:when={send}"
    return ["strace", "-o", str(STRACE), "-e", "trace=sendto", "-e", inject]


def _journal() -> Path | None:
    return next(iter(RUNS.glob("netns-*/journal")), None)


def _deadline(record: str) -> float | None:
    """When the change is to be taken back, in seconds of CLOCK_BOOTTIME, as its journal says; None: it never said."""
    field = "apply_by" if record == "Armed" else "confirm_by"
    pattern = re.compile(rf'"_":"{record}".*?"{field}":([0-9.]+)')
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until:
        path = _journal()
        with contextlib.suppress(FileNotFoundError):
            found = pattern.search(path.read_text()) if path is not None else None
            if found:
                return float(found[1])
        time.sleep(LOOK_S * 5)
    return None


def _journal_goes(deadline: float) -> float | None:
    """When the journal was seen gone, None if it never was."""
    while (now := time.clock_gettime(time.CLOCK_BOOTTIME)) < deadline + LIMIT_S:
        if _journal() is None:
            return now
        time.sleep(LOOK_S if now > deadline - 0.05 else 0.02)
    return None


def fingerprint() -> str:
    """The host by iproute2's word, without what changes by itself."""
    told = [
        run("host", "ip", "-d", "-j", "address", "show"),
        run("host", "ip", "-j", "route", "show", "table", "all"),
        run("host", "ip", "-6", "-j", "route", "show", "table", "all"),
        run("host", "ip", "-j", "rule", "show"),
    ]
    return re.sub(r'"(ifindex|link_index|expires|valid_life_time|preferred_life_time)":[0-9]+,?', "", "".join(told))


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """A host that takes TCP connections."""
    serve = """import socket
server = socket.create_server(("::", 7), family=socket.AF_INET6, dualstack_ipv6=True)
while True:
    server.accept()[0].close()
"""
    with subprocess.Popen([*netns_words("host"), sys.executable, "-c", serve]) as server:
        try:
            yield
        finally:
            server.kill()


@contextlib.contextmanager
def watching() -> Iterator[int]:
    """A pipe of the times, in seconds of CLOCK_BOOTTIME, at which the host's kernel told of a change."""
    watch = """import socket, time
events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
events.bind((0, sum(1 << group - 1 for group in (1, 5, 7, 8, 9, 11, 19))))  # RTNLGRP_*: links to rules, both families
print(flush=True)
while True:
    events.recv(65536)
    print(time.clock_gettime(time.CLOCK_BOOTTIME), flush=True)
"""
    words = [*netns_words("host"), sys.executable, "-c", watch]
    with subprocess.Popen(words, stdout=subprocess.PIPE, bufsize=0) as watcher:
        assert watcher.stdout is not None
        try:
            watcher.stdout.readline()
            os.set_blocking(watcher.stdout.fileno(), False)
            yield watcher.stdout.fileno()
        finally:
            watcher.kill()


def _times(changes: int) -> list[float]:
    """What `watching` has told since the last call."""
    told = b""
    with contextlib.suppress(BlockingIOError):
        while part := os.read(changes, 65536):
            told += part
    return [float(word) for word in told.split()]


def answers() -> bool:
    """Whether the host takes a new connection of either family from the LAN, the caches flushed."""
    run("lan", "ip", "neigh", "flush", "dev", "p0")
    connect = "import socket,sys\nfor ip in sys.argv[1:]:socket.create_connection((ip,7),2).close()"
    done = subprocess.run(
        [*netns_words("lan"), sys.executable, "-c", connect, *HOST_IPS], check=False, capture_output=True
    )
    return done.returncode == 0


@contextlib.contextmanager
def load() -> Iterator[None]:
    """Busy loops, four for each processor of two."""
    loops = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(BUSY_LOOPS)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def report(found: list[Late], *, load: bool) -> str:
    """The figures as a table."""
    rows = [["all", *_figures(found)]] + [[way, *_figures([one for one in found if one.way == way])] for way in WAYS]
    beside = f"beside {BUSY_LOOPS} busy loops" if load else "on a machine with nothing else to do, or what it had"
    head = f"Linux {platform.release()}, {os.cpu_count()} cores, Python {platform.python_version()}; {beside}."
    return f"{head}\n\n" + table(["command", "runs", "restored", "p50 ms", "p99 ms", "max ms", "closed p50 ms"], rows)


def _figures(found: list[Late]) -> list[str]:
    times = sorted(one.late_ms for one in found if one.late_ms is not None)
    if not times:
        return [str(len(found)), "0", "", "", "", ""]
    p99 = times[min(len(times) - 1, round(len(times) * 0.99))]
    closed = statistics.median(one.closed_ms for one in found if one.closed_ms is not None)
    figures = (statistics.median(times), p99, times[-1], closed)
    return [str(len(found)), str(len(times)), *(f"{figure:.0f}" for figure in figures)]


def verdict(found: list[Late]) -> bool:
    """Whether all were restored, within the bars."""
    times = sorted(one.late_ms for one in found if one.late_ms is not None)
    if len(times) < len(found):
        return False
    p99 = times[min(len(times) - 1, round(len(times) * 0.99))]
    return statistics.median(times) <= BARS_MS["p50"] and p99 <= BARS_MS["p99"] and times[-1] <= BARS_MS["max"]
