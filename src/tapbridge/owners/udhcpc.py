"""udhcpc (busybox): its process is replaced by one on the other link that asks for the same address.

Theory of operation. Killed, it releases nothing (-R needs a signal that it can catch) and calls no script. It has no
lease file: the new one asks for the address that its link has, by DISCOVER and REQUEST, and the server knows it by what
it sends, the MAC or what -x says. That its script deconfigures the link at the start is kept from it by whoever starts
it (linux/udhcpc.py), so the argument vector stays as it is but for the link's name.
"""

from __future__ import annotations

import os.path
from typing import Final

from tapbridge.core.adopt import HandOver
from tapbridge.core.udhcpc import read_invocation, with_values
from tapbridge.model.noun import dataclass, replace
from tapbridge.model.state import State
from tapbridge.model.step import StartClient, Step, StopClient, WriteFile
from tapbridge.model.values import IfName
from tapbridge.owners.owner import Move, Owner, clients_of, find_among, refusal, renamed

_BY_HAND: Final = "end the one that should not be there"


@dataclass(frozen=True, slots=True)
class Udhcpc:
    """The client of one link."""

    name: str = "udhcpc"

    def find(self, state: State, link: IfName) -> Owner | None:
        """The owner, by its process."""
        clients = clients_of(state, link, self.name)
        return find_among(clients, link, self, self.name, "holds the lease of")

    def hand_over(self, owner: Owner, move: Move) -> HandOver:
        """Stop before the move, start on the target after it. Raises Refused."""
        _require_movable(owner)
        (client,) = owner.clients
        told = read_invocation(client.argv)
        values: dict[str, str] = {}
        files: list[Step] = []
        if move.source != move.target:
            values["i"] = move.target
        if told.pid_path is not None:
            values["p"] = renamed(told.pid_path, move)
            # The new one too: it writes it by itself, and what a step has named is put back as it was.
            files += [WriteFile(path=path, content=None) for path in dict.fromkeys((told.pid_path, values["p"]))]
        new = replace(client, pid=0, link=move.target, argv=with_values(client.argv, values))
        return HandOver(before=(StopClient(client=client),), after=(*files, StartClient(client=new)))


UDHCPC: Final = Udhcpc()


def _require_movable(owner: Owner) -> None:
    if any("udhcpc6" in (os.path.basename(word) for word in client.argv[:2]) for client in owner.clients):
        raise refusal(owner, "handing over udhcpc6 is not built", "let dhclient hold the DHCPv6 lease")
    if len(owner.clients) > 1:
        raise refusal(owner, "several of them serve it", _BY_HAND)
    told = read_invocation(owner.clients[0].argv)
    for path in (told.script, told.pid_path):
        if path is not None and "/" in path and not path.startswith("/"):
            raise refusal(owner, f"{path} is a path from a folder that it may have left", "start it with whole paths")
