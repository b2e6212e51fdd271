"""ifupdown-ng as the keeper of a bridge: the NIC's stanza in /etc/network/interfaces becomes the bridge's.

As with Debian's ifupdown, but in its own words, which need no other package. What it believes to be up stands in
/run/ifstate, with the number of those who need it: the NIC is up for the bridge's sake then, and twice, as it counts.
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
from tapbridge.owners import ifupdown_ng_files
from tapbridge.owners.etc_network import (
    DEBIAN_S,
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

_STATE: Final = "/run/ifstate"
_IN_A_FOLDER: Final = re.compile(r"[^.].*")


@dataclass(frozen=True, slots=True)
class IfupdownNg:
    """ifupdown-ng, with its executor for bridges."""

    name: str = "ifupdown-ng"

    def find(self, scene: Scene) -> str | None:
        """It is the one that is used, and one of its files gives the NIC an address."""
        if not is_ng(scene):
            return None
        nic = scene.port.name
        paths = [path for path, text in files(scene, _IN_A_FOLDER) if _configures(text, nic)]
        return f"{paths[0]} configures {nic}" if paths else None

    def form(self, scene: Scene) -> Form:
        """The files that speak of the NIC, with the bridge in its place. Raises Refused."""
        nic, bridge = scene.port.name, scene.bridge.name
        before = dict(files(scene, _IN_A_FOLDER))
        if not is_ng(scene):
            raise unsavable(self.name, bridge, f"there is {DEBIAN_S}, or no {NG}", "tapbridge save --for ifupdown")
        if "bridge" not in scene.find_names(NG):
            raise unsavable(self.name, bridge, f"there is no {NG}/bridge", "install its executor for bridges")
        configured = any(_configures(text, nic) for text in before.values())
        require_a_place(scene, self.name, before, configured, ifupdown_ng_files.find_obstacle)
        bridged = partial(ifupdown_ng_files.bridged, vlan_aware=tells_vlans_apart(scene.bridge))
        texts = {path: bridged(text, nic, bridge, scene.mac, scene.mark) for path, text in before.items()}
        started = any(ifupdown_ng_files.is_started(text, bridge) for text in texts.values())
        return Form(
            files=changed(scene, before, texts),
            live=tuple(_bridge_is_up(scene.read, nic, bridge)),
            outlook=ifupdown_ng_files.outlook("\n".join(texts.values()), bridge),
            findings=() if started else (not_started(scene, "auto"),),
        )

    def check(self, scene: Scene, form: Form) -> tuple[Finding, ...]:
        """`ifquery` reads the bridge's stanza as it was meant. Raises Refused."""
        wanted = {"bridge-ports": scene.port.name, "hwaddress": scene.mac, "bridge-stp": "off"}
        return require_read_back(scene, self.name, form, wanted, ifupdown_ng_files.options_of)

    def take_back(self, scene: Scene, permanent: Permanent) -> tuple[WriteFile, ...]:
        """What is up is the NIC again, by its old stanza."""
        return self.forget(scene.read, permanent)

    def forget(self, read: Read, permanent: Permanent) -> tuple[WriteFile, ...]:
        """The same: `ifdown` and `ifup` look at nothing else."""
        return tuple(_nic_is_up(read, permanent.nic, permanent.bridge))

    def held_back_by(self, permanent: Permanent) -> tuple[str, ...]:
        """None: it acts on its files at a boot, or when it is told to."""
        return ()


IFUPDOWN_NG: Final = IfupdownNg()


def _configures(text: str, nic: str) -> bool:
    seen = ifupdown_ng_files.outlook(text, nic)
    return bool(seen.addresses or seen.asked)


def _bridge_is_up(read: Read, nic: str, bridge: str) -> Iterator[WriteFile]:
    """Its own memory of what is up: the bridge, and the NIC for its sake."""
    text = read(_STATE) or ""
    count = ifupdown_ng_files.find_count(text, nic)
    if count is not None and ifupdown_ng_files.find_count(text, bridge) is None:
        counts = {nic: f"{count + 1}", bridge: "1 explicit"}
        yield WriteFile(path=_STATE, content=ifupdown_ng_files.with_counts(text, nic, counts))


def _nic_is_up(read: Read, nic: str, bridge: str) -> Iterator[WriteFile]:
    text = read(_STATE) or ""
    count = ifupdown_ng_files.find_count(text, nic)
    if count is not None and ifupdown_ng_files.find_count(text, bridge) is not None:
        counts = {nic: f"{max(count - 1, 1)} explicit", bridge: ""}
        yield WriteFile(path=_STATE, content=ifupdown_ng_files.with_counts(text, nic, counts))
