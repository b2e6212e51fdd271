"""What the guests' addresses of this host are made from, and where it is kept.

The permanent address of the NIC that carried the first guest is written down, so that a new card does not change
every guest's address. It is written for the machine's own network, and for each one that has a name in /run/netns;
a nameless namespace is gone at the next boot, and so is what it was seeded with.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from tapbridge.core.macs import Seed
from tapbridge.core.topology import find_uplink
from tapbridge.model.errors import HostError
from tapbridge.model.state import State
from tapbridge.model.step import WriteFile
from tapbridge.model.values import Mac, parse_mac

FILE: Final = "mac-seed"
_BYTES: Final = 1 << 16
_NAMES: Final = 4096  # looked at in /run/netns at most
_MACHINE_IDS: Final = ("etc/machine-id", "var/lib/dbus/machine-id")


def find_machine_id(root: Path) -> str:
    """The machine-id of a host; "" where it has none."""
    for path in _MACHINE_IDS:
        found = _find_text(root / path)
        if found and found.strip() not in ("", "uninitialized"):
            return found.strip()
    return ""


def find_netns_name() -> str | None:
    """Which network this process is in: "" for the machine's own, the name in /run/netns, None for a nameless one.

    None as well for a user who may not look at process 1.
    """
    here = os.stat("/proc/self/ns/net")
    if _is_same(here, "/proc/1/ns/net"):
        return ""
    try:
        names = sorted(os.listdir("/run/netns"))[:_NAMES]
    except OSError:
        return None
    return next((name for name in names if _is_same(here, f"/run/netns/{name}")), None)


def load_seed(text: str | None, netns: str | None) -> Mac | None:
    """The address that was written down for a network. Raises HostError if the file is not what we write."""
    if text is None or netns is None:
        return None
    found = _uplinks(text).get(netns)
    return None if found is None else parse_mac(found)


def dump_seed(text: str | None, netns: str, mac: Mac) -> str:
    """The file with the address of one more network in it."""
    import json

    uplinks = {} if text is None else _uplinks(text)
    return json.dumps({"schema": 1, "uplinks": uplinks | {netns: mac}}, indent=1, sort_keys=True) + "\n"


def choose_uplink(state: State, bridge: str | None) -> Mac | None:
    """The permanent address that seeds: of the bridge's uplink, else of the first NIC that has one."""
    uplink = None if bridge is None else find_uplink(state, bridge)
    if uplink is not None and (uplink.permanent_mac or uplink.mac):
        return uplink.permanent_mac or uplink.mac
    nics = sorted(link.permanent_mac for link in state.links if link.kind == "" and link.permanent_mac)
    return nics[0] if nics else None


def read_seed(root: Path, folder: Path, state: State, bridge: str | None) -> tuple[Seed, WriteFile | None]:
    """The seed of this host, and the step that writes it down if that is still to be done. Raises HostError."""
    path = folder / FILE
    netns = find_netns_name()
    text = _find_text(path)
    kept = load_seed(text, netns)
    uplink = kept or choose_uplink(state, bridge)
    seed = Seed(machine_id=find_machine_id(root), uplink=uplink)
    if kept is not None or netns is None or uplink is None:
        return seed, None
    return seed, WriteFile(path=str(path), content=dump_seed(text, netns, uplink), mode=0o600)


def _uplinks(text: str) -> dict[str, Any]:
    import json

    try:
        uplinks = json.loads(text)["uplinks"]
        for mac in uplinks.values():
            parse_mac(mac)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise HostError(
            f"the file {FILE}, from which guests get their addresses, is damaged",
            hint=f"remove var/lib/tapbridge/{FILE}: guests without a --mac then get new addresses",
        ) from None
    return dict(uplinks)


def _find_text(path: Path) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_BYTES)
    except OSError:
        return None


def _is_same(here: os.stat_result, path: str) -> bool:
    try:
        return os.path.samestat(here, os.stat(path))
    except OSError:
        return False
