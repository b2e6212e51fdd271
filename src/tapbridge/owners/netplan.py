"""netplan: no process of its own. It writes the files of systemd-networkd or NetworkManager, and is known by them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tapbridge.model.state import State
from tapbridge.model.values import IfName
from tapbridge.owners.owner import Owner, Unbuilt, clients_of, find_among

_MARK: Final = "netplan-"  # /run/systemd/network/10-netplan-eth0.network, …/netplan-eth0.nmconnection


@dataclass(frozen=True, slots=True)
class Netplan(Unbuilt):
    """A manager whose file for the link was written by netplan."""

    def find(self, state: State, link: IfName) -> Owner | None:
        """The owner: the manager that holds the link by one of netplan's files."""
        clients = tuple(
            client
            for client in clients_of(state, link, *self.programs)
            if any(_MARK in file.path.rpartition("/")[2] for file in client.files)
        )
        name = f"{self.name} ({clients[0].program})" if clients else self.name
        return find_among(clients, link, self, name, self.does)


NETPLAN: Final = Netplan(
    name="netplan",
    programs=("systemd-networkd", "NetworkManager"),
    does="manages",
    hint="name a NIC that is not in netplan's YAML files",
)
