"""The bars of `script/bench owners`, and its scripts."""

from __future__ import annotations

import dataclasses

import pytest
from meter.figures import RATE_HZ, Connections, Flow, Run
from meter.holders import HOLDERS
from meter.owners import HEAD, Trial, judge, lost_ms, row

QUIET = Flow(numbers=5000, missing=0, silence_ms=0.4)
GOOD = Trial(
    run=Run(
        way="tapbridge",
        verb="up",
        command_ms=300.0,
        flows=dict.fromkeys(("in4", "in6", "out4", "out6"), QUIET),
        control=QUIET,
        connections=Connections(tried=50, failed=0, slowest_ms=1.0),
    ),
    same_ip=True,
    stall_ms=3.0,
    stp=False,
    on_port=False,
)


def losing(flow: str, datagrams: int, silence_ms: float = 0.4) -> Trial:
    lossy = dataclasses.replace(QUIET, missing=datagrams, silence_ms=silence_ms)
    return dataclasses.replace(GOOD, run=dataclasses.replace(GOOD.run, flows={**GOOD.run.flows, flow: lossy}))


def missed(trials: list[Trial], verb: str) -> list[str]:
    return [bar for bar, met in judge(trials, verb).items() if not met]


def test_what_is_lost_counts_both_directions_of_one_version() -> None:
    assert lost_ms(losing("out4", RATE_HZ // 1000).run, 4) == 1.0
    assert lost_ms(losing("out4", RATE_HZ // 1000).run, 6) == 0.0


@pytest.mark.parametrize("verb", ["up", "down"])
def test_twenty_good_runs_meet_every_bar(verb: str) -> None:
    assert missed([GOOD] * 20, verb) == []
    assert missed([GOOD] * 18 + [losing("in4", 15)] * 2, verb) == []


@pytest.mark.parametrize(
    ("spoilt", "verb", "bar"),
    [
        ([losing("in4", 15)] * 3, "up", "18 of 20"),
        ([losing("in4", 26)], "down", "none lost > 5 ms"),
        ([losing("in4", 1)] * 11, "up", "median 0"),
        ([losing("in6", 26)], "up", "IPv6: none lost"),
        ([losing("in6", 26, 2001.0)], "down", "IPv6: silent"),
        ([dataclasses.replace(GOOD, same_ip=False)], "up", "IP kept"),
        ([dataclasses.replace(GOOD, stall_ms=None)], "up", "TCP alive"),
    ],
)
def test_each_bar_can_be_missed(spoilt: list[Trial], verb: str, bar: str) -> None:
    assert [bar in line for line in missed([*spoilt, *[GOOD] * (20 - len(spoilt))], verb)] == [True]


def test_a_row_has_a_cell_for_each_column_and_says_who_died() -> None:
    dead = dataclasses.replace(GOOD, stall_ms=None, same_ip=False, stp=True)
    cells = dict(zip(HEAD, row("NetworkManager", "as documented", [GOOD, dead]), strict=True))
    assert (cells["IP kept"], cells["STP"], cells["TCP, longest answer, ms"]) == ("1", "on", "dead in 1")


def test_every_holder_has_what_is_documented_and_what_is_tuned() -> None:
    assert {tuple(way.name for way in holder.ways) for holder in HOLDERS} == {("as documented", "tuned")}
