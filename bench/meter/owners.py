"""script/bench owners: a NIC under a bridge on a real Debian, by whoever holds it and by tapbridge.

docs/bench.md tells what is measured, how, and what it showed.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kit.container import GATEWAY, Container, container
from kit.netns import Netns, new_netns
from meter import apart, progress
from meter.figures import RATE_HZ, Run, split, spread, table
from meter.holders import HOLDERS, Holder, OwnWay
from meter.rig import CONTROL_IPS, Site, run_behind
from meter.watch import measure

PEER_IPS = (GATEWAY, "2001:db8::1")
SERVER = ("--enable-ra", "--dhcp-range=2001:db8::,ra-only,64,300")
UP = "tapbridge -q up --yes --confirm 0"
DOWN = "tapbridge -q down --yes"
OURS = "tapbridge"
ONE_PROBE_MS, WORST_MS, GOOD_SHARE = 1.0, 5.0, 18 / 20
REPEATS = 10
"""How many runs of each verb may be set apart because the machine paused, and repeated; further ones count."""

_SETTLE_S = 2.0
_LEASE_S = 30.0
_STREAM = Path(__file__).with_name("stream.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One run, and what it has left: of the connection the longest answer, None if it died."""

    run: Run
    same_ip: bool
    stall_ms: float | None
    stp: bool | None
    on_port: bool

    @property
    def disturbed(self) -> bool:
        """Whether the machine paused meanwhile."""
        return self.run.disturbed


def lost_ms(run: Run, version: int) -> float:
    """Traffic of that IP version lost, as an echo would lose it: both directions added."""
    return (run.flows[f"in{version}"].missing + run.flows[f"out{version}"].missing) * 1000 / RATE_HZ


def judge(trials: Sequence[Trial], verb: str) -> dict[str, bool]:
    """The bars for one holder and verb, each met or not."""
    losses = [lost_ms(trial.run, 4) for trial in trials]
    silences = [trial.run.silence_ms(6) for trial in trials]
    few = sum(loss <= ONE_PROBE_MS for loss in losses) >= math.ceil(len(trials) * GOOD_SHARE - 1e-9)
    bars = {
        "IP kept": all(trial.same_ip for trial in trials),
        "median 0 lost": statistics.median(losses) == 0,
        f"18 of 20 lost ≤ {ONE_PROBE_MS:g} ms": few,
        f"none lost > {WORST_MS:g} ms": max(losses) <= WORST_MS,
        "TCP alive": all(trial.stall_ms is not None for trial in trials),
    }
    if verb == "up":
        return bars | {f"IPv6: none lost > {WORST_MS:g} ms": max(lost_ms(x.run, 6) for x in trials) <= WORST_MS}
    return bars | {"IPv6: silent ≤ 2 s": max(silences) <= 2000}


@contextmanager
def site_of(host: Container, control: tuple[Netns, Netns]) -> Iterator[Site]:
    """The container as a place to measure."""
    words = {
        "host": ("nsenter", "-t", str(host.leader), "-n"),
        "lan": ("nsenter", f"--net={host.lan.path}"),
        "control-a": ("nsenter", f"--net={control[0].path}"),
        "control-b": ("nsenter", f"--net={control[1].path}"),
    }
    host_ips = (find_ip(host, "eth0", 4), find_ip(host, "eth0", 6))
    yield Site(words=words, shell=host.words(), host_ips=host_ips, peer_ips=PEER_IPS)


def find_ip(host: Container, link: str, version: int) -> str:
    """The global address of a link. Raises RuntimeError if there is none within half a minute."""
    command = ("ip", f"-{version}", "-o", "address", "show", "dev", link, "scope", "global", "-tentative")
    deadline = time.monotonic() + _LEASE_S
    while time.monotonic() < deadline:
        found = re.search(r"inet6? ([^/]+)/", host.run(*command, check=False).stdout)
        if found:
            return found[1]
        time.sleep(0.1)
    raise RuntimeError(f"{link} has no IPv{version} address after {_LEASE_S:g} s: {host.log()[-2000:]}")


@contextmanager
def leased(suite: str, setup: str) -> Iterator[tuple[Container, Site]]:
    """A host whose eth0 has a lease, and the two namespaces of the control flow."""
    with ExitStack() as stack:
        control = (stack.enter_context(new_netns()), stack.enter_context(new_netns()))
        batch = f"link add c0 type veth peer name c0 netns {control[1].path}\nlink set c0 up\n"
        for netns, lines, ip in zip(control, (batch, "link set c0 up\n"), CONTROL_IPS, strict=True):
            text = f"{lines}address add {ip}/24 dev c0\n"
            subprocess.run(["nsenter", f"--net={netns.path}", "ip", "-batch", "-"], input=text, text=True, check=True)
        host = stack.enter_context(container(suite, server=SERVER))
        with host.lan.entered():
            Path("/proc/sys/net/ipv6/conf/lan0/forwarding").write_text("1")  # or it is no router by its word
        run_behind(host.words(), "sh", "-e", "-c", setup)
        site = stack.enter_context(site_of(host, control))
        yield host, site


