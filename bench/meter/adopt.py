"""script/bench adopt: what does it cost the traffic to put the host's NIC under a bridge, and to take it back?

docs/bench.md tells what is measured, how, and what it showed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from typing import Any

from meter import apart, progress
from meter.figures import HEAD, Run, judge, row, split, table, times_as_silent
from meter.recipes import TAPBRIDGE, WAYS, Way
from meter.rig import Rig
from meter.watch import measure

REPEATS = 10
"""How many runs of one way and verb may be set apart because the machine paused, and repeated."""


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="script/bench adopt", description=__doc__)
    parser.add_argument("--runs", type=int, default=30, metavar="N", help="runs of `up` and of `down` (default 30)")
    parser.add_argument("--peer-runs", type=int, default=10, metavar="N", help="runs of the other ways (default 10)")
    parser.add_argument(
        "--only", metavar="WORDS", help="only the ways with WORDS in their name, e.g. 'leased: tapbridge'"
    )
    parser.add_argument("--json", action="store_true", help="every run, every hole, as one JSON document")
    args = parser.parse_args(argv)
    if min(args.runs, args.peer_runs) < 1:
        parser.error("there must be at least one run")
    return args


def is_ours(way: Way) -> bool:
    """Whether the bars are for this way."""
    return str(TAPBRIDGE) in way.scripts["up"]


def measure_ways(ways: Sequence[Way], runs: int, peer_runs: int) -> dict[tuple[str, str], list[Run]]:
    """Every way by turns, so that all have the same weather: by title and verb, the runs in their order."""
    found: dict[tuple[str, str], list[Run]] = {(way.title, verb): [] for way in ways for verb in way.scripts}
    started = time.monotonic()

    def wanting(way: Way, verb: str) -> bool:
        done = found[way.title, verb]
        return len(split(done, REPEATS)[0]) < runs if is_ours(way) else len(done) < peer_runs

    turn = 0
    while left := [way for way in ways if any(wanting(way, verb) for verb in way.scripts)]:
        turn += 1
        for way in left:
            progress.tell(f"{time.monotonic() - started:5.0f} s, turn {turn}: {way.title}")
            with Rig(leased=way.leased):
                for verb, script in way.scripts.items():
                    found[way.title, verb].append(measure(way.title, verb, script, way.settle_s))
    progress.end()
    return found


def report(found: dict[tuple[str, str], list[Run]], ours: set[str]) -> str:
    """The tables and the bars, for a reader; also what docs/bench.md holds."""
    rows: list[Sequence[str]] = []
    set_apart: list[Sequence[str]] = []
    bars: dict[str, dict[str, bool]] = {}
    for (title, verb), runs in found.items():
        name = f"{title}, {verb}"
        counted, apart_runs = split(runs, REPEATS if title in ours else 0)
        rows.append(row(name, counted))
        if apart_runs:
            set_apart.append(row(name, apart_runs))
        if title in ours:
            bars[name] = judge(counted)
    parts = [f"Linux {platform.release()}, {os.cpu_count()} cores, veth.", table(HEAD, rows)]
    if set_apart:
        parts += ["Set apart and repeated, because the control flow paused too:", table(HEAD, set_apart)]
    for verdicts in list(bars.values())[:1]:
        lines = [(name, *("met" if met else "NOT MET" for met in each.values())) for name, each in bars.items()]
        parts.append(table(("bars", *verdicts), lines))
    return "\n\n".join([*parts, *compare(found, ours)])


def compare(found: dict[tuple[str, str], list[Run]], ours: set[str]) -> list[str]:
    """How much longer the others' traffic was silent than ours on the same kind of host."""
    lines = []
    for title in [title for title, verb in found if verb == "up" and title not in ours]:
        mine = title.split(":")[0] + ": tapbridge"
        if mine in ours:
            lines.append(f"- {title}: silent {times_as_silent(found[title, 'up'], found[mine, 'up'])}")
    return ["\n".join(lines)] if lines else []


def as_json(found: dict[tuple[str, str], list[Run]], ours: set[str]) -> dict[str, Any]:
    """Everything that was measured."""
    ways = []
    for (title, verb), runs in found.items():
        counted, apart_runs = split(runs, REPEATS if title in ours else 0)
        ways.append(
            {
                "way": title,
                "verb": verb,
                "bars": judge(counted) if title in ours else None,
                "runs": [dataclasses.asdict(run) for run in counted],
                "apart": [dataclasses.asdict(run) for run in apart_runs],
            }
        )
    return {"schema": 1, "kernel": platform.release(), "cores": os.cpu_count(), "ways": ways}


def main() -> int:
    """Measure and report. The exit code is 0 if every bar was met, 1 if not."""
    args = parse_arguments(sys.argv[1:])
    apart.enter()
    apart.prepare()
    ways = [way for way in WAYS if not args.only or args.only in way.title]
    if not ways:
        raise SystemExit(f"error: no way is called {args.only!r}\n\nhint: {', '.join(way.title for way in WAYS)}")
    ours = {way.title for way in ways if is_ours(way)}
    found = measure_ways(ways, args.runs, args.peer_runs)
    print(json.dumps(as_json(found, ours)) if args.json else report(found, ours))
    counted = [split(runs, REPEATS)[0] for (title, _), runs in found.items() if title in ours]
    return 0 if all(all(judge(runs).values()) for runs in counted) else 1
