"""Debian's ifupdown as the keeper of a bridge: the NIC's stanza in /etc/network/interfaces becomes the bridge's.

Its options stay: what the NIC did at boot the bridge does. `bridge_ports` and the like are words of bridge-utils, whose
script ifupdown runs. What ifupdown believes to be up stands in /run/network/ifstate, and must fit the files, or
`ifdown` would look for a link that it has no stanza for any more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from typing import Final

from tapbridge.core.vlans import tells_vlans_apart
from tapbridge.model.noun import dataclass
from tapbridge.model.permanent import Permanent
from tapbridge.model.step import WriteFile
from tapbridge.model.verdict import Finding
from tapbridge.owners import ifupdown_files
from tapbridge.owners.etc_network import (
    NG,
    changed,
    files,
    is_ng,
    not_started,
    require_a_place,
    require_read_back,
)
from tapbridge.owners.keeper import Form, Scene, unsavable
from tapbridge.owners.owner import Read

_STATE: Final = "/run/network/ifstate"
_SCRIPTS: Final = "/etc/network/if-pre-up.d"
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
        wanted = {"bridge_ports": scene.port.name, "bridge_hw": scene.mac, "bridge_stp": "off"}
        return require_read_back(scene, self.name, form, wanted, _options_of)

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


def _state_files(read: Read, link: str, to: str) -> Iterator[WriteFile]:
    """Ifupdown's own memory of what is up, of one link turned into that of the other."""
    text = read(_STATE)
    if text is None or f"{link}={link}" not in text.splitlines():
        return
    yield WriteFile(path=_STATE, content=ifupdown_files.state_renamed(text, link, to))
    if read(f"{_STATE}.{link}") is not None:
        yield WriteFile(path=f"{_STATE}.{to}", content=f"{to}\n")
        yield WriteFile(path=f"{_STATE}.{link}", content=None)


def _options_of(told: str, _link: str) -> dict[str, str]:
    """What Debian's `ifquery` tells: an option is the same with a hyphen in it."""
    pairs = (line.split(": ", 1) for line in told.splitlines() if ": " in line)
    return {key.replace("-", "_"): value for key, value in pairs}
