"""How a tap becomes a port, whoever made it."""

from __future__ import annotations

from typing import Final

from tapbridge.core.access import Access, access_steps, find_access
from tapbridge.core.effect import fold
from tapbridge.core.mark import read_tap_mark
from tapbridge.core.vlans import tells_vlans_apart
from tapbridge.model.noun import replace
from tapbridge.model.plan import Plan, Reason, Stage
from tapbridge.model.state import Link, State
from tapbridge.model.step import SetAddressGeneration, SetMaster, SetMtu, SetUp, Step
from tapbridge.model.values import IfName

MTU_USUAL: Final = 1500
"""Bytes; what every Ethernet has unless told otherwise, guests included."""

MTU_LARGEST: Final = 65521
"""Bytes; 65535 less the Ethernet header (drivers/net/tun.c)."""

PORTS: Final = 1023
"""A bridge takes no more (BR_MAX_PORTS, net/bridge/br_private.h)."""

QUEUES: Final = 256
"""A tap takes no more (MAX_TAP_QUEUES, drivers/net/tun.c)."""

NO_ADDRESS: Final = 1  # IN6_ADDR_GEN_MODE_NONE


def has_ipv6(state: State) -> bool:
    """Whether the kernel speaks IPv6."""
    return any(switch.stack == "ipv6" for switch in state.sysctls)


def port_steps(
    tap: IfName, bridge: Link | None, *, ipv6: bool, access: Access | None = None, held: tuple[Step, ...] = ()
) -> tuple[Step, ...]:
    """Make a new tap, which is down, a port of the bridge, if there is one, and set it up.

    Where the kernel has IPv6, the host takes no address of its own on the guest's wire. The MTU is set before the
    bridge sees it, because a bridge takes the lowest of its ports'. What holds the guest on its port, `held`, comes
    before it is up.
    """
    silent = (SetAddressGeneration(link=tap, mode=NO_ADDRESS),) if ipv6 else ()
    return (*silent, *join_steps(tap, bridge, access=access), *held, SetUp(link=tap, up=True))


def join_steps(
    tap: IfName, bridge: Link | None, mtu: int = MTU_USUAL, *, access: Access | None = None
) -> tuple[Step, ...]:
    """Make a tap, which has this MTU, and is down if it gets `access` to a VLAN, a port of the bridge."""
    if bridge is None:
        return ()
    wanted = min(bridge.mtu, MTU_LARGEST)
    fitted = () if wanted == mtu else (SetMtu(link=tap, mtu=wanted),)
    placed = access_steps(tap, bridge, access) if access is not None else ()
    return (*fitted, SetMaster(link=tap, master=bridge.name), *placed)


def rejoin_steps(link: Link, bridge: Link | None, state: State) -> tuple[Step, ...]:
    """Make a tap of ours that has no place a port of the bridge, in the VLAN for which it was made.

    It is down while it joins, for in that moment it is in the bridge's own VLAN.
    """
    mark = read_tap_mark(link)
    if bridge is None or mark is None or mark.vlan is None:
        return join_steps(link.name, bridge, link.mtu)
    joined = join_steps(link.name, bridge, link.mtu, access=find_access(bridge, mark.vlan, state))
    return (SetUp(link=link.name, up=False), *joined, SetUp(link=link.name, up=True)) if link.up else joined


def with_taps(plan: Plan, bridge: IfName) -> Plan:
    """The plan, at the end of which the taps that were made for this bridge and lost it are its ports again."""
    lost = [(link, its) for link, its in lost_places(plan.after) if its.name == bridge]
    steps = tuple(step for link, its in lost for step in rejoin_steps(link, its, plan.after))
    return replace(
        plan,
        stages=(*plan.stages, *([Stage(reason=Reason.TAP, steps=steps)] if steps else [])),
        after=fold(steps, plan.after),
        touched=(*plan.touched, *(link.name for link, _ in lost)),
    )


def lost_places(state: State) -> list[tuple[Link, Link]]:
    """The taps of ours that have no place, with the bridge that they were made for, if it is there."""
    marked = [(link, read_tap_mark(link)) for link in state.links if link.master is None]
    found = [
        (link, find_bridge_with_room(mark.bridge, state, vlan=mark.vlan)) for link, mark in marked if mark is not None
    ]
    return [(link, bridge) for link, bridge in found if bridge is not None]


def find_bridge_with_room(name: IfName | None, state: State, more: int = 0, vlan: int | None = None) -> Link | None:
    """The bridge of that name, if there is one that takes another port beside those that it has and `more`, and for a
    `vlan` one that tells them apart."""
    link = state.link(name) if name is not None else None
    if link is None or link.kind != "bridge" or len(state.ports(link.name)) + more >= PORTS:
        return None
    return link if vlan is None or tells_vlans_apart(link) else None
