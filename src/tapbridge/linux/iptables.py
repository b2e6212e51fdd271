"""Rules of the legacy iptables that name a link, from iptables-legacy-save(8), a format made to be read again.

Rules made by today's iptables command are nf_tables' and found there. The kernel says by /proc whether a legacy
table is loaded at all; where none is, nothing is run.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from itertools import pairwise
from typing import Final

from tapbridge.linux.processes import read_bytes
from tapbridge.model.state import Attachment
from tapbridge.model.values import IfName

_TABLES: Final = {"iptables": "ip_tables_names", "ip6tables": "ip6_tables_names"}
_FOLDERS: Final = ("/usr/sbin", "/sbin", "/usr/bin")
_HOOKS: Final = {"INPUT": "-i", "PREROUTING": "-i", "OUTPUT": "-o", "POSTROUTING": "-o"}
_FORWARDED: Final = ("FORWARD", "DOCKER", "DOCKER-USER")
_SHOWN: Final = 20


def observe_legacy_rules(links: Collection[IfName]) -> list[Attachment]:
    """`iptables-rule` for each rule that names a link, `input-drop` once where the host's own traffic lives by it."""
    found: list[Attachment] = []
    for command, names in _TABLES.items():
        if read_bytes(f"/proc/thread-self/net/{names}").strip() and (text := _saved(command)):
            for link in links:
                found += list(read_rules(text, command, link))
    return found


def read_rules(text: str, command: str, link: IfName) -> Iterator[Attachment]:
    """What a saved ruleset says of one link."""
    for table in text.split("\n*"):
        rules = [line for line in table.splitlines() if line.startswith("-A ")]
        naming = [line for line in rules if _keys(line.split(), link)]
        for line in naming[:_SHOWN]:
            yield Attachment(link=link, kind="iptables-rule", detail=f"{command} {line}")
        drops = {line.split()[0][1:] for line in table.splitlines() if line.startswith(":") and " DROP" in line}
        drops |= {line.split()[1] for line in rules if line.split()[2:4] in (["-j", "DROP"], ["-j", "REJECT"])}
        vital = next((line for line in naming if _is_vital(line.split(), link, drops)), None)
        if vital is not None:
            yield Attachment(link=link, kind="input-drop", detail=f"{command} {vital}")


def _keys(words: list[str], link: str) -> list[str]:
    """The options of a rule that name the link; `eth+` is every name that begins with eth."""
    return [
        key
        for key, name in pairwise(words)
        if key in ("-i", "-o") and (name == link or (name.endswith("+") and link.startswith(name[:-1])))
    ]


def _is_vital(words: list[str], link: str, drops: set[str]) -> bool:
    """Whether the host's own traffic lives by a rule. That INPUT leads to a chain of the user's own is assumed."""
    chain, keys = words[1], _keys(words, link)
    if chain not in _HOOKS:
        return chain not in _FORWARDED and "INPUT" in drops and "-i" in keys and "ACCEPT" in words
    refuses = "DROP" in words or "REJECT" in words
    return _HOOKS[chain] in keys and ("!" in words if refuses else chain in drops and "LOG" not in words)


def _saved(command: str) -> str:
    import subprocess

    for name in (f"{command}-legacy-save", f"{command}-save"):
        for folder in _FOLDERS:
            path = f"{folder}/{name}"
            if not os.access(path, os.X_OK):
                continue
            try:
                done = subprocess.run([path], capture_output=True, timeout=5, check=False)
            except (OSError, subprocess.TimeoutExpired):
                return ""
            return done.stdout.decode(errors="replace")
    return ""
