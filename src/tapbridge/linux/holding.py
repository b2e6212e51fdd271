"""Who holds a link, for a reader: the answer of a moment, where a plan wants clients.observe_clients().

Names of processes, and the files below /run in which a manager says which links it manages. A DHCP client that was not
told the link's name is not found.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from tapbridge.linux import processes

_MANAGERS: Final = {
    "systemd-network": ("systemd-networkd", "/run/systemd/netif/links", b"ADMIN_STATE=config"),
    "NetworkManager": ("NetworkManager", "/run/NetworkManager/devices", b"managed=true"),
}
"""By the name of the process (15 bytes): what it is called, its folder with a file for each link, what that says."""

_CLIENTS: Final = {"dhclient": "dhclient", "dhcpcd": "dhcpcd", "udhcpc": "udhcpc", "busybox": "udhcpc"}


def find_holders(links: Collection[tuple[str, int]]) -> dict[str, str]:
    """Who holds each of these links (name and number); one that nobody holds, as far as we may know, is left out."""
    found: dict[str, str] = {}
    for pid in processes.pids():
        program = processes.command_name(pid)
        if program not in _MANAGERS and program not in _CLIENTS:
            continue
        if not processes.in_our_netns(pid) or not processes.may_configure_network(pid):
            continue
        words = {word for part in processes.argument_vector(pid) for word in part.split()}  # dhcpcd's is a title
        for name, index in links:
            if program in _MANAGERS and _manages(program, index):
                found[name] = _MANAGERS[program][0]
            elif program in _CLIENTS and name in words and (program != "busybox" or "udhcpc" in words):
                found.setdefault(name, _CLIENTS[program])
    return found


def _manages(program: str, index: int) -> bool:
    _, folder, told = _MANAGERS[program]
    return any(line.startswith(told) for line in processes.read_bytes(f"{folder}/{index}", 65536).splitlines())
