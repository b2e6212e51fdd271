"""A guest of a user without rights: its taps are lent by the broker."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Final

from tapbridge.broker.client import Client
from tapbridge.broker.protocol import Attach
from tapbridge.linux.tun import OpenTap
from tapbridge.model.errors import Refused

if TYPE_CHECKING:
    from tapbridge.cli.nics import GuestPlan, Planned
    from tapbridge.cli.world import World


_PAUSE_S: Final = 0.05  # between two tries


def borrow_taps(guest: GuestPlan, world: World, taps: list[OpenTap], pid: int, wait_s: float) -> None:
    """Borrow a tap for each NIC on a bridge, for the process that is the guest or is to be it. Each goes into `taps` as
    soon as it is there. Waits `wait_s` at most while the network is being changed.

    Raises Forbidden, Refused, HostError.
    """
    deadline = world.clock.monotonic() + wait_s
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
                if nic.access is not None:
                    raise Refused(
                        "the broker's policy says in which VLAN the guests of a user are",
                        hint="leave --vlan out; root writes it into the policy: tapbridge explain broker",
                        code="vlan-of-policy",
                        subject=nic.bridge.name,
                    )
                request = Attach(nic.bridge.name, guest.name, nic.mac, nic.queues, rate=nic.request.rate)
                while (tap := _find_tap(client, request, pidfd, last=world.clock.monotonic() >= deadline)) is None:
                    time.sleep(_PAUSE_S)
                taps.append(tap)
    finally:
        os.close(pidfd)


def _find_tap(client: Client, request: Attach, pidfd: int, *, last: bool) -> OpenTap | None:
    """The tap; None where there is to be another try."""
    try:
        return OpenTap(*client.attach(request, pidfd))
    except Refused as refusal:
        if last or refusal.code != "locked":
            raise
        return None
