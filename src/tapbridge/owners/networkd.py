"""systemd-networkd: a .network file of ours for the bridge takes the place of the NIC's, with the same DHCP identity.

Theory of operation. Whatever it finds on a link that it begins to configure, and did not put there, it takes away; what
comes later it leaves alone. So it gets the bridge in hand while that is bare, and is stopped (SIGSTOP) before the
bridge has carrier: it must not see the move half done, or it may lose the default route for good. Woken up, it asks for
a lease on the bridge, is known by the client identifier of the NIC, and puts the same address and routes there again,
as its own. Only then a second file takes the NIC from it, and its lease there is forgotten, not released.

The way back is the other way round, but for one thing: the NIC cannot be bare, since the host lives by it. So what the
host has waits where networkd touches nothing (`anew`, see core/transfer.py) until it has brought its own.

Where the bridge takes the name of the NIC, the two are renamed while it is stopped. The file for the bridge has both
names and fits nothing but a bridge, so that it holds before and after. Version 257 looks for another file as soon as it
hears of another name, and then leaves a NIC whose file names it; 252 does not.

The files are below /run, so the next boot is as before: nothing of the user's is written. See systemd.network(5).

A bridge that is saved has files below /etc, and none below /run can take their place. But each can have a drop-in
there. So, once the bridge is taken down, a condition that is never true holds them back until the next boot.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from tapbridge.core.adopt import HandOver
from tapbridge.core.restore_owner import brought_back
from tapbridge.model.noun import dataclass, replace
from tapbridge.model.state import Client, LeaseFile, State, Sysctl
from tapbridge.model.step import (
    AwaitClient,
    PauseClient,
    ReloadClient,
    ResumeClient,
    SetSysctl,
    Step,
    WriteFile,
)
from tapbridge.model.values import IfName
from tapbridge.owners.networkd_files import bridge_file, find_obstacle, original_of, port_file, unmanaged_file
from tapbridge.owners.owner import Move, Owner, clients_of, find_among, left_alone, refusal

_PROGRAM: Final = "systemd-networkd"
_FOLDER: Final = "/run/systemd/network"
_NETIF: Final = "/run/systemd/netif"
_OURS: Final = "00-0-tapbridge-"
"""Before any other file that could match the same link: of all that match, the first by its name counts."""

SAVED: Final = "/etc/systemd/network/00-1-tapbridge-"
"""What the files of a saved bridge begin with."""

_HELD_BACK: Final = "# Written by tapbridge: not before the next boot.\n[Match]\nHost=!*\n"

_NAME: Final = re.compile(r"[A-Za-z0-9_.-]+")
_BY_HAND: Final = "let dhclient or a static configuration hold {link} first"


@dataclass(frozen=True, slots=True)
class Networkd:
    """The one process that configures every link that it has a file for."""

    name: str = _PROGRAM

    def find(self, state: State, link: IfName) -> Owner | None:
        """The owner, by its state file under /run/systemd/netif/links, which says that the link is managed."""
        clients = clients_of(state, link, _PROGRAM)
        return find_among(clients, link, self, self.name, "manages")

    def hand_over(self, owner: Owner, move: Move) -> HandOver:
        """Up: the bridge in hand, stop, move, go on, the NIC out of hand. Down: stop, move, go on. Raises Refused."""
        return _give_back(owner, move) if move.back else _take(owner, move)


NETWORKD: Final = Networkd()


def _take(owner: Owner, move: Move) -> HandOver:
    client = owner.clients[0]
    texts = _texts(owner, client, move)
    obstacle = find_obstacle(texts, move.source)
    if obstacle is not None:
        raise refusal(owner, obstacle, _BY_HAND.format(link=move.source))
    original = client.files[0].path
    names = dict.fromkeys((move.target, move.bridge))
    bridge = WriteFile(
        path=our_path(move.target), content=bridge_file(texts, move.source, tuple(names), _identity(move))
    )
    port = WriteFile(path=our_path(move.port), content=port_file(move.port, move.target, original))
    bare = replace(client, link=move.bridge, files=(LeaseFile(path=bridge.path, sha256=""),))
    on_bridge, on_port = replace(bare, link=move.target), replace(client, link=move.port)
    leased = brought_back(move.state, client).leased
    takes: tuple[Step, ...] = (ResumeClient(client=client), AwaitClient(client=on_bridge, leased=leased))
    leaves: tuple[Step, ...] = (ReloadClient(client=client), AwaitClient(client=on_port, left=True))
    if move.renames:  # hearing of that it may leave the NIC at once
        exchange = _unheard(move, *takes, AwaitClient(client=bare, left=True), port, *leaves)
    else:
        exchange = (*takes, port, *_unheard(move, *leaves))
    return HandOver(
        early=(bridge, ReloadClient(client=client), AwaitClient(client=bare), PauseClient(client=client)),
        after=(*exchange, *_gone(move, held_back_by(move.target, move.source))),
    )


def forget(move: Move) -> tuple[Step, ...]:
    """Our files go with the bridge, also where it does not run any more that read them."""
    return _gone(move, [our_path(link) for link in (move.source, move.port)]) if move.back else ()


def held_back_by(bridge: str, nic: str) -> tuple[str, ...]:
    """The drop-ins by which the files of a saved bridge are held back."""
    names = f"{bridge}.netdev", f"{bridge}.network", f"{nic}.network"
    return tuple(f"{_FOLDER}/{SAVED.rpartition('/')[2]}{name}.d/held-back.conf" for name in names)


def hold_back(move: Move) -> tuple[Step, ...]:
    """Networkd makes none of a saved bridge that is taken down, whenever it reads its files before the next boot."""
    if move.read(f"{SAVED}{move.source}.netdev") is None:
        return ()
    return tuple(WriteFile(path=path, content=_HELD_BACK) for path in held_back_by(move.source, move.target))


def _gone(move: Move, paths: Iterable[str]) -> tuple[Step, ...]:
    return tuple(WriteFile(path=path, content=None) for path in paths if move.read(path) is not None)


def _give_back(owner: Owner, move: Move) -> HandOver:
    client = owner.clients[0]
    ours, saved = our_path(move.source), f"{SAVED}{move.source}.network"
    if not {ours, saved} & {file.path for file in client.files[:1]}:
        return replace(left_alone(owner, move), after=forget(move))
    port = our_path(move.port)
    original = original_of(move.read(port) or move.read(f"{SAVED}{move.target}.network") or "")
    bridge = WriteFile(path=ours, content=None)
    left = replace(bridge, content=unmanaged_file(move.bridge))  # the NIC's own file may match the bridge by its MAC
    files = (left, *_gone(move, [port]), *hold_back(move))
    on_left = replace(client, link=move.bridge)
    exchange = (*files, ReloadClient(client=client), AwaitClient(client=on_left, left=True))
    if original is None or move.read(original) is None:
        return HandOver(after=(*exchange, bridge))  # nobody but us looks after the NIC any more
    back = brought_back(move.state, client)
    on_nic = replace(client, link=move.target, files=(LeaseFile(path=original, sha256=""),))
    brought = replace(
        back,
        client=on_nic,
        addresses=tuple(
            replace(a, link=move.target, label=move.target if a.label == move.source else a.label)
            for a in back.addresses
        ),
        routes=tuple(
            replace(r, nexthops=tuple(replace(hop, link=move.target) for hop in r.nexthops), nexthop_object=0)
            for r in back.routes
        ),
    )
    return HandOver(
        before=(PauseClient(client=client),),
        after=(ResumeClient(client=client), *exchange, brought, bridge),
        anew=True,
    )


def _unheard(move: Move, *steps: Step) -> tuple[Step, ...]:
    """The steps while the NIC can send no IPv6: since version 255 a DHCPv6 client that ends releases its lease, by
    multicast. One by IPv4 waits for an answer to ARP, which arrives on the bridge: it is never sent."""
    switch = Sysctl(link=move.source, stack="ipv6", name="disable_ipv6", value=0)
    if switch not in move.state.sysctls:
        return steps
    switch = replace(switch, link=move.port)
    return (SetSysctl(sysctl=replace(switch, value=1)), *steps, SetSysctl(sysctl=switch))


def _texts(owner: Owner, client: Client, move: Move) -> tuple[str, ...]:
    """The file by which the NIC is configured, and its drop-ins, in the order in which they count. Raises Refused."""
    hint = _BY_HAND.format(link=move.source)
    if client.link is None or not client.files or not client.files[0].path.endswith(".network"):
        raise refusal(owner, "it does not say by which file", hint)
    if clients_of(move.state, move.bridge, _PROGRAM):
        raise refusal(owner, f"it configures {move.bridge} already", "name another bridge with --bridge")
    names = [name for name in (move.source, move.bridge, move.port) if not _NAME.fullmatch(name)]
    if names:
        raise refusal(owner, f"its files cannot name a link called {names[0]}", hint)
    path = client.files[0].path
    if path.startswith("/proc/"):
        raise refusal(owner, "its files are in a file system of its own", hint)
    if path.rpartition("/")[2] <= f"{_OURS}{max(move.target, move.port)}.network":
        raise refusal(owner, f"{path} would count before a file of ours", "give the file a name with a higher number")
    texts = []
    for one in (file.path for file in client.files):
        text = move.read(one)
        if text is None:
            raise refusal(owner, f"{one} is not there any more", "let it read its files anew: networkctl reload")
        texts.append(text)
    return tuple(texts)


def _identity(move: Move) -> int | None:
    """The IAID of the NIC's lease, which networkd makes of the link's name or MAC unless it is told: the four bytes
    behind `ff` in the client identifier (RFC 4361). None where that is another kind, or there is no lease."""
    link = move.state.link(move.source)
    lease = _words(move.read(f"{_NETIF}/leases/{link.index if link else 0}") or "")
    identifier = re.fullmatch(r"ff([0-9a-f]{8})[0-9a-f]{4,}", lease.get("CLIENTID", ""))
    return int(identifier.group(1), 16) if identifier else None


def _words(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def our_path(link: IfName) -> str:
    """Our file for a link, until the next boot."""
    return f"{_FOLDER}/{_OURS}{link}.network"
