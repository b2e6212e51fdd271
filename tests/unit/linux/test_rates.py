"""Limits of a rate, read back: what the kernel tells has the form of what it is told."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapbridge.core.rate import RATES
from tapbridge.linux import uapi
from tapbridge.linux.attributes import Malformed, nest, pack, pack_name
from tapbridge.linux.rates import decode_polices, decode_queues, encode_rate

rates = st.integers(RATES[0] // 1000, RATES[-1] // 1000).map(lambda thousands: thousands * 1000)
TRAFFIC = struct.pack("=BxxxiIII", 0, 7, 0, uapi.TC_H_ROOT, 0)


@given(rates)
def test_a_limit_is_read_as_it_was_set(rate: int) -> None:
    queue, _, ingress, police = (request.body for request in encode_rate(7, rate))
    assert decode_queues([queue, ingress]) == {7: rate}
    assert decode_polices([police]) == (rate,)


def test_a_rate_beyond_32_bits_of_bytes_stands_elsewhere() -> None:
    options = pack(uapi.TCA_TBF_PARMS, b"\xff" * 36), pack(uapi.TCA_TBF_RATE64, struct.pack("=Q", 1 << 33))
    told = TRAFFIC + pack_name(uapi.TCA_KIND, "tbf") + nest(uapi.TCA_OPTIONS, *options)
    assert decode_queues([told]) == {7: 1 << 36}


@pytest.mark.parametrize("kind", ["htb", "noqueue", "u32", "tbf2", "matchall"])
def test_another_queue_or_filter_is_no_limit(kind: str) -> None:
    told = TRAFFIC + pack_name(uapi.TCA_KIND, kind)
    assert (decode_queues([told]), decode_polices([told])) == ({}, ())


def test_what_drops_nothing_or_not_every_frame_is_no_limit() -> None:
    (police,) = (request.body for request in encode_rate(7, RATES[0])[3:])
    at = police.index(struct.pack("=Ii", 0, uapi.TC_ACT_SHOT) + struct.pack("=I", 0))  # struct tc_police
    assert decode_polices([police[: at + 4] + struct.pack("=i", 0) + police[at + 8 :]]) == ()
    assert decode_polices([police[: at + 28] + bytes(4) + police[at + 32 :]]) == ()
    of_ip = struct.pack("=I", 1 << 16 | 0x0008)  # ETH_P_IP in network order
    assert decode_polices([police[:16] + of_ip + police[20:]]) == ()


def test_a_message_cut_or_changed_anywhere_is_refused_or_read() -> None:
    queue, _, _, police = (request.body for request in encode_rate(7, RATES[0]))
    refused = 0
    for decode, body in ((decode_queues, queue), (decode_polices, police)):
        cut = [body[:size] for size in range(len(body))]
        for told in cut + [body[:at] + bytes((value,)) + body[at + 1 :] for at in range(180) for value in (0, 255)]:
            try:
                decode([told])
            except Malformed:
                refused += 1
    assert refused > 200
