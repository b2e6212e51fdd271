"""systemd-networkd: it holds the links whose state file under /run/systemd/netif/links says that they are managed.

Left running beside a bridge it believes its lease to be on the port. Its hand-over needs .netdev and .network files
and the lease's IAID, and is not built yet.
"""

from __future__ import annotations

from typing import Final

from tapbridge.owners.owner import Unbuilt

NETWORKD: Final = Unbuilt(
    name="systemd-networkd",
    programs=("systemd-networkd",),
    does="manages",
    hint="name a NIC that it does not manage, or let dhclient or a static configuration hold {link} first",
)
