"""The table of owners, and the two questions that are asked of it: who holds a link, and what moving it takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from tapbridge.core.adopt import HandOver
from tapbridge.model.errors import Refused
from tapbridge.model.state import State
from tapbridge.model.step import Step
from tapbridge.model.values import IfName
from tapbridge.owners import networkd, networkmanager, unit_files
from tapbridge.owners.dhclient import DHCLIENT
from tapbridge.owners.dhcpcd import DHCPCD
from tapbridge.owners.ifupdown import find_stale
from tapbridge.owners.netplan import NETPLAN
from tapbridge.owners.networkd import NETWORKD, forget
from tapbridge.owners.networkmanager import NETWORKMANAGER
from tapbridge.owners.owner import Ask, Kind, Move, Owner, Read, left_alone, nobody
from tapbridge.owners.strangers import CONNMAN, NETIFD, WICKED
from tapbridge.owners.udhcpc import UDHCPC

KINDS: Final[tuple[Kind, ...]] = (
    NETPLAN,
    NETWORKMANAGER,
    NETWORKD,
    CONNMAN,
    WICKED,
    NETIFD,
    DHCPCD,
    UDHCPC,
    DHCLIENT,
)
"""Managers before clients, and who writes a manager's files before the manager: the first that is found is named."""


def find_owner(state: State, link: IfName) -> Owner | None:
    """Who holds a link; None for one that nobody looks after (static, or configured once by ifupdown)."""
    return next((owner for kind in KINDS if (owner := kind.find(state, link)) is not None), None)


def hand_over(
    owner: Owner | None,
    state: State,
    source: IfName,
    target: IfName,
    *,
    read: Read,
    ask: Ask = nobody,
    force: bool = False,
) -> HandOver:
    """What must be done before and after a link's addresses and routes move from `source` to `target`.

    The links are named as they will be called after the move, as seen by the owner: up, NIC and bridge; down, bridge
    and NIC; where the target takes over the name of the source, that name twice. `read` gives the text of a file, None
    where there is none, `ask` what a program says. Raises Refused for an owner that cannot be handed over; with
    `force`, and on the way back, from which nobody is kept, it is left as it is, and a finding says what that means.
    """
    move = Move(state=state, source=source, target=target, read=read, ask=ask, force=force)
    stale = tuple(find_stale(move))
    try:
        found = owner.kind.hand_over(owner, move) if owner is not None else HandOver(after=forget(move))
    except Refused:
        if owner is None or (not force and not move.back):
            raise
        found = left_alone(owner, move)
    later = tuple(step for step in _hold_back(move) if step not in found.after) if move.back else ()
    return replace(found, after=found.after + later, risks=found.risks + stale)


def _hold_back(move: Move) -> Iterator[Step]:
    """A saved bridge that is taken down is made again by the next boot, and not before."""
    for kind in (networkd, networkmanager, unit_files):
        yield from kind.hold_back(move)
