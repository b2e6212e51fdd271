"""How a tap becomes a port, whoever made it."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from tapbridge.core.effect import fold
from tapbridge.core.mark import read_tap_mark
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

NO_ADDRESS: Final = 1  # IN6_ADDR_GEN_MODE_NONE


def has_ipv6(state: State) -> bool:
    """Whether the kernel speaks IPv6."""
    return any(switch.stack == "ipv6" for switch in state.sysctls)


def port_steps(tap: IfName, bridge: Link | None, *, ipv6: bool, held: tuple[Step, ...] = ()) -> tuple[Step, ...]:
    """Make a new tap, which is down, a port of the bridge, if there is one, and set it up.

    Where the kernel has IPv6, the host takes no address of its own on the guest's wire. The MTU is set before the
    bridge sees it, because a bridge takes the lowest of its ports'. What holds the guest on its port, `held`, comes
    before it is up.
    """
    silent = (SetAddressGeneration(link=tap, mode=NO_ADDRESS),) if ipv6 else ()
    return (*silent, *join_steps(tap, bridge), *held, SetUp(link=tap, up=True))


def join_steps(tap: IfName, bridge: Link | None, mtu: int = MTU_USUAL) -> tuple[Step, ...]:
    """Make a tap, which has this MTU, a port of the bridge."""
    if bridge is None:
        return ()
    wanted = min(bridge.mtu, MTU_LARGEST)
    fitted = () if wanted == mtu else (SetMtu(link=tap, mtu=wanted),)
    return (*fitted, SetMaster(link=tap, master=bridge.name))


def with_taps(plan: Plan, bridge: IfName) -> Plan:
    """The plan, at the end of which the taps that were made for this bridge and lost it are its ports again."""
    lost = [(link, its) for link, its in lost_places(plan.after) if its.name == bridge]
    steps = tuple(step for link, its in lost for step in join_steps(link.name, its, link.mtu))
    return replace(
        plan,
        stages=(*plan.stages, *([Stage(reason=Reason.TAP, steps=steps)] if steps else [])),
        after=fold(steps, plan.after),
        touched=(*plan.touched, *(link.name for link, _ in lost)),
    )


def lost_places(state: State) -> list[tuple[Link, Link]]:
    """The taps of ours that have no place, with the bridge that they were made for, if it is there."""
    marked = [(link, read_tap_mark(link)) for link in state.links if link.master is None]
    found = [(link, find_bridge_with_room(mark.bridge, state)) for link, mark in marked if mark is not None]
    return [(link, bridge) for link, bridge in found if bridge is not None]


def find_bridge_with_room(name: IfName | None, state: State, more: int = 0) -> Link | None:
    """The bridge of that name, if there is one that takes another port beside those that it has and `more`."""
    link = state.link(name) if name is not None else None
    return link if link is not None and link.kind == "bridge" and len(state.ports(link.name)) + more < PORTS else None
