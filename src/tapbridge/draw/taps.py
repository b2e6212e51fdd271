"""Taps → text: a line for each, for a terminal or as columns for a program. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from tapbridge.draw.style import Style, plain
from tapbridge.draw.table import table_lines
from tapbridge.draw.text import visible, word
from tapbridge.model.guest import TapUse

HEADINGS = ("TAP", "OWNER", "GROUP", "BRIDGE", "QUEUES", "PERSIST", "OURS", "GUEST", "PID", "VLAN", "RATE", "GUARD")


def tap_columns(taps: Iterable[TapUse]) -> str:
    """Columns without blanks in them, `-` for what is not known or not there."""
    return "\n".join(table_lines([HEADINGS, *(tuple(map(word, _cells(tap))) for tap in taps)], plain))


def tap_table(taps: Iterable[TapUse], style: Style) -> str:
    """The same for a terminal."""
    return "\n".join(table_lines([HEADINGS, *(tuple(map(visible, _cells(tap))) for tap in taps)], style))


def _cells(tap: TapUse) -> tuple[str, ...]:
    """A tap that nobody has open is `dead` where its guest would stand."""
    guest = (tap.guest or ("(not seen)" if tap.pid is None else "")) if tap.in_use else "dead"
    return (
        tap.name,
        tap.owner or "",
        tap.group or "",
        tap.bridge or "",
        _number(tap.queues),
        _answer(tap.saved),
        _answer(tap.ours),
        guest,
        _number(tap.pid),
        _number(tap.vlan),
        _number(tap.rate),
        tap.guard or "",
    )


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


def _answer(value: bool | None) -> str:
    return "" if value is None else "yes" if value else "no"
