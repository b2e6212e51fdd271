"""A tap made a port of br0, as `run` does it."""

from __future__ import annotations

from tapbridge.core.attach import has_ipv6
from tapbridge.linux.host import LinuxHost
from tapbridge.linux.tun import OpenTap
from tapbridge.model.intent import Guard
from tapbridge.model.state import Scope
from tapbridge.model.values import IfName
from tapbridge.qemu.nics import attach_steps


def join(tap: OpenTap, *, rate: int | None = None, guard: Guard | None = None) -> None:
    """Make the tap a port of br0."""
    with LinuxHost() as host:
        state = host.observe(Scope.KERNEL)
        bridge = state.link(IfName("br0"))
        assert bridge is not None
        host.perform(attach_steps(tap.name, bridge, "web", ipv6=has_ipv6(state), rate=rate, guard=guard))
