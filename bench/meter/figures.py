"""What the numbers mean: loss, silence, bars and tables. Pure; held by tests/unit/bench."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

RATE_HZ = 5000

SMALL_LOSS_MS, WORST_LOSS_MS, SMALL_SHARE, TCP_LIMIT_MS = 0.4, 2.0, 28 / 30, 1000.0

NS_PER_MS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """One flow of numbered datagrams in one direction. Moments are in ms since the command was started.

    A hole is (first number, how many, from, to); a pause is a silence over 1 ms (from, to).
    """

    numbers: int
    missing: int
    silence_ms: float
    holes: tuple[tuple[int, int, float, float], ...] = ()
    pauses: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Connections:
    """The TCP connections that were opened while a command ran."""

    tried: int
    failed: int
    slowest_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One command under the meter: the flows in4, in6 (to the host), out4, out6 (from it), and the control flow."""

    way: str
    verb: str
    command_ms: float
    flows: Mapping[str, Flow]
    control: Flow
    connections: Connections

    @property
    def lost(self) -> int:
        """Datagrams lost, of both families and both directions."""
        return sum(flow.missing for flow in self.flows.values())

    @property
    def lost_ms(self) -> float:
        """Traffic lost, as an echo would lose it: both directions added, the worse of the two families."""
        return max(self.flows[f"in{v}"].missing + self.flows[f"out{v}"].missing for v in "46") * 1000 / RATE_HZ

    def silence_ms(self, version: int) -> float:
        """The longest time in which a flow of that IP version did not arrive, in either direction."""
        return max(self.flows[f"{way}{version}"].silence_ms for way in ("in", "out"))

    @property
    def disturbed(self) -> bool:
        """Whether the control flow, which no command can touch, lost something, or paused while the command ran."""
        return self.control.missing > 0 or any(a < self.command_ms and b > 0 for a, b in self.control.pauses)


def parse_flow(sent: Mapping[str, Any], arrived: Mapping[str, Any], *, overflowed: int, zero_ns: int) -> Flow:
    """A flow from what its two probes printed.

    `overflowed` is the receiver's own RcvbufErrors, which is no loss; `zero_ns` is the moment that holes are told from.
    """
    numbers, got, top = int(sent["numbers"]), int(arrived["got"]), int(arrived["top"])
    silence_ms = arrived["longest_ns"] / NS_PER_MS
    pauses = tuple(((a - zero_ns) / NS_PER_MS, (b - zero_ns) / NS_PER_MS) for a, b in arrived["silences"])
    holes = [
        (first, count, (a - zero_ns) / NS_PER_MS, (b - zero_ns) / NS_PER_MS) for first, count, a, b in arrived["holes"]
    ]
    if top < numbers:  # what is missing at the end has no arrival behind it
        at_ms = (sent["start_ns"] - zero_ns) / NS_PER_MS + top * 1000 / RATE_HZ
        silent = (numbers - top) * 1000 / RATE_HZ
        holes.append((top, numbers - top, at_ms, at_ms + silent))
        silence_ms = max(silence_ms, silent)
    return Flow(
        numbers=numbers,
        missing=max(0, numbers - got - overflowed),
        silence_ms=silence_ms,
        holes=tuple(holes),
        pauses=pauses,
    )


class Disturbed(Protocol):
    """A run of any kind."""

    @property
    def disturbed(self) -> bool:
        """Whether the machine paused meanwhile."""


_R = TypeVar("_R", bound=Disturbed)


def split(runs: Iterable[_R], repeats: int) -> tuple[list[_R], list[_R]]:
    """The runs that count, and those set apart because the machine paused: at most `repeats`; further ones count."""
    counted: list[_R] = []
    apart: list[_R] = []
    for run in runs:
        (apart if run.disturbed and len(apart) < repeats else counted).append(run)
    return counted, apart


def judge(runs: Sequence[Run]) -> dict[str, bool]:
    """The bars, each met or not, for the runs of one way and verb."""
    losses_ms = [run.lost_ms for run in runs]
    small = sum(loss <= SMALL_LOSS_MS for loss in losses_ms)
    slowest = max(run.connections.slowest_ms for run in runs)
    return {
        "median 0 lost": statistics.median(run.lost for run in runs) == 0,
        f"28 of 30 lost ≤ {SMALL_LOSS_MS} ms": small >= math.ceil(len(runs) * SMALL_SHARE - 1e-9),
        f"none lost > {WORST_LOSS_MS:g} ms": max(losses_ms) <= WORST_LOSS_MS,
        "every TCP connection ≤ 1 s": slowest <= TCP_LIMIT_MS and not any(run.connections.failed for run in runs),
    }


def spread(values: Iterable[float], digits: int = 0) -> str:
    """Minimum / median / maximum."""
    ordered = sorted(values)
    return " / ".join(f"{value:.{digits}f}" for value in (ordered[0], statistics.median(ordered), ordered[-1]))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table that is Markdown and can be read as it is: first column to the left, the others to the right."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cells[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)),
        ]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(head), line(rule), *(line(row) for row in rows)])


HEAD = (
    "way",
    "runs",
    "lost, datagrams",
    "lost, ms at worst",
    "≤ 0.4 ms",
    "silence IPv4, ms",
    "silence IPv6, ms",
    "control's, ms",
    "TCP, ms at worst",
    "TCP failed",
    "takes, ms",
)


def row(title: str, runs: Sequence[Run]) -> tuple[str, ...]:
    """One line of the table of `adopt`: minimum / median / maximum where there are three numbers."""
    return (
        title,
        str(len(runs)),
        spread(run.lost for run in runs),
        f"{max(run.lost_ms for run in runs):.1f}",
        str(sum(run.lost_ms <= SMALL_LOSS_MS for run in runs)),
        *(spread((run.silence_ms(version) for run in runs), 1) for version in (4, 6)),
        spread((run.control.silence_ms for run in runs), 1),
        f"{max(run.connections.slowest_ms for run in runs):.1f}",
        str(sum(run.connections.failed for run in runs)),
        f"{statistics.median(run.command_ms for run in runs):.0f}",
    )


def times_as_silent(runs: Sequence[Run], ours: Sequence[Run]) -> str:
    """The medians of the longest silences as multiples of ours."""
    factors = [
        statistics.median(run.silence_ms(version) for run in runs)
        / statistics.median(run.silence_ms(version) for run in ours)
        for version in (4, 6)
    ]
    return f"{factors[0]:,.0f} times as long in IPv4, {factors[1]:,.0f} times in IPv6"
