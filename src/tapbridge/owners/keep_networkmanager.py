"""NetworkManager as the keeper of a bridge: the two profiles of the hand-over, where a boot does not forget them.

They are the same profiles, with the same UUIDs, so nothing changes when NetworkManager finds them in the second place.
At the next boot they alone are left, and have the highest priority for autoconnecting; the NIC's own profile stays as
it is. A .link, which udev reads, gives the bridge our mark.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Final

from tapbridge.core.outlook import Outlook, canonical
from tapbridge.core.vlans import tells_vlans_apart
from tapbridge.model.errors import HostError
from tapbridge.model.noun import dataclass
from tapbridge.model.permanent import Permanent
from tapbridge.model.state import File
from tapbridge.model.step import WriteFile
from tapbridge.model.values import Family
from tapbridge.model.verdict import Finding, Severity
from tapbridge.owners.keeper import Form, Scene, mark_file, not_understood, unchecked, unsavable
from tapbridge.owners.netplan_files import drop_in_path
from tapbridge.owners.networkmanager import SAVED, profile_path, saved_path, tombstone_path
from tapbridge.owners.networkmanager_files import NIC_PROFILE, PRIORITY, Keyfile, read_keyfile
from tapbridge.owners.owner import Read

_PROGRAM: Final = "NetworkManager"
_SAME: Final = ("uuid", "type", "interface-name", "autoconnect-priority")
"""What NetworkManager writes as it reads it. Of the rest it writes some otherwise, and some keys by another name."""

_AUTOMATIC: Final = ("auto", "dhcp")


@dataclass(frozen=True, slots=True)
class NetworkManagerKeeper:
    """NetworkManager, where it holds the bridge."""

    name: str = _PROGRAM

    def find(self, scene: Scene) -> str | None:
        """It holds the bridge now."""
        client = scene.client(_PROGRAM)
        return f"{_PROGRAM} holds {scene.bridge.name}" if client is not None and client.profile else None

    def form(self, scene: Scene) -> Form:
        """The profiles, of which nobody but root may read what they have, and a .link. Raises Refused."""
        texts = {path: scene.read(path) for path in _live_paths(scene.bridge.name)}
        bridge = read_keyfile(next(iter(texts.values())) or "")
        if None in texts.values() or NIC_PROFILE not in bridge.get("user", {}):
            hint = f"tapbridge down {scene.bridge.name}, then tapbridge up --save"
            raise unsavable(self.name, scene.bridge.name, "it does not hold the bridge by a profile of ours", hint)
        if tells_vlans_apart(scene.bridge):
            hint = f"ip link set {scene.bridge.name} type bridge vlan_filtering 0"
            raise unsavable(self.name, scene.bridge.name, "its profile of the bridge knows no VLANs", hint)
        self._require_first(scene)
        files = [File(path=saved_path(path), content=text, mode=0o600) for path, text in texts.items()]
        told: tuple[Finding, ...] = ()
        live = drop_in_path(scene.bridge.name)
        if (text := scene.read(live)) is not None:
            files.append(File(path=saved_path(live), content=text))
            told = (_other_author(scene),)
        return Form(files=(*files, mark_file(scene)), outlook=_outlook(bridge), findings=told)

    def check(self, scene: Scene, form: Form) -> tuple[Finding, ...]:
        """`nmcli --offline` reads the profiles as they were meant. Raises Refused."""
        for file in form.files:
            if not file.path.startswith(SAVED):
                continue
            meant = read_keyfile(file.content or "")
            try:
                words = ("nmcli", "--offline", "connection", "modify", "connection.autoconnect", "yes")
                found = read_keyfile(scene.ask(*words, text=file.content or ""))
            except HostError as error:
                if error.errno == errno.ENOENT:
                    return (unchecked(self.name, scene.bridge.name, "nmcli is not installed here"),)
                raise not_understood(self.name, scene.bridge.name, error.message) from None
            if _substance(found) != _substance(meant):
                raise not_understood(self.name, scene.bridge.name, f"nmcli reads another profile in {file.path}")
        return ()

    def take_back(self, scene: Scene, permanent: Permanent) -> tuple[WriteFile, ...]:
        """The files below /run again, where a boot has made the bridge: the UUIDs of the profiles are the same."""
        files = {written.after.path: written.after for written in permanent.files}
        return tuple(
            WriteFile(path=path, content=files[saved_path(path)].content, mode=files[saved_path(path)].mode)
            for path in (*_live_paths(permanent.bridge), drop_in_path(permanent.bridge))
            if scene.read(path) is None and saved_path(path) in files
        )

    def forget(self, read: Read, permanent: Permanent) -> tuple[WriteFile, ...]:
        """Nothing: it looks at what is there."""
        return ()

    def held_back_by(self, permanent: Permanent) -> tuple[str, ...]:
        """The tombstones of the profiles."""
        profiles = [read_keyfile(written.after.content or "").get("connection", {}) for written in permanent.files]
        return tuple(tombstone_path(profile["uuid"]) for profile in profiles if "uuid" in profile)

    def _require_first(self, scene: Scene) -> None:
        """No other profile may have the highest priority as well. Raises Refused."""
        for name in scene.find_names(SAVED):
            path = f"{SAVED}/{name}"
            connection = read_keyfile(scene.read(path) or "").get("connection", {})
            if (
                connection.get("autoconnect-priority") == PRIORITY
                and connection.get("interface-name", scene.port.name) in (scene.port.name, scene.bridge.name)
                and path not in map(saved_path, _live_paths(scene.bridge.name))
            ):
                why = f"{path} has the highest priority for autoconnecting as well"
                raise unsavable(self.name, scene.bridge.name, why, "give it a lower one: nmcli connection modify")


NETWORKMANAGER_KEEPER: Final = NetworkManagerKeeper()


def _live_paths(bridge: str) -> tuple[str, str]:
    return profile_path(bridge), profile_path(bridge, "-port")


def _other_author(scene: Scene) -> Finding:
    bridge, nic = scene.bridge.name, scene.port.name
    return Finding(
        code="other-author",
        severity=Severity.INFO,
        subject=bridge,
        message=f"netplan describes {nic}: what it is told of {nic} later does not reach the bridge",
        fix=f"then: tapbridge unsave {bridge}, tapbridge down {bridge}, and tapbridge up --save",
    )


def _substance(profile: Keyfile) -> tuple[object, ...]:
    """What must be the same, however it is written."""
    connection = profile.get("connection", {})
    methods = [profile.get(family, {}).get("method") for family in ("ipv4", "ipv6")]
    numbers = [len(list(_addresses(profile, family))) for family in ("ipv4", "ipv6")]
    return *(connection.get(key) for key in _SAME), *methods, *numbers


def _addresses(profile: Keyfile, family: str) -> Iterator[str]:
    """The addresses of a profile; a gateway may stand behind each."""
    keys = profile.get(family, {})
    yield from (value for key, value in keys.items() if key.startswith("address") and key[7:].isdigit())


def _outlook(profile: Keyfile) -> Outlook:
    """What a profile makes of its link."""
    addresses: set[str] = set()
    gateways: set[str] = set()
    asked: set[Family] = set()
    families: tuple[tuple[str, Family], ...] = (("ipv4", 4), ("ipv6", 6))
    for name, family in families:
        keys = profile.get(name, {})
        if keys.get("method") in _AUTOMATIC:
            asked.add(family)
        for value in _addresses(profile, name):
            address, _, gateway = value.partition(",")
            addresses.add(canonical(address))
            gateways |= {canonical(gateway)} - {""}
        gateways |= {canonical(keys["gateway"])} if "gateway" in keys else set()
    return Outlook(addresses=frozenset(addresses), gateways=frozenset(gateways), asked=frozenset(asked))
