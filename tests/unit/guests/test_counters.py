"""/proc/net/dev."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tapbridge.guests.counters import parse_counters

TEXT = b"""\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier
    lo:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0    0
longest-name-15:12345678901 9 0 0 0 0 0 0 2222222222222 7 0 0 0 0 0 0
"""


def test_the_first_and_the_ninth_number_count() -> None:
    assert parse_counters(TEXT) == {"lo": (0, 0), "longest-name-15": (12345678901, 2222222222222)}


@given(st.binary())
def test_no_text_upsets_the_parser(text: bytes) -> None:
    assert isinstance(parse_counters(text + b"\n" + TEXT), dict)
