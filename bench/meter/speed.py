"""script/bench speed: what the program costs beside the tools that do the same in C.

docs/bench.md tells what is measured, how, and what it showed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from meter import apart, progress
from meter.cost import Cost, Monitor, cost_of, parse_window_ms
from meter.figures import spread, table
from meter.recipes import TAPBRIDGE
from meter.rig import NIC, Rig, batch, run

TAPS, LINKS = 500, 1000
UP = [str(TAPBRIDGE), "-q", "up", NIC, "--yes", "--confirm", "0"]
DOWN = [str(TAPBRIDGE), "-q", "down", "--yes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Pairs of measurements, ours and theirs, in `unit`; the bar is for the median of the ratios."""

    name: str
    theirs: str
    unit: str
    pairs: tuple[tuple[float, float], ...]
    bar: float

    @property
    def ratios(self) -> list[float]:
        """Ours by theirs, pair by pair."""
        return [ours / theirs for ours, theirs in self.pairs]

    @property
    def met(self) -> bool:
        """Whether the median ratio is within the bar."""
        return statistics.median(self.ratios) <= self.bar


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """The peak memory of a command at LINKS links, in MiB."""

    command: str
    mib: float
    bar: float = 80.0

    @property
    def met(self) -> bool:
        """Whether it is within the bar."""
        return self.mib <= self.bar


def compare_up(runs: int) -> list[Comparison]:
    """`up` as a process, and its critical window, against the same plan by one `ip -batch`."""
    with Rig(leased=False):
        lines = plan_as_batch()
    walls: list[tuple[float, float]] = []
    windows: list[tuple[float, float]] = []
    for turn in range(runs):
        progress.tell(f"up, run {turn + 1} of {runs}")
        walls.append((_in_rig(UP).wall_ms, _in_rig(["ip", "-batch", "-"], lines).wall_ms))
        windows.append((_window_in_rig(UP), _window_in_rig(["ip", "-batch", "-"], lines)))
    return [
        Comparison(name="tapbridge up", theirs="ip -batch", unit="ms", pairs=tuple(walls), bar=10),
        Comparison(name="its critical window", theirs="ip -batch", unit="ms", pairs=tuple(windows), bar=3),
    ]


def plan_as_batch() -> str:
    """The plan of `up` as the lines of an `ip -batch`, which take no -4 or -6; waiting and the shield are left out."""
    return as_batch(run("host", *UP, "--dry-run", "--json"))


def as_batch(document: str) -> str:
    """The plan of a `--dry-run --json` as the lines of an `ip -batch`."""
    commands = [step["command"] for step in json.loads(document)["steps"] if step["command"]]
    lines = [line for command in commands if command.startswith("ip ") for line in command.split("; ")]
    return "".join(re.sub(r"^ip (-[46] )?", "", line) + "\n" for line in lines)


def _in_rig(words: list[str], stdin: str = "") -> Cost:
    with Rig(leased=False):
        return cost_of(words, "host", stdin)


def _window_in_rig(words: list[str], stdin: str = "") -> float:
    with Rig(leased=False):
        with Monitor("host") as monitor:
            cost_of(words, "host", stdin)
        return parse_window_ms(monitor.lines, NIC)


def compare_version(runs: int) -> Comparison:
    """How long it takes to start, against the bare interpreter."""
    pairs = []
    for turn in range(runs):
        progress.tell(f"--version, run {turn + 1} of {runs}")
        ours, theirs = cost_of([str(TAPBRIDGE), "--version"]), cost_of([sys.executable, "-c", "pass"])
        pairs.append((ours.wall_ms, theirs.wall_ms))
    return Comparison(name="tapbridge --version", theirs="python3 -c pass", unit="ms", pairs=tuple(pairs), bar=3)


