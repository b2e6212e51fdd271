"""Which links a manager of links says that it manages, in its files below /run, and by which configuration."""

from __future__ import annotations

import os
from typing import Final, NamedTuple

from tapbridge.linux import processes

_NETWORKD_LINKS: Final = "/run/systemd/netif/links"
_NETWORKMANAGER_LINKS: Final = "/run/NetworkManager/devices"
_NETWORKMANAGER_PROFILES: Final = ("/run/NetworkManager", "/etc/NetworkManager", "/usr/lib/NetworkManager")
_MOST_PROFILES: Final = 1024  # looked at in a folder
_OF_NAMES: Final = "b425e9fb-7598-44b4-9e3b-5a2e3aaa4905"  # NetworkManager's nm_uuid_ns_1


class Held(NamedTuple):
    """How a manager holds a link: by which files, and by which profile."""

    files: list[str]
    profile: str = ""


def networkd_links(pid: int) -> dict[int, Held] | None:
    """The links that systemd-networkd manages, with its .network file and the drop-ins for each, in the order in which
    they count; None if it does not say."""
    from tapbridge.linux.networkd import drop_ins

    states = _link_states(pid, _NETWORKD_LINKS)
    if states is None:
        return None
    return {
        index: Held([file, *drop_ins(pid, file)] if (file := state.get("NETWORK_FILE", "")).startswith("/") else [])
        for index, state in states.items()
        if state.get("ADMIN_STATE", "unmanaged") not in ("unmanaged", "linger")
    }


def networkmanager_links(pid: int) -> dict[int, Held] | None:
    """The links that NetworkManager manages, with the profile of each and its file; None if it does not say."""
    states = _link_states(pid, _NETWORKMANAGER_LINKS)
    if states is None:
        return None
    held = {i: state.get("connection-uuid", "") for i, state in states.items() if state.get("managed") == "true"}
    return {index: Held(_profile_files(pid, uuid), uuid) for index, uuid in held.items()}


def _profile_files(pid: int, uuid: str) -> list[str]:
    """The keyfiles of a profile of NetworkManager's, the one that counts first."""
    found = []
    for place in _NETWORKMANAGER_PROFILES if uuid else ():
        folder = f"{place}/system-connections"
        try:
            names = os.listdir(f"/proc/{pid}/root{folder}")
        except OSError:
            continue
        kept = [name for name in sorted(names)[:_MOST_PROFILES] if not name.startswith(".")]
        found += [f"{folder}/{name}" for name in kept if _has_uuid(f"/proc/{pid}/root{folder}", name, uuid)]
    return found


def _has_uuid(folder: str, name: str, uuid: str) -> bool:
    """Whether a keyfile is that of a profile. One without a UUID, as netplan's, gets it of its name below /etc."""
    lines = processes.read_bytes(f"{folder}/{name}", 65536).split(b"\n")
    if any(line.startswith(b"uuid=") for line in lines) or not name.endswith(".nmconnection"):
        return f"uuid={uuid}".encode() in lines
    from uuid import UUID, uuid3

    path = f"{_NETWORKMANAGER_PROFILES[1]}/system-connections/{name}"
    return uuid == str(uuid3(UUID(_OF_NAMES), f"keyfile\0{path}\0"))


def _link_states(pid: int, folder: str) -> dict[int, dict[str, str]] | None:
    """The files of a folder that are named by ifindex, each a list of KEY=VALUE; None without the folder."""
    root = f"/proc/{pid}/root{folder}"
    try:
        names = os.listdir(root)
    except OSError:
        return None
    states = {}
    for name in names:
        if name.isdecimal():
            text = processes.read_bytes(f"{root}/{name}", 65536).decode(errors="replace")
            states[int(name)] = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    return states
