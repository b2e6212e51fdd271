"""systemd-networkd as the keeper of a bridge: what the hand-over has written below /run, and what makes the bridge.

The file for the bridge is the one that it is held by now. The NIC, which networkd leaves alone now, becomes a port,
known by its permanent address; a .netdev makes the bridge with the NIC's, and a .link, which udev reads, gives it our
mark.

Their names sort behind those of the files below /run: as long as these are there nothing changes, whatever makes
networkd read its files. At the next boot they are gone. So nothing need be told to networkd when a bridge is saved.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tapbridge.core.restore_owner import brought_back
from tapbridge.core.vlans import tells_vlans_apart
from tapbridge.model.noun import dataclass, replace
from tapbridge.model.permanent import Permanent
from tapbridge.model.state import File, LeaseFile
from tapbridge.model.step import ReloadClient, Step, WriteFile
from tapbridge.model.verdict import Finding, Severity
from tapbridge.owners.keeper import Form, Scene, is_cloud_init_off, mark_file, unchecked, unsavable
from tapbridge.owners.networkd import SAVED, held_back_by, our_path
from tapbridge.owners.networkd_files import (
    STAYS,
    netdev_file,
    original_of,
    outlook,
    port_file,
    saved_port_file,
    settings,
)
from tapbridge.owners.owner import Read

_PROGRAM: Final = "systemd-networkd"
_FOLDERS: Final = tuple(f"{root}/systemd/network" for root in ("/etc", "/run", "/usr/local/lib", "/usr/lib"))
_OURS: Final = SAVED.rpartition("/")[2]
_LIVE: Final = "00-0-tapbridge-"
_AUTHORS: Final = {"-netplan-": "netplan", "-cloud-init": "cloud-init"}
"""Who writes files for networkd, by a part of their names."""


@dataclass(frozen=True, slots=True)
class NetworkdKeeper:
    """systemd-networkd, where it holds the bridge."""

    name: str = _PROGRAM

    def find(self, scene: Scene) -> str | None:
        """It holds the bridge now."""
        client = scene.client(_PROGRAM)
        return f"{_PROGRAM} holds {scene.bridge.name}" if client is not None and client.files else None

    def form(self, scene: Scene) -> Form:
        """A .netdev, a .network for the bridge and one for its port, and a .link. Raises Refused."""
        nic, bridge = scene.port.name, scene.bridge.name
        held, port = scene.read(our_path(bridge)), scene.read(our_path(nic))
        original = original_of(port or "")
        if held is None or original is None:
            hint = f"tapbridge down {bridge}, then tapbridge up --save"
            raise unsavable(self.name, bridge, "it does not hold the bridge by a file of ours", hint)
        self._require_first(scene, original)
        match = f"PermanentMACAddress={scene.port.permanent_mac}" if scene.port.permanent_mac else f"Name={nic}"
        texts = {
            f"{bridge}.netdev": netdev_file(bridge, scene.mac, vlan_aware=tells_vlans_apart(scene.bridge)),
            f"{bridge}.network": held,
            f"{nic}.network": saved_port_file(nic, bridge, original, match, held, tuple(_vlans(scene, original))),
        }
        return Form(
            files=(
                *(File(path=f"{SAVED}{name}", content=text) for name, text in texts.items()),
                mark_file(scene),
            ),
            outlook=outlook(held),
            findings=tuple(_written_by_others(scene, original)),
        )

    def check(self, scene: Scene, form: Form) -> tuple[Finding, ...]:
        """Nobody can: networkd has no program for it."""
        return (unchecked(self.name, scene.bridge.name, "it has no program that does so"),)

    def take_back(self, scene: Scene, permanent: Permanent) -> tuple[Step, ...]:
        """The files below /run again, where a boot has made the bridge, and networkd by them."""
        nic, bridge, client = permanent.nic, permanent.bridge, scene.client(_PROGRAM)
        texts = {written.after.path: written.after.content or "" for written in permanent.files}
        saved = f"{SAVED}{bridge}.network"
        original = original_of(texts.get(f"{SAVED}{nic}.network", ""))
        if client is None or original is None or [file.path for file in client.files[:1]] != [saved]:
            return ()
        again = replace(client, files=(LeaseFile(path=our_path(bridge), sha256=""),))
        return (
            WriteFile(path=our_path(bridge), content=texts[saved]),
            WriteFile(path=our_path(nic), content=port_file(nic, bridge, original)),
            ReloadClient(client=client),
            replace(brought_back(scene.state, client), client=again),
        )

    def forget(self, read: Read, permanent: Permanent) -> tuple[Step, ...]:
        """Nothing: it looks at what is there."""
        return ()

    def held_back_by(self, permanent: Permanent) -> tuple[str, ...]:
        """The drop-ins that were put beside the files."""
        return held_back_by(permanent.bridge, permanent.nic)

    def _require_first(self, scene: Scene, original: str) -> None:
        """No other file may count before ours: of all that match a link, the first by its name does. Raises Refused."""
        last = f"{_OURS}{max(scene.port.name, scene.bridge.name)}.network"
        there = {name: f"{folder}/{name}" for folder in reversed(_FOLDERS) for name in scene.find_names(folder)}
        there[original.rpartition("/")[2]] = original
        for name, path in sorted(there.items()):
            if name.endswith(".network") and name <= last and not name.startswith((_LIVE, _OURS)):
                why, hint = f"{path} would count before ours", "give that file a name with a higher number"
                raise unsavable(self.name, scene.bridge.name, why, hint)


NETWORKD_KEEPER: Final = NetworkdKeeper()


def _vlans(scene: Scene, original: str) -> Iterator[str]:
    """The VLAN links on the NIC, by its own file and the drop-ins of that: they stay with it."""
    name = original.rpartition("/")[2]
    drop_ins = [f"{folder}/{name}.d" for folder in _FOLDERS]
    paths = [original, *(f"{folder}/{one}" for folder in drop_ins for one in scene.find_names(folder))]
    for path in paths:
        for section, key, value in settings(scene.read(path) or ""):
            if (section, key) == STAYS:
                yield value


def _written_by_others(scene: Scene, original: str) -> Iterator[Finding]:
    """Whose file the NIC's own is, if it is written anew: ours counts all the same, but does not say the new."""
    author = next((name for mark, name in _AUTHORS.items() if mark in original), None)
    if author is None or (author == "cloud-init" and is_cloud_init_off(scene.read)):
        return
    yield Finding(
        code="other-author",
        severity=Severity.INFO,
        subject=scene.bridge.name,
        message=f"{author} writes {original}: what it is told of {scene.port.name} later does not reach the bridge",
        fix="then: tapbridge unsave, and save again",
    )
