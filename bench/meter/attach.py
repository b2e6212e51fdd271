"""script/bench attach: what a guest's tap costs, by the broker and by QEMU's own helper.

docs/bench.md tells what is measured, how, and what it showed.
"""

from __future__ import annotations

import argparse
import array
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path

from meter import apart, progress
from meter.crowd import Figure, compare_taps, measure_churn, measure_killed, measure_ps
from meter.figures import spread, table
from meter.recipes import TAPBRIDGE
from meter.speed import Comparison, report
from tapbridge.broker.client import Client
from tapbridge.broker.protocol import Attach
from tapbridge.model.values import IfName

THEIRS = Path("/usr/lib/qemu/qemu-bridge-helper")
OURS = TAPBRIDGE.with_name("tapbridge-bridge-helper")
BRIDGE = IfName("br0")
POLICY = f"allow user root bridge {BRIDGE} taps 1000 mac any\n"
_SOCKET = Path("/run/tapbridge/broker.sock")
_LIMIT_S = 10
_HELD = 100  # taps that exist at a time, at most
_FEW = 20  # runs of what takes longer


@contextmanager
def serving() -> Iterator[int]:
    """A bridge, a broker that allows root to use it, and QEMU's own policy that allows everybody. The broker's PID."""
    subprocess.run(["mount", "-t", "sysfs", "sysfs", "/sys"], check=True)
    bridge = f"link add {BRIDGE} address 02:00:00:00:00:10 type bridge\nlink set {BRIDGE} up\n"
    subprocess.run(["ip", "-batch", "-"], input=bridge, text=True, check=True)
    for path, text in (("/etc/tapbridge/broker.policy", POLICY), ("/etc/qemu/bridge.conf", "allow all\n")):
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).write_text(text)
    with open("/run/broker.log", "w") as log, subprocess.Popen([TAPBRIDGE, "broker"], stderr=log, stdout=log) as broker:
        try:
            deadline = time.monotonic() + _LIMIT_S
            while not _SOCKET.exists():
                if time.monotonic() > deadline or broker.poll() is not None:
                    raise RuntimeError(f"the broker does not start: {Path('/run/broker.log').read_text()}")
                time.sleep(0.01)
            yield broker.pid
        finally:
            broker.terminate()


def by_program(program: Path) -> tuple[float, int]:
    """The time of a whole program that speaks QEMU's protocol, in ms, and the tap."""
    ours, its = socket.socketpair()
    with ours, its:
        os.set_inheritable(its.fileno(), True)
        words = [str(program), f"--fd={its.fileno()}", f"--br={BRIDGE}", "--use-vnet"]
        started = time.perf_counter()
        code = subprocess.run(words, close_fds=False, check=False).returncode
        took_ms = (time.perf_counter() - started) * 1000
        if code:
            raise RuntimeError(f"{program} ended with {code}")
        return took_ms, array.array("i", ours.recvmsg(1, socket.CMSG_SPACE(4))[1][0][2])[0]


def by_client(client: Client, pidfd: int) -> tuple[float, int]:
    """The time of one request of a client that is connected, in ms, and the tap."""
    started = time.perf_counter()
    _, taps = client.attach(Attach(BRIDGE), pidfd)
    return (time.perf_counter() - started) * 1000, taps[0]


def compare(runs: int) -> list[Comparison]:
    """Pairs of each. Taps are closed between the pairs, for closing one keeps the kernel busy for a while."""
    pidfd, held = os.pidfd_open(os.getpid()), []
    warm: list[tuple[float, float]] = []
    whole: list[tuple[float, float]] = []
    with closing(Client(str(_SOCKET))) as client:
        for turn in range(runs):
            progress.tell(f"attach, run {turn + 1} of {runs}")
            theirs, tap = by_program(THEIRS)
            ours, own = by_program(OURS)
            asked, lent = by_client(client, pidfd)
            held += [tap, own, lent]
            warm.append((asked, theirs))
            whole.append((ours, theirs))
            if len(held) > _HELD:
                _close(held)
    _close(held)
    os.close(pidfd)
    name = THEIRS.name
    return [
        Comparison(
            name="the broker, by a client that is connected", theirs=name, unit="ms", pairs=tuple(warm), bar=0.6
        ),
        Comparison(name=OURS.name, theirs=name, unit="ms", pairs=tuple(whole), bar=12),
    ]


def _close(held: list[int]) -> None:
    while held:
        os.close(held.pop())
    time.sleep(0.2)


def report_figures(figures: Sequence[Figure]) -> str:
    """The table of what is compared with nothing but its bar. Minimum / median / maximum."""
    rows = [
        (
            each.name,
            f"{spread(each.values, 1)} {each.unit}".strip(),
            f"{each.bar:g}" + (", median" if each.of_median else ""),
            "met" if each.met else "NOT MET",
        )
        for each in figures
    ]
    return table(("what", "ours", "bar", ""), rows)


def main() -> int:
    """Measure and report. The exit code is 0 if every bar was met, 1 if not."""
    parser = argparse.ArgumentParser(prog="script/bench attach", description=__doc__)
    parser.add_argument("--runs", type=int, default=200, metavar="N", help="pairs of each comparison (default 200)")
    parser.add_argument("--only", choices=["lend", "taps", "ps", "killed", "churn"], help="one part alone")
    parser.add_argument("--json", action="store_true", help="every figure, as one JSON document")
    args = parser.parse_args()
    if args.runs < 1:
        parser.error("there must be at least one run")
    if not THEIRS.exists():
        parser.error(f"{THEIRS} is missing (Debian: qemu-system-common)")
    apart.enter()
    apart.prepare()
    comparisons: list[Comparison] = []
    figures: list[Figure] = []
    few = min(args.runs, _FEW)
    with serving() as broker:
        if args.only in (None, "lend"):
            comparisons += compare(args.runs)
        if args.only in (None, "taps"):
            comparisons += compare_taps(few, BRIDGE)
        if args.only in (None, "ps"):
            figures += measure_ps(few, BRIDGE)
        if args.only in (None, "killed"):
            figures += measure_killed(_SOCKET, BRIDGE)
        if args.only in (None, "churn"):
            figures += measure_churn(_SOCKET, broker, BRIDGE)
    progress.end()
    if args.json:
        ratios = [{**asdict(found), "ratios": found.ratios, "met": found.met} for found in comparisons]
        single = [{**asdict(told), "met": told.met} for told in figures]
        print(json.dumps({"schema": 1, "comparisons": ratios, "figures": single}))
    else:
        print(report(comparisons, []))
        if figures:
            print(f"\n{report_figures(figures)}")
    return 0 if all(found.met for found in comparisons) and all(told.met for told in figures) else 1
