"""The Markdown of our topics as text for a terminal.

Only the few forms that the topics use: headings, paragraphs, lists, fenced code, `code` and **strong**. A library
would do more and cost 100 ms; the tests hold the topics to these forms.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

MARGIN = "  "
_ITEM = re.compile(r"(?P<bullet>-|\d+\.) +(?P<text>.*)")
_CODE = re.compile(r"`([^`]+)`")
_STRONG = re.compile(r"\*\*([^*]+)\*\*")
_BOLD, _NORMAL = "\x1b[1m", "\x1b[0m"
_GLUE = "\xa0"  # holds the words of one `code` together while lines are filled


class Block(NamedTuple):
    """A piece of a text: `form` is heading, code, item or paragraph; `bullet` is that of an item."""

    form: str
    text: str
    bullet: str = ""


def parse_blocks(text: str) -> Iterator[Block]:
    """The pieces of a text. Lines of a paragraph or of an item are joined; code keeps its lines."""
    open_block: Block | None = None
    code: list[str] | None = None
    for line in text.splitlines():
        if line.startswith("```"):
            if open_block:
                yield open_block
            if code is not None:
                yield Block("code", "\n".join(code))
            open_block, code = None, [] if code is None else None
            continue
        if code is not None:
            code.append(line)
            continue
        item = _ITEM.match(line)
        starts = line.startswith("#") or item or not line.strip()
        if starts and open_block:
            yield open_block
            open_block = None
        if line.startswith("#"):
            yield Block("heading", line.lstrip("#").strip())
        elif item:
            open_block = Block("item", item["text"], item["bullet"])
        elif line.strip():
            form, before, bullet = open_block or ("paragraph", "", "")
            open_block = Block(form, f"{before} {line.strip()}".strip(), bullet)
    if open_block:
        yield open_block


def render(text: str, *, width: int, styled: bool) -> str:
    """The text in lines of `width` columns. Code is never broken. Escape sequences only if `styled`."""
    parts: list[str] = []
    before = ""
    for block in parse_blocks(text):
        if parts and not (block.form == before == "item"):
            parts.append("")
        parts.append(_render_block(block, width, styled))
        before = block.form
    return "\n".join(parts)


def _render_block(block: Block, width: int, styled: bool) -> str:
    if block.form == "heading":
        return _BOLD + _CODE.sub(r"\1", block.text) + _NORMAL if styled else block.text
    if block.form == "code":
        return "\n".join(f"{MARGIN * 2}{line}".rstrip() for line in block.text.split("\n"))
    filled = _fill(block.text, width, f"{MARGIN}{block.bullet} " if block.bullet else MARGIN)
    if not styled:
        return _STRONG.sub(r"\1", filled)
    return _STRONG.sub(rf"{_BOLD}\1{_NORMAL}", _CODE.sub(rf"{_BOLD}\1{_NORMAL}", filled))


def _fill(text: str, width: int, first: str) -> str:
    import textwrap

    glued = _CODE.sub(lambda code: code[0].replace(" ", _GLUE), text)
    lines = textwrap.fill(
        glued,
        width,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return lines.replace(_GLUE, " ")


def text_width(environ: Mapping[str, str]) -> int:
    """The columns that a text may fill: those of the terminal, 40 to 100, or 80 where there is none."""
    columns = environ.get("COLUMNS", "")
    if columns.isdecimal():
        width = int(columns[:6])
    else:
        try:
            width = os.get_terminal_size(1).columns
        except OSError:
            width = 80
    return min(max(width, 40), 100)
