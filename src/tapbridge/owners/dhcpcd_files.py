"""The configuration of dhcpcd (9 and 10). Text in, text out.

A line is a word and its values. What follows `interface NAME` is for that link alone; `allowinterfaces` and
`denyinterfaces` have patterns of names. See dhcpcd.conf(5), src/if-options.c.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Final

_ORIGIN: Final = "# a copy by tapbridge of "


def carry_configuration(text: str, source: str, target: str) -> str:
    """The configuration that says of the target what this one says of the source."""
    return "".join(_carried(text, source, target))


def manage(text: str, source: str, target: str) -> str:
    """The configuration for one that chooses its links by itself: the target, which as a bridge it would not choose
    unless it is named, but neither the source, which is its port, nor what is there only while the bridge is made."""
    named = any(line.split()[:2] == ["interface", target] for line in text.splitlines())
    begin = "" if denies(text, source) else _denial(source)
    end = "" if named else f"interface {target}\n"
    return begin + text + ("" if text.endswith("\n") else "\n") + end


def denies(text: str, source: str) -> bool:
    """Whether a configuration is one that `manage` has made for that source."""
    return text.startswith(_denial(source))


def with_origin(text: str, path: str | None) -> str:
    """A copy that says of which file it is one; None: of the default."""
    return f"{_ORIGIN}{path or 'the default'}\n{text}"


def origin_of(text: str) -> str | None:
    """The file of which a text is a copy; None: the default."""
    first = text.partition("\n")[0].removeprefix(_ORIGIN)
    return first if first.startswith("/") else None


def _denial(source: str) -> str:
    return f"denyinterfaces {source} tbkeep* tbpeer*\n"


def _carried(text: str, source: str, target: str) -> Iterator[str]:
    for line in text.splitlines(keepends=True):
        word, *values = line.split() or [""]
        if word == "interface" and values[:1] == [source]:
            yield f"interface {target}\n"
        elif word == "denyinterfaces":
            kept = [pattern for pattern in values if not fnmatchcase(target, pattern)]
            if kept:
                yield f"denyinterfaces {' '.join(kept)}\n"
        elif word == "allowinterfaces" and not any(fnmatchcase(target, pattern) for pattern in values):
            yield f"allowinterfaces {' '.join((*values, target))}\n"
        else:
            yield line
