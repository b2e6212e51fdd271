"""The flags of a bridge's port: which field of Port is which attribute of the kernel's."""

from __future__ import annotations

from typing import Final

from tapbridge.linux import uapi

PORT_FLAGS: Final = {
    "learning": uapi.IFLA_BRPORT_LEARNING,
    "flood": uapi.IFLA_BRPORT_UNICAST_FLOOD,
    "mcast_flood": uapi.IFLA_BRPORT_MCAST_FLOOD,
    "bcast_flood": uapi.IFLA_BRPORT_BCAST_FLOOD,
    "isolated": uapi.IFLA_BRPORT_ISOLATED,
    "locked": uapi.IFLA_BRPORT_LOCKED,
    "hairpin": uapi.IFLA_BRPORT_MODE,
    "guard": uapi.IFLA_BRPORT_GUARD,
    "root_block": uapi.IFLA_BRPORT_PROTECT,
    "fastleave": uapi.IFLA_BRPORT_FAST_LEAVE,
    "neigh_suppress": uapi.IFLA_BRPORT_NEIGH_SUPPRESS,
    "proxy_arp": uapi.IFLA_BRPORT_PROXYARP,
}
