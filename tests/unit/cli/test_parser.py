"""From an argument vector to a command and its arguments."""

from __future__ import annotations

from pathlib import Path

import pytest

from tapbridge.cli.parser import parse
from tapbridge.model.errors import UsageError


def arguments(*words: str) -> dict[str, object]:
    """What `tapbridge explain` gets of these words."""
    parsed = parse(words)
    assert not isinstance(parsed, str)
    command, args = parsed
    assert command.name == "explain"
    return vars(args)


@pytest.mark.parametrize("option", ["--json", "--quiet", "-q", "-v", "--verbose", "--yes", "-y", "--root=/x"])
def test_options_of_every_command_stand_before_it_or_behind(option: str) -> None:
    before, behind = arguments(option, "explain", "tap"), arguments("explain", "tap", option)
    assert before == behind == arguments("explain", option, "tap")
    assert before != arguments("explain", "tap")


def test_root_takes_the_next_word_wherever_it_stands() -> None:
    assert arguments("--root", "/x", "explain") == arguments("explain", "--root", "/x")
    assert arguments("--root", "/x", "explain")["root"] == Path("/x")


def test_several_options_before_the_command() -> None:
    found = arguments("--json", "-q", "-v", "-y", "explain", "-v")
    assert (found["json"], found["quiet"], found["verbose"], found["yes"]) == (True, True, 2, True)


def test_what_stands_behind_two_hyphens_is_left_alone() -> None:
    found = arguments("explain", "tap", "--", "--json", "--", "-h")
    assert found["rest"] == ["--json", "--", "-h"]
    assert found["json"] is False
    assert arguments("explain")["rest"] is None
    assert arguments("explain", "--")["rest"] == []


@pytest.mark.parametrize(("typed", "meant"), [("stauts", "status"), ("ups", "up"), ("expain", "explain")])
def test_the_nearest_command_is_offered(typed: str, meant: str) -> None:
    with pytest.raises(UsageError, match=repr(typed)) as raised:
        parse([typed])
    assert raised.value.hint == f"tapbridge {meant}"


def test_where_nothing_is_near_the_list_is_offered() -> None:
    with pytest.raises(UsageError) as raised:
        parse(["zzzzzzzz"])
    assert raised.value.hint == "tapbridge --help"


def test_an_option_is_never_guessed_from_its_beginning() -> None:
    with pytest.raises(UsageError, match="--verb") as raised:
        parse(["explain", "--verb"])
    assert raised.value.hint == "tapbridge explain --help"


@pytest.mark.parametrize("words", [["explain", "--help"], ["explain", "-h", "--nonsense"], ["--json", "explain", "-h"]])
def test_help_of_a_command_is_a_text(words: list[str]) -> None:
    text = parse(words)
    assert isinstance(text, str)
    assert "usage: tapbridge explain" in text
    assert "--root DIR" in text
