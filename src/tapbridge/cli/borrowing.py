"""A guest of a user without rights: its taps are lent by the broker."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from tapbridge.broker.client import Client
from tapbridge.broker.protocol import Attach
from tapbridge.linux.tun import OpenTap
from tapbridge.model.errors import Refused

if TYPE_CHECKING:
    from tapbridge.cli.nics import GuestPlan, Planned
    from tapbridge.cli.world import World


def borrow_taps(guest: GuestPlan, world: World, taps: list[OpenTap], pid: int) -> None:
    """Borrow a tap for each NIC on a bridge, for the process that is the guest or is to be it. Each goes into `taps` as
    soon as it is there. Raises Forbidden, Refused, HostError."""
    nics: Sequence[Planned] = [nic for nic in guest.nics if nic.bridge is not None]
    if any(nic.guard is not None for nic in nics):
        raise Refused(
            "whether a tap of the broker is guarded is the policy's to say",
            hint="leave --guard out; root can write it into the policy: tapbridge explain broker",
            code="guard-by-policy",
        )
    pidfd = os.pidfd_open(pid)
    try:
        with closing(Client(str(world.broker_socket()))) as client:
            for nic in nics:
                assert nic.bridge is not None, "user mode needs no tap"
                request = Attach(nic.bridge.name, guest.name, nic.mac, nic.queues, rate=nic.request.rate)
                taps.append(OpenTap(*client.attach(request, pidfd)))
    finally:
        os.close(pidfd)
