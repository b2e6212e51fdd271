"""A limit for what a guest sends and, apart from that, for what it gets: how it is written, and how much may come at
once. Pure."""

from __future__ import annotations

from typing import Final

RATES: Final = range(100_000, 32_000_000_001)
"""Bits per second. The kernel counts in bytes per second of 32 bits (struct tc_ratespec)."""

_UNITS: Final = {"K": 1000, "M": 1000_000, "G": 1000_000_000}
_BURST_BYTES: Final = 1 << 17
"""A guest's card may hand over 64 KiB as one packet, which the kernel lets pass as a whole or not at all."""

_BURST_PARTS: Final = 20  # of a second: what TCP fills between a loss and its answer


def parse_rate(text: str) -> int:
    """Bits per second, written as in 100M. Raises ValueError."""
    digits, unit = text[:-1], text[-1:]
    known = unit in _UNITS and digits.isascii() and digits.isdigit() and len(digits) < 9
    rate = int(digits) * _UNITS[unit] if known else -1
    if rate not in RATES:
        least, most = dump_rate(RATES[0]), dump_rate(RATES[-1])
        raise ValueError(f"{text!r} is no rate from {least} to {most} bits per second, written as in 100M")
    return rate


def dump_rate(rate: int) -> str:
    """A rate as `parse_rate` reads it."""
    unit, size = next((unit, size) for unit, size in reversed(_UNITS.items()) if rate % size == 0)
    return f"{rate // size}{unit}"


def burst_bytes(rate: int) -> int:
    """How much may come at once after a pause: the twentieth part of a second, and no less than two of the largest
    packets."""
    return max(rate // 8 // _BURST_PARTS, _BURST_BYTES)
