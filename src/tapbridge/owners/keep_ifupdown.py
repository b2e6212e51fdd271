"""Debian's ifupdown as the keeper of a bridge: the NIC's stanza in /etc/network/interfaces becomes the bridge's.

Its options stay: what the NIC did at boot the bridge does. `bridge_ports` and the like are words of bridge-utils, whose
script ifupdown runs. What ifupdown believes to be up stands in /run/network/ifstate, and must fit the files, or
`ifdown` would look for a link that it has no stanza for any more.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from functools import partial
from typing import Final

from tapbridge.core.vlans import tells_vlans_apart
from tapbridge.model.errors import HostError
from tapbridge.model.noun import dataclass
from tapbridge.model.permanent import Permanent
from tapbridge.model.state import File
from tapbridge.model.step import WriteFile
from tapbridge.model.verdict import Finding
from tapbridge.owners import ifupdown_files
from tapbridge.owners.keeper import Form, Scene, not_understood, require_not_generated, unchecked, unsavable
from tapbridge.owners.owner import Read, warn

_FILE: Final = "/etc/network/interfaces"
_STATE: Final = "/run/network/ifstate"
_SCRIPTS: Final = "/etc/network/if-pre-up.d"
DEBIAN_S: Final = "/usr/lib/ifupdown"
NG: Final = "/usr/libexec/ifupdown-ng"
"""Where ifupdown is, and where ifupdown-ng is, which reads the same file and has words of its own."""

_MOST: Final = 64
"""Files that are read, at most."""

_IN_A_FOLDER: Final = re.compile(r"[A-Za-z0-9_-]+")
"""What a file must be called to be read by `source-directory`."""


@dataclass(frozen=True, slots=True)
class Ifupdown:
    """Debian's ifupdown, with bridge-utils."""

    name: str = "ifupdown"

    def find(self, scene: Scene) -> str | None:
        """One of its files has a stanza for the NIC that does something."""
        if is_ng(scene):
            return None
        paths = [path for path, text in files(scene, _IN_A_FOLDER) if ifupdown_files.configures(text, scene.port.name)]
        return f"{paths[0]} configures {scene.port.name}" if paths else None

    def form(self, scene: Scene) -> Form:
        """The files that speak of the NIC, with the bridge in its place. Raises Refused."""
        nic, bridge = scene.port.name, scene.bridge.name
        before = dict(files(scene, _IN_A_FOLDER))
        self._require(scene, before)
        bridged = partial(ifupdown_files.bridged, vlan_aware=tells_vlans_apart(scene.bridge))
        texts = {path: bridged(text, nic, bridge, scene.mac, scene.mark) for path, text in before.items()}
        started = any(ifupdown_files.is_started(text, nic) for text in before.values())
        return Form(
            files=changed(scene, before, texts),
            live=tuple(_state_files(scene.read, nic, bridge)),
            outlook=ifupdown_files.outlook("\n".join(texts.values()), bridge),
            findings=() if started else (not_started(scene, "auto or allow-hotplug"),),
        )

    def check(self, scene: Scene, form: Form) -> tuple[Finding, ...]:
        """`ifquery` reads the bridge's stanza as it was meant. Raises Refused."""
        nic, bridge = scene.port.name, scene.bridge.name
        text = next(f.content or "" for f in form.files if ifupdown_files.names(f.content or "", bridge))
        try:
            told = scene.ask("ifquery", "-i", "/dev/stdin", bridge, text=text)
        except HostError as error:
            if error.errno == errno.ENOENT:
                return (unchecked(self.name, bridge, "ifquery is not installed here"),)
            raise not_understood(self.name, bridge, error.message) from None
        found = dict(line.split(": ", 1) for line in told.splitlines() if ": " in line)
        wanted = {"bridge_ports": nic, "bridge_hw": scene.mac, "bridge_stp": "off"}
        for key, value in wanted.items():
            if found.get(key.replace("_", "-"), found.get(key)) != value:
                raise not_understood(self.name, bridge, f"ifquery reads no '{key} {value}'")
        return ()

    def take_back(self, scene: Scene, permanent: Permanent) -> tuple[WriteFile, ...]:
        """What is up is the NIC again, by its old stanza."""
        return self.forget(scene.read, permanent)

    def forget(self, read: Read, permanent: Permanent) -> tuple[WriteFile, ...]:
        """The same: `ifdown` and `ifup` look at nothing else."""
        return tuple(_state_files(read, permanent.bridge, permanent.nic))

    def held_back_by(self, permanent: Permanent) -> tuple[str, ...]:
        """None: it acts on its files at a boot, or when it is told to."""
        return ()

    def _require(self, scene: Scene, texts: dict[str, str]) -> None:
        bridge = scene.bridge.name
        if is_ng(scene):
            raise unsavable(
                self.name,
                bridge,
                f"it is ifupdown-ng that is installed here, see {NG}",
                "tapbridge save --for ifupdown-ng",
            )
        configured = any(ifupdown_files.configures(text, scene.port.name) for text in texts.values())
        require_a_place(scene, self.name, texts, configured, ifupdown_files.find_obstacle)
        if "bridge" not in scene.find_names(_SCRIPTS):
            raise unsavable(
                self.name, bridge, "it knows bridges only with the package bridge-utils", "apt install bridge-utils"
            )


IFUPDOWN: Final = Ifupdown()


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


def _state_files(read: Read, link: str, to: str) -> Iterator[WriteFile]:
    """Ifupdown's own memory of what is up, of one link turned into that of the other."""
    text = read(_STATE)
    if text is None or f"{link}={link}" not in text.splitlines():
        return
    yield WriteFile(path=_STATE, content=ifupdown_files.state_renamed(text, link, to))
    if read(f"{_STATE}.{link}") is not None:
        yield WriteFile(path=f"{_STATE}.{to}", content=f"{to}\n")
        yield WriteFile(path=f"{_STATE}.{link}", content=None)


def not_started(scene: Scene, words: str) -> Finding:
    """The finding that says that no boot brings the bridge up."""
    message = f"no line {words} names {scene.port.name}: ifupdown does not bring it up at boot by itself"
    return warn("not-started-at-boot", scene.bridge.name, message, fix=f"add a line: auto {scene.port.name}")