def compare_status(runs: int) -> Comparison:
    """A host with TAPS taps, read and told."""
    pairs = []
    with Rig(leased=False):
        add_taps(TAPS)
        for turn in range(runs):
            progress.tell(f"status, run {turn + 1} of {runs}")
            ours = cost_of([str(TAPBRIDGE), "status", "--json"], "host")
            pairs.append((ours.wall_ms, cost_of(["ip", "-d", "-j", "link"], "host").wall_ms))
    name = f"tapbridge status --json, {TAPS} taps"
    return Comparison(name=name, theirs="ip -d -j link", unit="ms", pairs=tuple(pairs), bar=12)


def add_taps(count: int) -> None:
    """Give the host a bridge with taps."""
    names = [f"tap{number}" for number in range(count)]
    lines = ["link add guests type bridge", "link set guests up"]
    lines += [f"tuntap add {name} mode tap" for name in names]
    lines += [f"link set {name} master guests up" for name in names]
    batch("host", "\n".join(lines))


def measure_peaks() -> list[Peak]:
    """Every command that reads or changes the host, with LINKS taps on it."""
    guest = ["--name", "web", "--net", "br0", "--", "qemu-system-x86_64"]
    commands: list[list[str]] = [["--version"], ["status", "--json"], ["ps", "--json"]]
    commands += [[*UP[1:], "--dry-run"], UP[1:], ["args", *guest], DOWN[1:], ["explain"]]
    peaks = []
    with Rig(leased=False):
        add_taps(LINKS)
        for words in commands:
            shown = " ".join(["tapbridge", *words])
            progress.tell(f"memory of {shown}")
            peaks.append(Peak(command=shown, mib=cost_of([str(TAPBRIDGE), *words], "host").peak_mib))
    return peaks


def report(comparisons: Sequence[Comparison], peaks: Sequence[Peak]) -> str:
    """The two tables, for a reader; also what docs/bench.md holds. Minimum / median / maximum."""
    parts = [f"Linux {platform.release()}, {os.cpu_count()} cores, Python {platform.python_version()}."]
    head = ("what", "against", "ours", "theirs", "ratio", "bar", "")
    rows = [
        (
            each.name,
            each.theirs,
            f"{spread((ours for ours, _ in each.pairs), 1)} {each.unit}",
            f"{spread((theirs for _, theirs in each.pairs), 1)} {each.unit}",
            spread(each.ratios, 2),
            f"{each.bar:g}",
            "met" if each.met else "NOT MET",
        )
        for each in comparisons
    ]
    if rows:
        parts.append(table(head, rows))
    if peaks:
        lines = [(peak.command, f"{peak.mib:.1f}", f"{peak.bar:g}", "met" if peak.met else "NOT MET") for peak in peaks]
        parts.append(table((f"peak memory at {LINKS:,} links", "MiB", "bar", ""), lines))
    return "\n\n".join(parts)


def main() -> int:
    """Measure and report. The exit code is 0 if every bar was met, 1 if not."""
    parts: dict[str, Callable[[int], list[Comparison]]] = {
        "up": compare_up,
        "version": lambda runs: [compare_version(runs)],
        "status": lambda runs: [compare_status(runs)],
    }
    parser = argparse.ArgumentParser(prog="script/bench speed", description=__doc__)
    parser.add_argument("--runs", type=int, default=30, metavar="N", help="pairs of each comparison (default 30)")
    parser.add_argument("--only", choices=[*parts, "memory"], help="one part alone")
    parser.add_argument("--json", action="store_true", help="every figure, as one JSON document")
    args = parser.parse_args()
    if args.runs < 1:
        parser.error("there must be at least one run")
    apart.enter()
    apart.prepare()
    comparisons = [each for name, part in parts.items() if args.only in (None, name) for each in part(args.runs)]
    peaks = measure_peaks() if args.only in (None, "memory") else []
    progress.end()
    if args.json:
        found = [{**asdict(each), "ratios": each.ratios, "met": each.met} for each in comparisons]
        print(json.dumps({"schema": 1, "comparisons": found, "peaks": [asdict(peak) for peak in peaks]}))
    else:
        print(report(comparisons, peaks))
    return 0 if all(each.met for each in comparisons) and all(peak.met for peak in peaks) else 1
