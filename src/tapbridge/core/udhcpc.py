"""How udhcpc (busybox) reads its command line, and how another one like it is written.

From networking/udhcp/dhcpc.c of busybox 1.35, with the options that older ones had besides. Pure, because both who
looks for clients and who restarts them need it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from tapbridge.core.getopt import Grammar, values_of, with_value
from tapbridge.model.noun import dataclass

_GRAMMAR: Final = Grammar(
    valued=frozenset("AFHOPTVchiprstx"),
    attached=frozenset("a"),
    long={
        "clientid-none": "C", "vendorclass": "V", "fqdn": "F", "hostname": "H", "interface": "i", "now": "n",
        "pidfile": "p", "quit": "q", "release": "R", "request": "r", "script": "s", "timeout": "T", "retries": "t",
        "tryagain": "A", "syslog": "S", "request-option": "O", "no-default-options": "o", "foreground": "f",
        "background": "b", "broadcast": "B", "arping": "a", "client-port": "P",
    },
)  # fmt: skip
_LINK: Final = "eth0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """A command line of udhcpc. The script is None where it is left to the default of the build."""

    link: str = _LINK
    script: str | None = None
    pid_path: str | None = None
    foreground: bool = False


def read_invocation(argv: Sequence[str]) -> Invocation:
    """What a command line says."""
    options = tuple(_GRAMMAR.options(argv))
    said = values_of(argv, options)
    return Invocation(
        link=said.get("i", _LINK),
        script=said.get("s"),
        pid_path=said.get("p"),
        foreground=any(option.letter == "f" for option in options),
    )


def with_values(argv: Sequence[str], values: Mapping[str, str]) -> tuple[str, ...]:
    """The command line with these values of options, each in its place; at the end where it has none."""
    words, options = tuple(argv), tuple(_GRAMMAR.options(argv))
    there = values_of(argv, options)
    for letter, value in values.items():
        words = with_value(words, options, letter, value) if letter in there else (*words, f"-{letter}", value)
    return words
