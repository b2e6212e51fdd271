"""How a tap becomes a port, whoever made it."""

from __future__ import annotations

from typing import Final

from tapbridge.model.state import Link, State
from tapbridge.model.step import SetAddressGeneration, SetMaster, SetMtu, SetUp, Step
from tapbridge.model.values import IfName

MTU_USUAL: Final = 1500
"""Bytes; what every Ethernet has unless told otherwise, guests included."""

MTU_LARGEST: Final = 65521
"""Bytes; 65535 less the Ethernet header (drivers/net/tun.c)."""

PORTS: Final = 1023
"""A bridge takes no more (BR_MAX_PORTS, net/bridge/br_private.h)."""

_NO_ADDRESS: Final = 1  # IN6_ADDR_GEN_MODE_NONE


def has_ipv6(state: State) -> bool:
    """Whether the kernel speaks IPv6."""
    return any(switch.stack == "ipv6" for switch in state.sysctls)


def port_steps(tap: IfName, bridge: Link | None, *, ipv6: bool) -> tuple[Step, ...]:
    """Make a new tap, which is down, a port of the bridge, if there is one, and set it up.

    Where the kernel has IPv6, the host takes no address of its own on the guest's wire. The MTU is set before the
    bridge sees it, because a bridge takes the lowest of its ports'.
    """
    silent = (SetAddressGeneration(link=tap, mode=_NO_ADDRESS),) if ipv6 else ()
    return (*silent, *join_steps(tap, bridge), SetUp(link=tap, up=True))


def join_steps(tap: IfName, bridge: Link | None) -> tuple[Step, ...]:
    """Make a tap of the usual MTU a port of the bridge."""
    if bridge is None:
        return ()
    mtu = () if bridge.mtu == MTU_USUAL else (SetMtu(link=tap, mtu=min(bridge.mtu, MTU_LARGEST)),)
    return (*mtu, SetMaster(link=tap, master=bridge.name))
