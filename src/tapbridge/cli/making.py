"""The taps of a guest that is about to have them, as `run` and `attach` make them, and the seed of its address."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tapbridge.cli.nics import GuestPlan, Planned, no_vhost
from tapbridge.core.attach import has_ipv6
from tapbridge.core.macs import tap_mac
from tapbridge.model.errors import HostError
from tapbridge.model.noun import replace
from tapbridge.model.state import State
from tapbridge.model.verdict import Finding, Severity
from tapbridge.qemu.nics import Backend, TapDescriptors, UserMode, attach_steps

if TYPE_CHECKING:
    from tapbridge.linux.tun import OpenTap
    from tapbridge.ports import Host


def make_tap(nic: Planned, guest: str, state: State, host: Host, taps: list[OpenTap]) -> Backend:
    """Make a NIC's tap a port of its bridge. The tap goes into `taps` as soon as it is there."""
    if nic.bridge is None:
        return UserMode()
    from tapbridge.linux.tun import open_tap

    vhost = vhost_files(nic)
    taps.append(open_tap(tap_mac(nic.mac), queues=nic.queues))
    ipv6, rate, guard = has_ipv6(state), nic.request.rate, nic.guard
    steps = attach_steps(taps[-1].name, nic.bridge, guest, ipv6=ipv6, access=nic.access, rate=rate, guard=guard)
    host.perform(steps)
    taps[-1].keep_address()
    return open_files(taps[-1], vhost)


def vhost_files(nic: Planned) -> tuple[int, ...]:
    """The open files of the kernel's own virtio engine, if the NIC gets it. Raises Refused where it must and cannot."""
    from tapbridge.linux.tun import open_vhost

    vhost = open_vhost(nic.queues) if nic.vhost != "off" else ()
    if vhost is None and nic.vhost == "on":
        raise no_vhost()
    return vhost or ()


def open_files(tap: OpenTap, vhost: tuple[int, ...]) -> TapDescriptors:
    """A tap as QEMU gets it."""
    return TapDescriptors(taps=tap.descriptors, vhost=bool(vhost), vhost_files=vhost)


def keep_seed(guest: GuestPlan, host: Host) -> GuestPlan:
    """Write down what the addresses of this host are made from. Where that fails, the guest starts all the same."""
    if guest.keep_seed is None:
        return guest
    try:
        os.makedirs(os.path.dirname(guest.keep_seed.path), mode=0o755, exist_ok=True)
        host.perform((guest.keep_seed,))
    except (HostError, OSError) as error:
        finding = Finding(
            code="seed-not-kept",
            severity=Severity.WARNING,
            subject=guest.name,
            message=f"{guest.keep_seed.path} could not be written ({error}), so the guest's address may change when "
            "this host gets another NIC",
        )
        return replace(guest, findings=(*guest.findings, finding))
    return guest
