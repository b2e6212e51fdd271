"""A drop-in for NetworkManager's unit, by which a bridge outlives `netplan apply`.

That disconnects every link that a keyfile of netplan's names, and the NIC is one: NetworkManager takes it out of the
bridge. It stops NetworkManager, flushes the addresses of those links, of which the NIC has none any more, deletes the
files by which NetworkManager knows its links, and starts it again. Before that it has systemd read its units, and so
the drop-in is in force: where the NIC's file is missing it is written anew, and the bridge's, and the NIC becomes a
port again. NetworkManager takes both as they are. On every way back the NIC's file is there.

To tell netplan itself by a YAML of ours that the NIC is none of its own costs nothing at all, but `netplan set` writes
a definition into the last file that says something of it, and deletes the user's.
"""

from __future__ import annotations

from typing import Final

from tapbridge.core.mark import make_mark
from tapbridge.model.state import Link
from tapbridge.model.step import StartUnit, WriteFile
from tapbridge.owners.networkmanager_files import link_state
from tapbridge.owners.owner import Move

STATES: Final = "/run/NetworkManager/devices"

_DROP_IN: Final = """\
# Written by tapbridge: netplan apply takes {nic} out of {bridge}, and from NetworkManager what it knows of both.
[Service]
ExecStartPre=-/bin/sh -c 'grep -qwF "{mark}" /sys/class/net/{bridge}/ifalias \
&& read n </sys/class/net/{nic}/ifindex && [ ! -e {states}/$$n ] && mkdir -p {states} && cd {states}{texts} \
&& {{ [ -e /sys/class/net/{nic}/master ] || ip link set {nic} up master {bridge}; }}'
"""
_TEXT: Final = """ && read n </sys/class/net/{link}/ifindex && printf "{text}" >$$n"""


def drop_in(start: StartUnit, bridge: str, nic: Link) -> WriteFile:
    """The drop-in, for a start of NetworkManager's unit with both links."""
    texts = ""
    for client in start.clients:
        state = link_state(client.profile, made=client.link == bridge)
        texts += _TEXT.format(link=client.link, text=state.replace("\n", r"\\n"))
    text = _DROP_IN.format(mark=make_mark(nic), bridge=bridge, nic=nic.name, states=STATES, texts=texts)
    return WriteFile(path=drop_in_path(bridge), content=text)


def let_back(move: Move) -> tuple[WriteFile, ...]:
    """The drop-in goes with the bridge. Should systemd know it still, no bridge has the mark."""
    path = drop_in_path(move.source)
    return (WriteFile(path=path, content=None),) if move.back and move.read(path) is not None else ()


def drop_in_path(bridge: str) -> str:
    """The drop-in, until the next boot, for the unit that netplan starts."""
    return f"/run/systemd/system/NetworkManager.service.d/tapbridge-{bridge}.conf"
