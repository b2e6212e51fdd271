"""udhcpc, of busybox: it has no lease file, and its script deconfigures the link when it starts. Not built yet."""

from __future__ import annotations

from typing import Final

from tapbridge.owners.owner import Unbuilt

UDHCPC: Final = Unbuilt(
    name="udhcpc",
    programs=("udhcpc",),
    does="holds the lease of",
    hint="let dhclient or a static configuration hold {link} first",
)
