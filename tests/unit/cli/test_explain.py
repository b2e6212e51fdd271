"""`explain`: its topics, how they are found, and how they are printed."""

from __future__ import annotations

import json
import re
from importlib.resources import files

import pytest

from tapbridge.cli import explain
from tapbridge.cli.commands import COMMANDS
from tapbridge.cli.main import main
from tapbridge.cli.prose import parse_blocks, render, text_width

each_topic = pytest.mark.parametrize("name", explain.topic_names())


def test_every_file_is_a_topic_and_every_topic_a_file() -> None:
    there = {path.name for path in files("tapbridge").joinpath("topics").iterdir()}
    assert there == {f"{name}.md" for name in explain.topic_names()}


@each_topic
def test_a_topic_says_what_it_is_in_one_line(name: str) -> None:
    first = explain.load_topic(name).text.partition("\n")[0]
    assert re.fullmatch(rf"# {name}: [^.]{{10,80}}", first)


@each_topic
def test_a_topic_can_be_read_at_a_sitting(name: str) -> None:
    assert 15 <= len(explain.load_topic(name).text.splitlines()) <= 90


@each_topic
def test_a_topic_uses_only_what_the_terminal_can_show(name: str) -> None:
    text = explain.load_topic(name).text
    assert text.isascii()
    for block in parse_blocks(text):
        assert not re.search(r"\]\(|<[a-z]|^\||__", block.text) or block.form == "code"
        assert block.text.count("`") % 2 == 0 or block.form == "code"
        if block.form == "code":
            assert max(len(line) for line in block.text.splitlines()) <= 76


@each_topic
def test_a_topic_names_only_topics_and_commands_that_there_are(name: str) -> None:
    text = " ".join(explain.load_topic(name).text.split())
    see_also = re.search(r"See also: ([a-z0-9, -]+)$", text)
    assert see_also
    named = see_also[1].split(", ") + re.findall(r"`(?:tapbridge )?explain ([a-z0-9-]+)`", text)
    assert set(named) <= set(explain.topic_names()) - {name}
    commands = re.findall(r"`tapbridge ([a-z-]*[a-z])", text)
    assert set(commands) <= {command.name for command in COMMANDS}


def test_a_name_means_one_topic() -> None:
    names = [*explain.topic_names(), *(alias for aliases in explain.ALIASES.values() for alias in aliases)]
    assert len(names) == len(set(names))
    assert set(explain.ALIASES) == set(explain.topic_names())


@pytest.mark.parametrize(
    ("words", "topic"),
    [
        (["tap"], "tap"),
        (["TAP"], "tap"),
        (["dhcp"], "lease"),
        (["take", "name"], "names"),
        (["user", "mode", "networking"], "user"),
        (["br_netfilter"], "firewall"),
        (["Wi-Fi"], "wifi"),
        (["exit", "codes"], "exit-codes"),
    ],
)
def test_a_topic_is_found_by_name_alias_and_several_words(
    words: list[str], topic: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", *words]) == 0
    assert capsys.readouterr().out.startswith(f"{topic}: ")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["brigde"], "tapbridge explain bridge"),
        (["dhclientt"], "tapbridge explain lease"),
        (["my", "firewal", "is", "broken"], "tapbridge explain firewall"),
        (["zzzzzz"], "tapbridge explain, without a topic, lists them all"),
    ],
)
def test_what_is_no_topic_gets_the_nearest(words: list[str], hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", *words]) == 2
    assert capsys.readouterr() == ("", f"error: there is no topic {' '.join(words)!r}\n\nhint: {hint}\n")


def test_a_topic_of_a_stranger_s_making_is_bounded_and_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "\x1b[2J" * 10_000]) == 2
    assert "\x1b" not in capsys.readouterr().err


def test_without_a_topic_all_are_listed_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain"]) == 0
    listed = re.findall(r"^  ([a-z0-9-]+)  ", capsys.readouterr().out, re.MULTILINE)
    assert tuple(listed) == explain.topic_names()


def test_json_has_name_summary_and_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "dhcp", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == {"schema": 1, "topics": [explain.load_topic("lease")._asdict()], "findings": []}
    assert main(["explain", "--json"]) == 0
    topics = json.loads(capsys.readouterr().out)["topics"]
    assert [topic["name"] for topic in topics] == list(explain.topic_names())
    assert all(set(topic) == {"name", "summary", "text"} and all(topic.values()) for topic in topics)


@each_topic
@pytest.mark.parametrize("width", [40, 100])
def test_lines_fit_the_width_and_nothing_is_lost(name: str, width: int) -> None:
    text = explain.load_topic(name).text
    rendered = render(text, width=width, styled=False)
    code = {line for block in parse_blocks(text) if block.form == "code" for line in block.text.splitlines()}
    for line in rendered.splitlines():
        in_code_or_heading = line.strip() in {x.strip() for x in code} or not line.startswith(" ")
        assert len(line) <= width or in_code_or_heading or " " not in line.strip().replace("- ", "") or "`" in line
    assert re.sub(r"[#*\s]|```", "", text) == re.sub(r"[#*\s]", "", rendered)


def test_a_list_hangs_and_code_keeps_its_lines() -> None:
    text = "# a: b\n\none two\nthree\n\n- an item that\n  goes on\n- next\n\n1. first\n\n```\nip  link\n\nx\n```\nend\n"
    assert render(text, width=14, styled=False) == (
        "a: b\n\n  one two\n  three\n\n  - an item\n    that goes\n    on\n  - next\n  1. first\n\n"
        "    ip  link\n\n    x\n\n  end"
    )


def test_style_is_bold_and_only_where_it_is_wanted() -> None:
    text = "# a: `b`\n\nsee `ip link` **now**\n"
    assert render(text, width=80, styled=True) == (
        "\x1b[1ma: b\x1b[0m\n\n  see \x1b[1mip link\x1b[0m \x1b[1mnow\x1b[0m"
    )
    assert render(text, width=80, styled=False) == "a: `b`\n\n  see `ip link` now"


def test_a_command_in_a_sentence_is_not_broken() -> None:
    assert render("see `ip link set up` now", width=12, styled=False) == "  see\n  `ip link set up`\n  now"


def test_the_width_is_the_terminal_s_within_reason() -> None:
    assert text_width({"COLUMNS": "72"}) == 72
    assert text_width({"COLUMNS": "300"}) == 100
    assert text_width({"COLUMNS": "9"}) == 40
    assert text_width({"COLUMNS": "x"}) in range(40, 101)
