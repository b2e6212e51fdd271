"""The table of owners, and the two questions that are asked of it: who holds a link, and what moving it takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tapbridge.core.adopt import HandOver
from tapbridge.model.errors import Refused
from tapbridge.model.noun import replace
from tapbridge.model.state import State
from tapbridge.model.step import Step
from tapbridge.model.values import IfName
from tapbridge.owners import networkd, networkmanager, unit_files
from tapbridge.owners.boot_ip import tell_boot_address
from tapbridge.owners.dhclient import DHCLIENT
from tapbridge.owners.dhcpcd import DHCPCD
from tapbridge.owners.ifupdown import find_stale
from tapbridge.owners.netplan import NETPLAN
from tapbridge.owners.netplan_files import let_back
from tapbridge.owners.networkd import NETWORKD, forget
from tapbridge.owners.networkmanager import NETWORKMANAGER
from tapbridge.owners.owner import Ask, Kind, Move, Owner, Read, is_bridge, left_alone, nobody
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
    """Who holds a link; None for one that nobody looks after (static, or configured once by ifupdown or at boot)."""
    return next((owner for kind in KINDS if (owner := kind.find(state, link)) is not None), None)


def hand_over(
    owner: Owner | None,
    state: State,
    source: IfName,
    target: IfName,
    *,
    port: IfName | None = None,
    bridge: IfName | None = None,
    read: Read,
    ask: Ask = nobody,
    force: bool = False,
    of_boot: bool = True,
) -> HandOver:
    """What must be done before and after a link's addresses and routes move from `source` to `target`.

    The links are named as they will be called after the move, as seen by the owner: up, NIC and bridge; down, bridge
    and NIC; where the target takes over the name of the source, that name twice. `port` is then what the NIC is called
    as a port, and `bridge` what the bridge is called as long as the NIC has that name. `read` gives the text of a file,
    None where there is none, `ask` what a program says; `of_boot` is whether this is the network that a boot makes of
    these files. Raises Refused for an owner that cannot be handed over; with `force`, and on the way back, from which
    nobody is kept, it is left as it is, and a finding says what that means.
    """
    names = source, target
    nic, made = reversed(names) if is_bridge(state, source) else names
    move = Move(
        state=state,
        source=source,
        target=target,
        port=port or nic,
        bridge=bridge or made,
        read=read,
        ask=ask,
        force=force,
    )
    stale = tuple(find_stale(move)) + (tuple(tell_boot_address(move)) if owner is None else ())
    found = HandOver()
    if owner is not None:
        try:
            found = owner.kind.hand_over(owner, move)
        except Refused:
            if not force and not move.back:
                raise
            found = left_alone(owner, move)
    later = tuple(step for step in _later(owner, move) if step not in found.after) if of_boot else ()
    return replace(found, after=found.after + later, risks=found.risks + stale)


def _later(owner: Owner | None, move: Move) -> Iterator[Step]:
    """Our files go with the bridge, also where nobody holds it; and one that is saved nobody makes before the boot."""
    if owner is None:
        yield from forget(move)
    yield from let_back(move)
    for kind in (networkd, networkmanager, unit_files) if move.back else ():
        yield from kind.hold_back(move)
