"""netplan: no process of its own. It writes the files of systemd-networkd or NetworkManager, and is known by them.

So the hand-over is that of the manager. netplan writes its files anew at every `netplan apply` and at every boot, and
those alone whose name is its own; ours stand beside them, below /run, and count before them until the next boot.

That holds for systemd-networkd. With NetworkManager `netplan apply` disconnects the NIC, which takes it out of the
bridge while the bridge keeps the routes: the host would be dark. What puts it back is in netplan_files.py.
"""

from __future__ import annotations

import re
from typing import Final

from tapbridge.core.adopt import HandOver
from tapbridge.model.noun import dataclass, replace
from tapbridge.model.state import State
from tapbridge.model.step import StartUnit
from tapbridge.model.values import IfName
from tapbridge.owners.netplan_files import drop_in
from tapbridge.owners.networkd import NETWORKD
from tapbridge.owners.networkmanager import NETWORKMANAGER
from tapbridge.owners.owner import Move, Owner, clients_of, find_among, refusal

_MARK: Final = "netplan-"  # /run/systemd/network/10-netplan-eth0.network, …/netplan-eth0.nmconnection
_RENDERERS: Final = (NETWORKD.name, NETWORKMANAGER.name)
_PLAIN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


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
        handed = NETWORKMANAGER.hand_over(owner, move)
        if move.back:  # of a bridge that netplan has made
            return handed
        if move.renames:
            why = "the next `netplan apply` would disconnect the bridge, which has the NIC's name"
            raise refusal(owner, why, "go without --take-name")
        if not (_PLAIN.fullmatch(move.source) and _PLAIN.fullmatch(move.target)):
            hint = "give it a name out of letters, digits, '.', '_' and '-'"
            raise refusal(owner, "a link of this name cannot be written into a unit of systemd's", hint)
        *files, start = handed.after
        nic = move.state.link(move.source)
        assert isinstance(start, StartUnit), "the unit is started last"
        assert nic is not None, "it is held"
        return replace(handed, after=(*files, drop_in(start, move.target, nic), start))


NETPLAN: Final = Netplan()


def _sets_name(owner: Owner, move: Move) -> bool:
    """Whether it has a file by which udev gives the link its name."""
    paths = [file.path for client in owner.clients for file in client.files[:1]]
    return any(move.read(path.removesuffix(".network") + ".link") is not None for path in paths)
