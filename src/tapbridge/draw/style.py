"""Colours. A style takes a role and a text; what it adds never says anything that the text does not say."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum


class Role(StrEnum):
    """What a piece of a drawing is."""

    BRIDGE = "bridge"
    UPLINK = "uplink"
    GUEST = "guest"
    LINK = "link"
    DOWN = "down"
    HEADING = "heading"
    QUIET = "quiet"


Style = Callable[[Role, str], str]

_ANSI = {
    Role.BRIDGE: "1",
    Role.UPLINK: "32",
    Role.GUEST: "36",
    Role.DOWN: "31",
    Role.HEADING: "1",
    Role.QUIET: "2",
}


def plain(role: Role, text: str) -> str:
    """No colours."""
    return text


def ansi(role: Role, text: str) -> str:
    """The sixteen colours that every terminal has (ECMA-48, SGR)."""
    code = _ANSI.get(role)
    return f"\x1b[{code}m{text}\x1b[0m" if code and text else text
