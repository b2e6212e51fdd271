"""The pages that are made from the program."""

from __future__ import annotations

import re
from argparse import ArgumentParser
from types import SimpleNamespace
from typing import Any

import pytest

from kit.source import ROOT
from tapbridge.cli import parser, reference
from tapbridge.cli.commands import COMMANDS
from tapbridge.cli.explain import load_topic, topic_names


def test_a_topic_that_is_gone_leaves_no_page() -> None:
    there = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs/explain").iterdir()}
    assert there <= set(reference.pages())


def test_links_between_the_pages_lead_somewhere() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert not broken


def test_a_topic_s_page_is_its_text() -> None:
    for name in topic_names():
        page = re.sub(r"\[([^]]+)\]\([a-z0-9./-]+\.md\)", r"\1", reference.topic_page(name))
        assert load_topic(name).text in page


def test_a_topic_s_page_leads_to_the_topics_that_it_names() -> None:
    assert "[`explain stp`](stp.md)" in reference.topic_page("symptoms")
    assert "[exit-codes](../exit-codes.md)" in reference.topic_page("safety")
    assert "[safety](explain/safety.md)" in reference.topic_page("exit-codes")


def test_a_command_that_is_missing_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "COMMANDS", (*COMMANDS, COMMANDS[0]._replace(name="new", module="not_written_yet")))
    with pytest.raises(ImportError, match="not_written_yet"):
        reference.pages()


def test_every_form_of_an_argument_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    def options(one: ArgumentParser) -> None:
        one.add_argument("link", nargs="?", metavar="LINK", help="a link | or none")
        one.add_argument("verb", choices=["up", "down"], help="what to do")
        one.add_argument("words", nargs="*", metavar="WORD", help="words")
        one.add_argument("--wait", nargs="?", metavar="SECONDS", default=5, help="how long (default %(default)s)")
        one.add_argument("-n", "--name", required=True, help="its name")
        waiting = one.add_argument_group("of waiting", "only with --wait")
        waiting.add_argument("--patience", action="store_true", help="wait longer")
        one.epilog = "And a word at the end."

    module: Any = SimpleNamespace(options=options)
    monkeypatch.setattr(parser, "load_command", lambda command: module)
    monkeypatch.setattr(reference, "COMMANDS", COMMANDS[:1])
    text = reference.reference()
    assert "tapbridge up [--wait [SECONDS]] --name NAME [--patience] [LINK] up|down [WORD ...]" in text
    assert "| `up\\|down` | what to do |" in text
    assert "Of waiting: only with --wait." in text
    assert "| `LINK` | a link \\| or none |" in text
    assert "| `--wait [SECONDS]` | how long (default 5) |" in text
    assert "| `-n NAME`, `--name NAME` | its name |" in text
    assert "And a word at the end." in text
    assert text.count("`--root DIR`") == 1


def test_the_architecture_names_files_that_there_are() -> None:
    named = set(re.findall(r"(?<!/)\b[a-z]+/[a-z_]+\.py\b", (ROOT / "docs/architecture.md").read_text()))
    assert named
    assert not [path for path in named if not (ROOT / "src/tapbridge" / path).is_file()]
