"""A port of a bridge. A part of state.py."""

from __future__ import annotations

from tapbridge.model.noun import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """What a link has while it is a port of a bridge, by the words of bridge(8). `state` is BR_STATE_*: 0 disabled … 3
    forwarding. The STP cost is the kernel's, by the speed of the link."""

    state: int = 3
    priority: int = 32
    learning: bool = True
    flood: bool = True
    mcast_flood: bool = True
    bcast_flood: bool = True
    isolated: bool = False
    locked: bool = False
    hairpin: bool = False
    guard: bool = False
    root_block: bool = False
    fastleave: bool = False
    neigh_suppress: bool = False
    proxy_arp: bool = False
