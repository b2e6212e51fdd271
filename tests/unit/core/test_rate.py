"""Rates: as they are written, and what the kernel is asked for."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapbridge.core.describe import describe
from tapbridge.core.rate import RATES, burst_bytes, dump_rate, parse_rate
from tapbridge.linux import uapi
from tapbridge.linux.attributes import walk
from tapbridge.linux.rates import encode_rate
from tapbridge.model.step import LimitRate
from tapbridge.model.values import IfName


@pytest.mark.parametrize(
    ("text", "rate"),
    [("100K", 100_000), ("1500K", 1_500_000), ("100M", 100_000_000), ("32G", 32_000_000_000), ("010M", 10_000_000)],
)
def test_a_rate_is_bits_per_second(text: str, rate: int) -> None:
    assert parse_rate(text) == rate
    assert parse_rate(dump_rate(rate)) == rate


@pytest.mark.parametrize(
    "text", ["", "M", "100", "100m", "1.5M", "-1M", "99K", "33G", "1 M", "100Mbit", "\u0661M", "0M"]
)
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no rate from 100K to 32G bits per second"):
        parse_rate(text)


@given(st.integers(100, 32_000_000).map(lambda thousands: thousands * 1000))
def test_the_kernel_is_asked_for_bytes_per_second_in_both_directions(rate: int) -> None:
    queue, _, _, police = encode_rate(7, rate)
    told = walk(queue.body, 20)
    shaped = struct.unpack_from("=8xI", walk(told[uapi.TCA_OPTIONS])[uapi.TCA_TBF_PARMS])
    act = walk(walk(walk(walk(police.body, 20)[uapi.TCA_OPTIONS])[uapi.TCA_MATCHALL_ACT])[1])
    dropped = struct.unpack_from("=4xi4xII8xI", walk(act[uapi.TCA_ACT_OPTIONS])[uapi.TCA_POLICE_TBF])
    assert shaped == (rate // 8,)
    assert (dropped[0], dropped[3]) == (uapi.TC_ACT_SHOT, rate // 8)
    assert dropped[2] > 65535 + 14  # the largest frame of a guest is no frame too large
    held_s = dropped[1] * 64e-9  # a burst is told as the time that it takes
    assert held_s * rate / 8 == pytest.approx(burst_bytes(rate), rel=0.01)
    assert burst_bytes(rate) > 65535 + 14


def test_the_commands_say_the_same() -> None:
    told = describe(LimitRate(link=IfName("tbtap0"), rate=100_000_000))
    assert told.sentence == "limit tbtap0 to 100M bits per second in each direction"
    assert told.command is not None
    limit = "rate 100000000bit burst 625000"
    queue, ingress, police = told.command.split("; ")
    assert queue == f"tc qdisc replace dev tbtap0 root tbf {limit} limit 625000"
    assert ingress == "tc qdisc replace dev tbtap0 ingress"
    assert police.startswith("tc filter replace dev tbtap0 ingress handle 1 prio 1 matchall action police ")
    assert police.endswith(f"police {limit} mtu 131072 conform-exceed drop")
    assert RATES[-1] // 8 < 1 << 32
