"""dhcpcd: one process for a link, or one (without a link in its title) for all of them.

Left running on a port it puts the address back there as soon as that is taken away. Its hand-over needs its
configuration file, and is not built yet.
"""

from __future__ import annotations

from typing import Final

from tapbridge.owners.owner import Unbuilt

DHCPCD: Final = Unbuilt(
    name="dhcpcd",
    programs=("dhcpcd",),
    does="holds the lease of",
    hint="let dhclient or a static configuration hold {link} first",
)