def watch(host: Container, site: Site, way: str, verb: str, script: str, settle_s: float) -> Trial:
    """Run a script under the meter, and look at what it has made."""
    server = _start([*site.words["host"], sys.executable, _STREAM, "serve"])
    client = _start([*site.words["lan"], sys.executable, _STREAM, "ask", site.host_ips[0]])
    try:
        run = measure(way, verb, script, settle_s, site)
        told = json.loads(client.communicate("", timeout=30)[0])
    finally:
        for process in (client, server):
            process.kill()
            process.wait()
    link = "br0" if verb == "up" else "eth0"
    shown = host.run("ip", "-4", "-o", "address", "show", "dev", link, check=False).stdout
    stp = host.run("cat", "/sys/class/net/br0/bridge/stp_state", check=False).stdout.strip()
    port = host.run("ip", "-o", "address", "show", "dev", "eth0", "scope", "global").stdout if verb == "up" else ""
    return Trial(
        run=run,
        same_ip=f" {site.host_ips[0]}/" in shown,
        stall_ms=told["longest_ms"] if told["alive"] else None,
        stp=stp != "0" if stp else None,
        on_port=bool(port),
    )


def _start(words: Sequence[Any]) -> subprocess.Popen[str]:
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    if process.stdout.readline() != "ready\n":
        raise RuntimeError(f"the connection did not begin: {words}")
    return process


def measure_ours(suite: str, holder: Holder, runs: int) -> dict[str, list[Trial]]:
    """`up` and `down` by turns on one host; runs in which the machine paused are repeated."""
    found: dict[str, list[Trial]] = {"up": [], "down": []}
    with leased(suite, holder.setup) as (host, site):
        for turn in range(runs + REPEATS):
            if all(len(split(trials, REPEATS)[0]) >= runs for trials in found.values()):
                break
            progress.tell(f"{holder.name}, {OURS}, turn {turn + 1}")
            for verb, script in (("up", UP), ("down", DOWN)):
                found[verb].append(watch(host, site, OURS, verb, script, _SETTLE_S))
            find_ip(host, "eth0", 6)
    return found


def measure_theirs(suite: str, holder: Holder, way: OwnWay, runs: int) -> list[Trial]:
    """A way of the holder's own, each time on a new host."""
    found = []
    for turn in range(runs):
        progress.tell(f"{holder.name}, {way.name}, run {turn + 1}")
        with leased(suite, way.before + holder.setup) as (host, site):
            found.append(watch(host, site, way.name, "up", way.script, way.settle_s))
    return found


HEAD = (
    *("holder", "way", "runs", "IP kept", "IPv4 lost, ms", "IPv4 silent, ms", "IPv6 silent, ms"),
    *("TCP, longest answer, ms", "STP", "left on the port", "takes, ms"),
)


def row(holder: str, way: str, trials: Sequence[Trial]) -> tuple[str, ...]:
    """One line of the table: minimum / median / maximum where there are three numbers."""
    stalls = [trial.stall_ms for trial in trials]
    alive = [stall for stall in stalls if stall is not None]
    return (
        holder,
        way,
        str(len(trials)),
        f"{sum(trial.same_ip for trial in trials)}",
        spread((lost_ms(trial.run, 4) for trial in trials), 1),
        spread((trial.run.silence_ms(4) for trial in trials), 1),
        spread((trial.run.silence_ms(6) for trial in trials), 1),
        spread(alive) if len(alive) == len(stalls) else f"dead in {len(stalls) - len(alive)}",
        "on" if any(trial.stp for trial in trials) else "off",
        "yes" if any(trial.on_port for trial in trials) else "no",
        f"{statistics.median(trial.run.command_ms for trial in trials):.0f}",
    )


def main() -> int:
    """Measure and report. The exit code is 0 if every bar was met, 1 if not."""
    parser = argparse.ArgumentParser(prog="script/bench owners", description=__doc__)
    parser.add_argument("--runs", type=int, default=20, metavar="N", help="runs of ours, up and down (default 20)")
    parser.add_argument("--peer-runs", type=int, default=3, metavar="N", help="runs of the others (default 3; 0: none)")
    parser.add_argument("--suite", default="bookworm", choices=("bookworm", "trixie"), help="the Debian to measure on")
    parser.add_argument("--only", metavar="HOLDER", choices=[holder.name for holder in HOLDERS], help="only this one")
    parser.add_argument("--json", action="store_true", help="every run, as one JSON document")
    args = parser.parse_args()
    if args.runs < 1 or args.peer_runs < 0:
        parser.error("there must be at least one run of ours")
    subprocess.run([apart.ROOT / "script/rootfs", args.suite], stdout=subprocess.DEVNULL, check=True)  # by the network
    apart.enter()
    apart.build_probe()
    rows, missed, everything = [], [], []
    for holder in HOLDERS:
        if args.only not in (None, holder.name):
            continue
        for verb, trials in measure_ours(args.suite, holder, args.runs).items():
            counted, set_apart = split(trials, REPEATS)
            rows.append(row(holder.name, f"{OURS} {verb}", counted))
            if set_apart:
                rows.append(row(holder.name, f"{OURS} {verb}, set apart", set_apart))
            missed += [f"{holder.name}, {verb}: {bar}" for bar, met in judge(counted, verb).items() if not met]
            everything += trials
        for way in holder.ways if args.peer_runs else ():
            trials = measure_theirs(args.suite, holder, way, args.peer_runs)
            rows.append(row(holder.name, way.name, trials))
            everything += trials
    progress.end()
    if args.json:
        print(json.dumps({"schema": 1, "trials": [asdict(trial) for trial in everything], "missed": missed}))
    else:
        print("\n".join([table(HEAD, rows), "", *(f"missed: {line}" for line in missed)]))
    return 1 if missed else 0
