"""netplan: no process of its own. It writes the files of systemd-networkd or NetworkManager, and is known by them.

So the hand-over is that of the manager. netplan writes its files anew at every `netplan apply` and at every boot, and
those alone whose name is its own; ours stand beside them, below /run, and count before them until the next boot.

That holds for systemd-networkd. NetworkManager is stopped by `netplan apply`, the addresses of its links are flushed,
and at its start it takes the NIC out of the bridge while the bridge keeps the routes: the host would be dark.
"""

from __future__ import annotations

from typing import Final

from tapbridge.core.adopt import HandOver
from tapbridge.model.noun import dataclass
from tapbridge.model.state import State
from tapbridge.model.values import IfName
from tapbridge.owners.networkd import NETWORKD
from tapbridge.owners.owner import Move, Owner, clients_of, find_among, refusal

_MARK: Final = "netplan-"  # /run/systemd/network/10-netplan-eth0.network, …/netplan-eth0.nmconnection
_RENDERERS: Final = (NETWORKD.name, "NetworkManager")


@dataclass(frozen=True, slots=True)
class Netplan:
    """A manager whose file for the link was written by netplan."""

    name: str = "netplan"

    def find(self, state: State, link: IfName) -> Owner | None:
        """The owner: the manager that holds the link by one of netplan's files."""
        clients = tuple(
            client
            for client in clients_of(state, link, *_RENDERERS)
            if any(_MARK in file.path.rpartition("/")[2] for file in client.files)
        )
        name = f"{self.name} ({clients[0].program})" if clients else self.name
        return find_among(clients, link, self, name, "manages")

    def hand_over(self, owner: Owner, move: Move) -> HandOver:
        """What the manager needs done. Raises Refused."""
        if owner.clients[0].program == NETWORKD.name:
            if move.renames and not move.back and _sets_name(owner, move):
                why = "the next `netplan apply` would set the NIC down to give it its name back (set-name)"
                raise refusal(owner, why, "go without --take-name")
            return NETWORKD.hand_over(owner, move)
        why = "the next `netplan apply` would take it out of the bridge and leave the host cut off"
        raise refusal(
            owner, why, f"let NetworkManager hold it by a profile of its own: nmcli connection add ifname {move.source}"
        )


NETPLAN: Final = Netplan()


def _sets_name(owner: Owner, move: Move) -> bool:
    """Whether it has a file by which udev gives the link its name."""
    paths = [file.path for client in owner.clients for file in client.files[:1]]
    return any(move.read(path.removesuffix(".network") + ".link") is not None for path in paths)
