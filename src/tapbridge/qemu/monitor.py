"""Where a running QEMU can be spoken to: the monitors of its command line that speak QMP. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tapbridge.qemu.argv import CommandLine, Pairs, parse_pairs

_ON: Final = frozenset({"on", "yes", "true", "y"})


def has_monitor(line: CommandLine) -> bool:
    """Whether QEMU has a monitor for programs at all, wherever that is."""
    return any(True for _ in _monitors(line))


def find_sockets(line: CommandLine) -> tuple[str, ...]:
    """The unix sockets at which QEMU waits for whoever speaks QMP, as the command line names them.

    Where QEMU itself connects, or was given an open file (libvirt does that), somebody else is at the other end.
    """
    found = [dict(pairs) for kind, pairs in _monitors(line) if kind in ("unix", "socket")]
    return tuple(pairs["path"] for pairs in found if pairs.get("path") and pairs.get("server") in _ON)


def _monitors(line: CommandLine) -> Iterator[tuple[str, Pairs]]:
    """Kind and settings of what each QMP monitor is connected to."""
    ends: dict[str, tuple[str, Pairs]] = {}
    for value in line.values("chardev"):
        pairs = parse_pairs(value, "backend")
        ends[dict(pairs).get("id", "")] = dict(pairs).get("backend", ""), pairs
    for option in line.options:
        if option.value is None:
            continue
        if option.name in ("qmp", "qmp-pretty"):
            kind, _, rest = option.value.partition(":")
            if kind == "chardev":
                yield ends.get(rest, ("", ()))
            else:
                yield kind, parse_pairs(rest, "path")
        elif option.name == "mon":
            said = dict(parse_pairs(option.value, "chardev"))
            if said.get("mode") == "control":
                yield ends.get(said.get("chardev", ""), ("", ()))
