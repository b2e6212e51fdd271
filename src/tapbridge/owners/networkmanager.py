"""NetworkManager: it holds the links whose state file under /run/NetworkManager/devices says `managed=true`.

A dhclient that it has started (its script is nm-dhcp-helper) is its own and not somebody else's client. The hand-over
needs keyfiles, the lease and a restart, and is not built yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tapbridge.core.dhclient import read_invocation
from tapbridge.model.state import Client, State
from tapbridge.model.values import IfName
from tapbridge.owners.owner import Owner, Unbuilt, clients_of, tell


@dataclass(frozen=True, slots=True)
class _Kind(Unbuilt):
    """NetworkManager itself, or a dhclient that works for it."""

    def find(self, state: State, link: IfName) -> Owner | None:
        """The owner, by its own state file or by its helper."""
        clients = clients_of(state, link, *self.programs)
        clients += tuple(c for c in clients_of(state, link, "dhclient") if works_for_networkmanager(c))
        if not clients:
            return None
        return Owner(name=self.name, link=link, clients=clients, proof=tell(clients, link, self.does), kind=self)


def works_for_networkmanager(client: Client) -> bool:
    """Whether a dhclient reports to NetworkManager."""
    script = read_invocation(client.argv, client.environment).script_path
    return script is not None and "nm-dhcp" in script


NETWORKMANAGER: Final = _Kind(
    name="NetworkManager",
    programs=("NetworkManager",),
    does="manages",
    hint="if the address of {link} is static: nmcli device set {link} managed no, then run the command again",
)
