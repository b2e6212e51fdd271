"""From an argument vector to a Namespace. argparse, told never to print or exit by itself."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from tapbridge import __version__
from tapbridge.cli.commands import COMMANDS, Command, find_command
from tapbridge.model.errors import UsageError

EVERY_COMMAND = "options of every command"
GLOBAL_FLAGS = ("--json", "--quiet", "-q", "-v", "--verbose", "--yes", "-y")


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises UsageError."""

    def error(self, message: str) -> NoReturn:
        """Raises UsageError, with the command's help as the hint."""
        raise UsageError(message, hint=f"{self.prog} --help", code="usage")


def overview() -> str:
    """The text of `tapbridge --help`."""
    width = max(len(command.name) for command in COMMANDS)
    lines = [
        "usage: tapbridge [--json] [--quiet] [-v] [--yes] [--root DIR] COMMAND …",
        "",
        "Put QEMU guests on the network: one command, no packet lost, everything can be undone.",
        "",
        *(f"  {command.name:<{width}}  {command.summary}" for command in COMMANDS),
        "",
        "tapbridge COMMAND --help tells a command's options; tapbridge explain tells why.",
    ]
    return "\n".join(lines)


def make_parser(command: Command) -> Parser:
    """The parser of one command, global options included."""
    parser = Parser(prog=f"tapbridge {command.name}", description=command.summary, allow_abbrev=False)
    load_command(command).options(parser)
    shared = parser.add_argument_group(EVERY_COMMAND)
    shared.add_argument("--json", action="store_true", help="one JSON document on stdout")
    shared.add_argument("-q", "--quiet", action="store_true", help="print nothing but errors and what was asked for")
    shared.add_argument("-v", "--verbose", action="count", default=0, help="say more")
    shared.add_argument("-y", "--yes", action="store_true", help="answer every question with yes")
    shared.add_argument("--root", type=Path, default=Path("/"), metavar="DIR", help="where our files live (default /)")
    return parser


def load_command(command: Command) -> ModuleType:
    """The module of a command, imported when it is needed and not before."""
    return importlib.import_module(f"tapbridge.cli.{command.module}")


def parse(argv: Sequence[str]) -> tuple[Command, argparse.Namespace] | str:
    """Read an argument vector: a command with its arguments, or a text to print. Raises UsageError.

    What stands behind the first `--` is not ours; it becomes `args.rest`.
    """
    words = list(argv)
    rest: list[str] | None = None
    if "--" in words:
        cut = words.index("--")
        words, rest = words[:cut], words[cut + 1 :]
    front, words = _split_front(words)
    if "--version" in front:
        return f"tapbridge {__version__}"
    if "--help" in front or "-h" in front:
        return overview()
    if not words:
        raise UsageError("no command was given", hint="tapbridge --help", code="usage")
    command = find_command(words[0])
    if command is None:
        raise UsageError(f"there is no command {words[0]!r}", hint=_nearest(words[0]), code="usage")
    parser = make_parser(command)
    if "--help" in words or "-h" in words:
        return parser.format_help().rstrip()
    args: Any = parser.parse_intermixed_args([*words[1:], *front])  # options between two positionals
    args.rest = rest
    return command, args


def _split_front(words: list[str]) -> tuple[list[str], list[str]]:
    """Global options may stand before the command as well."""
    front: list[str] = []
    while words and words[0].startswith("-"):
        if words[0] == "--root" and len(words) > 1:
            front += words[:2]
            words = words[2:]
        elif words[0] in GLOBAL_FLAGS or words[0].startswith("--root=") or words[0] in ("--version", "--help", "-h"):
            front.append(words[0])
            words = words[1:]
        else:
            raise UsageError(f"there is no option {words[0]!r}", hint="tapbridge --help", code="usage")
    return front, words


def _nearest(word: str) -> str:
    import difflib

    near = difflib.get_close_matches(word, [command.name for command in COMMANDS], n=1)
    return f"tapbridge {near[0]}" if near else "tapbridge --help"
