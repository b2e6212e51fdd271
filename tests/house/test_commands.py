"""Every command can be loaded, and every option is explained where users look."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from kit.source import ROOT
from tapbridge.cli.commands import COMMANDS, Command
from tapbridge.cli.parser import load_command, make_parser
from tapbridge.cli.reference import pages

REFERENCE = ROOT / "docs/reference.md"
each_command = pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)


def actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Every option and argument of a command, those of its own commands too."""
    found = list(parser._actions)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                found += actions(child)
    return found


@each_command
def test_a_command_is_there(command: Command) -> None:
    module = load_command(command)
    assert callable(module.options)
    assert callable(module.run)


@each_command
def test_every_option_has_a_help_text(command: Command) -> None:
    silent = [action.option_strings or action.dest for action in actions(make_parser(command)) if not action.help]
    assert not silent


@each_command
def test_the_reference_has_the_command_and_its_options(command: Command) -> None:
    text = REFERENCE.read_text()
    options = {option for action in actions(make_parser(command)) for option in action.option_strings}
    missing = [word for word in (f"tapbridge {command.name}", *sorted(options)) if not mentioned(word, text)]
    assert not missing


def test_the_pages_made_from_the_program_are_as_it_would_make_them() -> None:
    made = pages()
    assert "reference.md" in made
    stale = [name for name, text in made.items() if find_text(ROOT / "docs" / name) != text]
    assert not stale, "run script/docs"


def find_text(path: Path) -> str | None:
    """A file's text, or None where there is no such file."""
    return path.read_text() if path.is_file() else None


def mentioned(word: str, text: str) -> bool:
    """Whether the word stands in the text by itself: --name is not in --bridge-name."""
    return re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text) is not None
