"""The pages of docs/ that are made from the program: the reference of all commands, and the topics of `explain`.

`script/docs` writes them; a test holds that the committed pages are what this makes.
"""

from __future__ import annotations

import argparse
import posixpath
import re
import sys
from pathlib import Path

from tapbridge.cli.commands import COMMANDS
from tapbridge.cli.explain import GROUPS, load_topic, topic_names
from tapbridge.cli.parser import EVERY_COMMAND, make_parser

_PLACES = {"exit-codes": "exit-codes.md", "json": "json.md"}
_SEE_ALSO = "See also: "
_NAMED = re.compile(r"`(?:tapbridge )?explain ([a-z0-9-]+)`")


def pages() -> dict[str, str]:
    """Every generated page: its path below docs/ and its text. Raises ImportError where a command is missing."""
    found = {place(name): topic_page(name) for name in topic_names()}
    return found | {"explain/index.md": topic_index(), "reference.md": reference()}


def place(topic: str) -> str:
    """Where the page of a topic lies below docs/."""
    return _PLACES.get(topic, f"explain/{topic}.md")


def topic_page(name: str) -> str:
    """A topic as a page: the same text, with links to the topics that it names."""
    here = place(name)
    lines = [_made_from(f"src/tapbridge/topics/{name}.md")]
    for line in load_topic(name).text.splitlines():
        if line.startswith(_SEE_ALSO):
            others = line.removeprefix(_SEE_ALSO).split(", ")
            line = _SEE_ALSO + ", ".join(_link(other, page=here) for other in others)
        lines.append(_NAMED.sub(lambda named: _link(named[1], page=here, text=named[0]), line))
    return "\n".join(lines) + "\n"


def topic_index() -> str:
    """The list of topics."""
    lines = [
        _made_from("src/tapbridge/cli/explain.py"),
        "# The missing documentation",
        "",
        "The same texts are in the terminal: `tapbridge explain TOPIC`.",
    ]
    for title, names in GROUPS:
        lines += ["", f"## {title}", ""]
        lines += [f"- {_link(name, page='explain/index.md')}: {load_topic(name).summary}" for name in names]
    return "\n".join(lines) + "\n"


def reference() -> str:
    """All commands with all their options, as their parsers know them."""
    lines = [
        _made_from("the parsers of src/tapbridge/cli/"),
        "# Commands",
        "",
        "[Exit codes](exit-codes.md) and [JSON](json.md) have pages of their own. What stands behind `--` belongs to",
        "the command that is run, and is never read as an option of ours.",
        "",
        *(f"- [tapbridge {command.name}](#tapbridge-{command.name}): {command.summary}" for command in COMMANDS),
        "",
        "## Options of every command",
        "",
        "They may stand before the command or behind it.",
        "",
        *_table([*_global_actions(make_parser(COMMANDS[0])), *_help_actions(make_parser(COMMANDS[0]))]),
        "",
        "`tapbridge --version` prints the version, `tapbridge --help` the commands.",
    ]
    for command in COMMANDS:
        lines += _section(make_parser(command), depth=2, summary=command.summary)
    return "\n".join(lines) + "\n"


def _made_from(source: str) -> str:
    return f"<!-- Made by script/docs from {source}: do not edit. -->\n"


def _link(topic: str, *, page: str, text: str = "") -> str:
    return f"[{text or topic}]({posixpath.relpath(place(topic), posixpath.dirname(page))})"


def _section(parser: argparse.ArgumentParser, *, depth: int, summary: str) -> list[str]:
    everywhere = [*_global_actions(parser), *_help_actions(parser)]
    own = [x for x in parser._actions if x not in everywhere]
    branches = [x for x in own if isinstance(x, argparse._SubParsersAction)]
    plain = [x for x in own if x not in branches]
    grouped = [(group, [x for x in group._group_actions if x in plain]) for group in parser._action_groups]
    lines = ["", f"{'#' * depth} {parser.prog}", "", f"{summary[:1].upper()}{summary[1:]}."]
    lines += ["", "```", _synopsis(parser, plain, bool(branches)), "```"]
    usual = [x for group, actions in grouped[:2] for x in actions]  # argparse's own: positional arguments, options
    lines += ["", *_table(usual)] if usual else []
    for group, actions in grouped[2:]:
        if actions:
            head = f"{group.title[:1].upper()}{group.title[1:]}" if group.title else ""
            lines += ["", f"{head}: {group.description}." if group.description else f"{head}:", "", *_table(actions)]
    if parser.epilog:
        lines += ["", parser.epilog]
    for branch in branches:
        told = {choice.dest: choice.help or "" for choice in branch._choices_actions}
        for name, child in branch.choices.items():
            lines += _section(child, depth=depth + 1, summary=told[name])
    return lines


def _global_actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    group = next((group for group in parser._action_groups if group.title == EVERY_COMMAND), None)
    return list(group._group_actions) if group else []


def _help_actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [x for x in parser._actions if isinstance(x, argparse._HelpAction)]


def _table(actions: list[argparse.Action]) -> list[str]:
    rows = [(", ".join(f"`{form}`" for form in _forms(x)), _help(x)) for x in actions]
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return ["| argument | meaning |", "|---|---|", *(f"| {' | '.join(row)} |" for row in cells)]


def _synopsis(parser: argparse.ArgumentParser, actions: list[argparse.Action], branches: bool) -> str:
    if parser.usage:
        return parser.usage.replace("%(prog)s", parser.prog)
    options = [x for x in actions if x.option_strings]
    words = [parser.prog]
    words += [_forms(x)[-1] if x.required else f"[{_forms(x)[-1]}]" for x in options]
    words += [_positional(x) for x in actions if not x.option_strings]
    return _fold([*words, *(["COMMAND ..."] if branches else [])])


def _fold(words: list[str]) -> str:
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1]) + len(word) < 100:
            lines[-1] += f" {word}"
        else:
            lines.append(f"    {word}")
    return "\n".join(lines)


def _value(action: argparse.Action) -> str:
    if isinstance(action.metavar, str):
        return action.metavar
    return "|".join(map(str, action.choices)) if action.choices else action.dest.upper()


def _forms(action: argparse.Action) -> list[str]:
    """How the argument is written: every spelling of an option, with its value."""
    if not action.option_strings:
        return [_value(action)]
    if action.nargs == 0:
        return list(action.option_strings)
    value = f"[{_value(action)}]" if action.nargs == "?" else _value(action)
    return [f"{option} {value}" for option in action.option_strings]


def _positional(action: argparse.Action) -> str:
    value = _value(action)
    return {"?": f"[{value}]", "*": f"[{value} ...]", "+": f"{value} [{value} ...]"}.get(str(action.nargs), value)


def _help(action: argparse.Action) -> str:
    return (action.help or "") % {"prog": "tapbridge", **vars(action)}


def main() -> int:
    """Write the pages below the folder that is given."""
    docs = Path(sys.argv[1])
    for path, text in pages().items():
        (docs / path).parent.mkdir(parents=True, exist_ok=True)
        (docs / path).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
