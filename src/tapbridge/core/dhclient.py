"""How dhclient (ISC DHCP 4.x) reads its command line: which links it serves, which files it uses.

From client/dhclient.c. Pure, because both who looks for clients and who restarts them need it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from tapbridge.model.noun import dataclass

VALUED = frozenset({
    "-4o6", "-B", "-C", "-D", "-F", "-H", "-V", "-cf", "-df", "-e", "-g", "-lf", "-p", "-pf", "-s", "-sf", "-timeout",
    "--address-prefix-len", "--dad-wait-time", "--decline-wait-time", "--prefix-len-hint",
})  # fmt: skip
"""The options that take the next word; those in capitals and -timeout are of Red Hat's build."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """A command line of dhclient. A path is None where it is left to the default of the build."""

    family: Literal[4, 6] = 4
    links: tuple[str, ...] = ()
    lease_path: str | None = None
    pid_path: str | None = None
    conf_path: str | None = None
    duid_path: str | None = None
    script_path: str | None = None
    foreground: bool = False
    stateless: bool = False


def read_invocation(argv: Sequence[str], environment: Sequence[str] = ()) -> Invocation:
    """What a command line and an environment say. Of an option given twice the last counts, an option before the
    environment, as in dhclient itself."""
    variables = dict(item.split("=", 1) for item in environment if "=" in item)
    options: dict[str, str] = {}
    flags = set()
    links = []
    words = iter(argv[1:])
    for word in words:
        if word in VALUED:
            options[word] = next(words, "")
        elif word.startswith("-"):
            flags.add(word)
        else:
            links.append(word)
    return Invocation(
        family=6 if "-6" in flags else 4,
        links=tuple(links),
        lease_path=options.get("-lf") or variables.get("PATH_DHCLIENT_DB"),
        pid_path=options.get("-pf") or variables.get("PATH_DHCLIENT_PID"),
        conf_path=options.get("-cf") or variables.get("PATH_DHCLIENT_CONF"),
        duid_path=options.get("-df"),
        script_path=options.get("-sf") or variables.get("PATH_DHCLIENT_SCRIPT"),
        foreground="-d" in flags,
        stateless="-S" in flags,
    )
