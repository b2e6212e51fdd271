"""The files that ifupdown and ifupdown-ng both read at boot, and what both ask of them as keepers of a bridge."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Final

from tapbridge.model.errors import HostError
from tapbridge.model.state import File
from tapbridge.model.verdict import Finding
from tapbridge.owners import ifupdown_files
from tapbridge.owners.keeper import Form, Scene, not_understood, require_not_generated, unchecked, unsavable
from tapbridge.owners.owner import warn

_FILE: Final = "/etc/network/interfaces"
DEBIAN_S: Final = "/usr/lib/ifupdown"
NG: Final = "/usr/libexec/ifupdown-ng"
"""Where ifupdown is, and where ifupdown-ng is, which reads the same file and has words of its own."""

_MOST: Final = 64
"""Files that are read, at most."""


def is_ng(scene: Scene) -> bool:
    """Whether it is ifupdown-ng that reads the file at boot. Debian 13 has room for both, and then it is not."""
    return bool(scene.find_names(NG)) and not scene.find_names(DEBIAN_S)


def require_a_place(
    scene: Scene, keeper: str, texts: dict[str, str], configured: bool, find_obstacle: Callable[[str, str], str | None]
) -> None:
    """Whether the NIC has a stanza in these files, in one of them, that can be the bridge's. Raises Refused."""
    nic, bridge = scene.port.name, scene.bridge.name
    stanzas = [path for path, text in texts.items() if ifupdown_files.names(text, nic)]
    if not configured:
        raise unsavable(keeper, bridge, f"{_FILE} has no stanza for {nic}", "write one, or name another keeper: --for")
    if len(stanzas) > 1:
        why = f"{' and '.join(stanzas)} both have a stanza for {nic}"
        raise unsavable(keeper, bridge, why, "put them into one file")
    for path, text in texts.items():
        if ifupdown_files.names(text, bridge):
            raise unsavable(
                keeper, bridge, f"{path} has a stanza for it already", "take that away, or keep it as it is"
            )
        obstacle = find_obstacle(text, nic)
        if obstacle is not None:
            raise unsavable(keeper, bridge, f"{path}: {obstacle}", "change the file by hand, or that line")


def require_read_back(
    scene: Scene,
    keeper: str,
    form: Form,
    wanted: Mapping[str, str],
    options_of: Callable[[str, str], Mapping[str, str]],
) -> tuple[Finding, ...]:
    """Whether `ifquery` finds these options in the bridge's stanza; a finding if it is missing. Raises Refused."""
    bridge = scene.bridge.name
    text = next(f.content or "" for f in form.files if ifupdown_files.names(f.content or "", bridge))
    try:
        told = scene.ask("ifquery", "-i", "/dev/stdin", bridge, text=text)
    except HostError as error:
        if error.errno == errno.ENOENT:
            return (unchecked(keeper, bridge, "ifquery is not installed here"),)
        raise not_understood(keeper, bridge, error.message) from None
    found = options_of(told, bridge)
    for key, value in wanted.items():
        if found.get(key) != value:
            raise not_understood(keeper, bridge, f"ifquery reads no '{key} {value}'")
    return ()


def changed(scene: Scene, before: dict[str, str], after: dict[str, str]) -> tuple[File, ...]:
    """The files that are not what they were. Raises Refused where they would not stay as they become."""
    paths = [path for path, text in after.items() if text != before[path]]
    for path in paths:
        require_not_generated(scene, path, before[path])
    return tuple(File(path=path, content=after[path]) for path in paths)


def files(scene: Scene, in_a_folder: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    """The file and those that it includes, each once, with their texts. Of a folder only what is called like that."""
    waiting, seen = [_FILE], set[str]()
    while waiting and len(seen) < _MOST:
        path = waiting.pop(0)
        text = scene.read(path) if path not in seen else None
        if text is None:
            continue
        seen.add(path)
        yield path, text
        folder = path.rpartition("/")[0]
        for word, pattern in ifupdown_files.includes(text):
            full = pattern if pattern.startswith("/") else f"{folder}/{pattern}"
            if word == "source-directory":
                waiting += [f"{full}/{name}" for name in scene.find_names(full) if in_a_folder.fullmatch(name)]
            else:
                waiting += _matching(scene, full)


def _matching(scene: Scene, pattern: str) -> list[str]:
    """The files that a pattern means."""
    folder, _, last = pattern.rpartition("/")
    names = [name for name in scene.find_names(folder) if fnmatchcase(name, last) and not name.startswith(".")]
    return [f"{folder}/{name}" for name in names]


def not_started(scene: Scene, words: str) -> Finding:
    """The finding that says that no boot brings the bridge up."""
    message = f"no line {words} names {scene.port.name}: ifupdown does not bring it up at boot by itself"
    return warn("not-started-at-boot", scene.bridge.name, message, fix=f"add a line: auto {scene.port.name}")
