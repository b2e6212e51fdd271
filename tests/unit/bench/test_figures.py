from __future__ import annotations

import dataclasses

import pytest
from meter.figures import Connections, Flow, Run, judge, parse_flow, split, table, times_as_silent

MS = 1_000_000


def flow(missing: int = 0, silence_ms: float = 0.2, pauses: tuple[tuple[float, float], ...] = ()) -> Flow:
    return Flow(numbers=5000, missing=missing, silence_ms=silence_ms, pauses=pauses)


def run(*, control: Flow | None = None, slowest_ms: float = 1, failed: int = 0, **missing: int) -> Run:
    return Run(
        way="w",
        verb="up",
        command_ms=100,
        flows={name: flow(missing.get(name, 0)) for name in ("in4", "in6", "out4", "out6")},
        control=control or flow(),
        connections=Connections(tried=50, failed=failed, slowest_ms=slowest_ms),
    )


def arrived(got: int, top: int) -> dict[str, object]:
    holes = [[100, 2, 50 * MS, 51 * MS]] if got < top else []
    return {"got": got, "top": top, "holes": holes, "silences": [[50 * MS, 52 * MS]], "longest_ns": 2 * MS}


def test_missing_numbers_are_lost_and_told_from_the_start_of_the_command() -> None:
    found = parse_flow({"numbers": 1000, "start_ns": 0}, arrived(998, 1000), overflowed=0, zero_ns=40 * MS)
    assert found.missing == 2
    assert list(found.holes) == [(100, 2, 10, 11)]
    assert found.pauses == ((10, 12),)


def test_what_the_receiver_had_no_room_for_is_not_lost() -> None:
    found = parse_flow({"numbers": 1000, "start_ns": 0}, arrived(998, 1000), overflowed=2, zero_ns=0)
    assert found.missing == 0


def test_numbers_behind_the_last_arrival_are_lost_and_a_silence() -> None:
    found = parse_flow({"numbers": 1000, "start_ns": 0}, arrived(500, 500), overflowed=0, zero_ns=0)
    assert found.missing == 500
    assert found.silence_ms == 100
    assert found.holes == ((500, 500, 100, 200),)


def test_traffic_lost_is_that_of_an_echo_of_the_worse_family() -> None:
    lossy = run(in4=1, out4=2, in6=2)
    assert lossy.lost == 5
    assert lossy.lost_ms == pytest.approx(0.6)


def test_a_control_flow_that_paused_while_the_command_ran_sets_the_run_apart() -> None:
    assert not run().disturbed
    assert run(control=flow(missing=1)).disturbed
    assert run(control=flow(pauses=((99.0, 101.0),))).disturbed
    assert run(control=flow(pauses=((-2.0, 0.5),))).disturbed
    assert not run(control=flow(pauses=((100.5, 102.0),))).disturbed


def test_runs_are_set_apart_up_to_a_number_and_counted_beyond_it() -> None:
    paused = run(control=flow(missing=1))
    counted, apart = split([paused, run(), paused, paused], repeats=2)
    assert len(apart) == 2
    assert [each.disturbed for each in counted] == [False, True]


def test_thirty_good_runs_meet_every_bar() -> None:
    assert all(judge([run() for _ in range(28)] + [run(in4=3), run(out6=10)]).values())


@pytest.mark.parametrize(
    ("bar", "spoilt"),
    [
        ("median", [run(in4=1)] * 16),
        ("28 of 30", [run(in4=3)] * 3),
        ("none", [run(in4=11)]),
        ("every TCP", [run(failed=1)]),
        ("every TCP", [run(slowest_ms=1001)]),
    ],
)
def test_each_bar_can_be_missed(bar: str, spoilt: list[Run]) -> None:
    verdicts = judge(spoilt + [run()] * (30 - len(spoilt)))
    missed = [name for name, met in verdicts.items() if not met]
    assert len(missed) == 1
    assert missed[0].startswith(bar)


def test_the_bar_of_28_of_30_scales_with_the_runs() -> None:
    small = "28 of 30 lost ≤ 0.4 ms"
    assert judge([run()] * 14 + [run(in4=3)])[small]
    assert not judge([run()] * 13 + [run(in4=3)] * 2)[small]


def test_a_table_is_aligned_markdown() -> None:
    assert table(("way", "lost"), [("ours", "0"), ("another", "12345")]).splitlines() == [
        "| way     |  lost |",
        "| ------- | ----: |",
        "| ours    |     0 |",
        "| another | 12345 |",
    ]


def test_a_run_can_be_written_as_json() -> None:
    assert dataclasses.asdict(run(in4=1))["flows"]["in4"]["missing"] == 1


def test_silences_are_compared_by_their_medians() -> None:
    def silent(ms: float) -> Run:
        return dataclasses.replace(run(), flows=dict.fromkeys(("in4", "out4", "in6", "out6"), flow(silence_ms=ms)))

    ours = [silent(0.5), silent(1), silent(9)]
    assert times_as_silent([silent(2000)], ours) == "2,000 times as long in IPv4, 2,000 times in IPv6"
