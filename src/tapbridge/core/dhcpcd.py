"""How dhcpcd (9 and 10) reads its command line: which links it is told, which configuration it uses.

From IF_OPTS and cf_options of src/if-options.c. Pure, because both who looks for clients and who restarts them need it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tapbridge.core.getopt import OPERAND, Grammar, Option, values_of, with_value
from tapbridge.model.noun import dataclass

CONFIGURATION: Final = "/etc/dhcpcd.conf"
AT_ONCE: Final = ("-b", "--background")
"""Go to the background before there is a lease: how it was started, not what it does."""

_GRAMMAR: Final = Grammar(
    valued=frozenset("cefhijlmorstuvyzCFIOQSWXZ"),
    long={
        "script": "c", "env": "e", "config": "f", "hostname": "h", "vendorclassid": "i", "logfile": "j",
        "leasetime": "l", "metric": "m", "option": "o", "request": "r", "inform": "s", "timeout": "t",
        "userclass": "u", "vendor": "v", "reboot": "y", "allowinterfaces": "z", "nohook": "C", "fqdn": "F",
        "clientid": "I", "nooption": "O", "require": "Q", "static": "S", "whitelist": "W", "blacklist": "X",
        "denyinterfaces": "Z", "ipv4only": "4", "ipv6only": "6", "nobackground": "B", "manager": "M", "master": "M",
    },
)  # fmt: skip
_OWN: Final = "/run/dhcpcd."
_OWN_END: Final = ".conf"


def own_configuration(link: str) -> str:
    """Where the configuration is that is made for a link."""
    return f"{_OWN}{link}{_OWN_END}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """A command line of dhcpcd. It is there for one link `alone`, or manages all that it finds, or some."""

    links: tuple[str, ...] = ()
    conf_path: str | None = None
    family: int | None = None
    foreground: bool = False
    alone: bool = False

    @property
    def made_for(self) -> str | None:
        """The link for which its configuration was made, be it there or gone."""
        path = self.conf_path or ""
        ours = path.startswith(_OWN) and path.endswith(_OWN_END)
        return path[len(_OWN) : -len(_OWN_END)] if ours else None

    @property
    def stem(self) -> str:
        """What its files below /run/dhcpcd begin with."""
        if not self.alone:
            return ""
        return self.links[0] + (f"-{self.family}" if self.family else "")


def read_invocation(argv: Sequence[str]) -> Invocation:
    """What a command line says."""
    options = tuple(_GRAMMAR.options(argv))
    letters = [option.letter for option in options]
    links = tuple(argv[option.word] for option in options if option.letter == OPERAND)
    return Invocation(
        links=links,
        conf_path=values_of(argv, options).get("f"),
        family=next((int(letter) for letter in reversed(letters) if letter in ("4", "6")), None),
        foreground="B" in letters,
        alone=len(links) == 1 and "M" not in letters,
    )


def with_link(argv: Sequence[str], source: str, target: str) -> tuple[str, ...]:
    """The command line with a link under another name."""
    told = [option for option in _GRAMMAR.options(argv) if option.letter == OPERAND and argv[option.word] == source]
    return with_value(argv, told, OPERAND, target)


def with_configuration(argv: Sequence[str], path: str | None) -> tuple[str, ...]:
    """The command line with this configuration; with None, with none of its own."""
    options: tuple[Option, ...] = tuple(_GRAMMAR.options(argv))
    there = [option for option in options if option.letter == "f" and option.word >= 0]
    if path is None:
        ours = ("-f", values_of(argv, there).get("f", ""))
        first = next((n for n in range(1, len(argv)) if tuple(argv[n : n + 2]) == ours), None)
        return tuple(argv) if first is None else (*argv[:first], *argv[first + 2 :])
    if there:
        return with_value(argv, there, "f", path)
    return (argv[0], "-f", path, *argv[1:])
