"""The files of dhclient (ISC DHCP 4.x): leases and configuration, which share one grammar. Text in, text out.

A file is a row of statements; one that begins with `lease` or `lease6` says in its block for which link it is, by
`interface "eth0";`. Of the leases of a link the last counts. See dhclient.leases(5), client/clparse.c.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

KEPT: Final = 8
"""Leases kept of each link: dhclient appends for months, and only those at the end can still be valid."""

_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|#[^\n]*|[{};]', re.DOTALL)
_SCOPE: Final = re.compile(r'\b(interface\s+)"((?:[^"\\]|\\.)*)"')
_LEASE: Final = re.compile(r"\s*lease6?\b")
_ADDRESS: Final = re.compile(r"\b(?:fixed-address|iaaddr)\s+([0-9A-Fa-f.:]+)")


def statements(text: str) -> Iterator[str]:
    """The statements of a file, each to its `;` or its closing brace. What is torn off at the end is left out."""
    start = depth = 0
    for token in _TOKEN.finditer(text):
        mark = token.group()
        if mark == "{":
            depth += 1
        elif mark == "}":
            depth = max(depth - 1, 0)
        if mark in ("}", ";") and depth == 0:
            yield text[start : token.end()].strip()
            start = token.end()


def link_of(statement: str) -> str | None:
    """The link that a lease is for; None for a statement that is no lease."""
    if not _LEASE.match(statement):
        return None
    found = _SCOPE.search(statement)
    return found.group(2) if found else ""


def rename_links(text: str, source: str, target: str) -> str:
    """The text with `interface "source"` as `interface "target"` wherever it stands outside of a string."""
    return _SCOPE.sub(lambda m: f'{m.group(1)}"{target}"' if m.group(2) == source else m.group(), text)


def names_link(text: str, link: str) -> bool:
    """Whether a configuration has something of its own for a link."""
    return any(found.group(2) == link for found in _SCOPE.finditer(text))


def leased_addresses(text: str, link: str) -> tuple[str, ...]:
    """The addresses in the leases of a link, the last one last."""
    return tuple(address for part in statements(text) if link_of(part) == link for address in _ADDRESS.findall(part))


def carry_leases(text: str, source: str, target: str, *, keep: bool) -> str:
    """A lease file in which the target has the leases of the source, and the source keeps its own or loses them.

    Whatever else is in the file stays: the DUID, by which DHCPv6 servers know the host, and the leases of other links.
    """
    by_link: dict[str, list[str]] = {}
    others = []
    for statement in statements(text):
        link = link_of(statement)
        if link is None:
            others.append(statement)
        elif link != target:
            by_link.setdefault(link, []).append(statement)
    carried = [rename_links(lease, source, target) for lease in by_link.get(source, [])]
    if not keep:
        by_link.pop(source, None)
    leases = [lease for found in (*by_link.values(), carried) for lease in found[-KEPT:]]
    return "".join(f"{part}\n" for part in (*others, *leases))
