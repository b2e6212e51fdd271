"""`tapbridge attach`: give a running guest one more NIC.

Theory of operation. The tap is made as `run` makes it, and its open files are handed to QEMU over its monitor. From
then on QEMU's files hold the tap: they are the journal. Whoever is cut off before the card is plugged in leaves a tap
that QEMU holds and no card uses; the next `attach` or `detach` sees that and takes it back.
"""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tapbridge.cli.nets import NicRequest, card_options, read_requests
from tapbridge.cli.result import Result
from tapbridge.model.errors import HostError, UsageError
from tapbridge.model.noun import replace
from tapbridge.model.state import Scope, State
from tapbridge.model.verdict import Finding

if TYPE_CHECKING:
    from tapbridge.cli.hotplug import Guest
    from tapbridge.cli.nics import GuestPlan
    from tapbridge.cli.world import World
    from tapbridge.linux.tun import OpenTap
    from tapbridge.model.step import Step
    from tapbridge.ports import Host
    from tapbridge.qemu.nics import Backend


def options(parser: ArgumentParser) -> None:
    """The options of `attach`."""
    from tapbridge.cli.turn import wait_option

    parser.usage = "tapbridge attach GUEST [--net NET] [NIC OPTIONS]"
    parser.add_argument("guest", metavar="GUEST", help="the guest's name, or QEMU's PID, as tapbridge ps shows them")
    card_options(parser)
    wait_option(parser)


def run(args: Namespace, world: World) -> Result:
    """Make the tap, hand it over, plug the card in; or leave nothing."""
    from tapbridge.cli.hotplug import conversation

    requests = read_requests(args.nics, args.alone)
    if len(requests) > 1:
        raise UsageError("attach gives a guest one NIC", hint="once for each --net", code="usage")
    with _place(args, world) as (host, findings):
        state = host.observe(Scope.KERNEL)
        with conversation(args.guest, state) as guest:
            result = _attach(world, host, state, guest, requests[0], args.wait)
    return replace(result, findings=(*findings, *result.findings))


@contextmanager
def _place(args: Namespace, world: World) -> Iterator[tuple[Host, tuple[Finding, ...]]]:
    """The host, and what its turn has found. Who borrows a tap has no turn: the broker changes the network."""
    from tapbridge.cli.turn import turn

    if not world.may_change_network():
        with world.host() as host:
            yield host, ()
        return
    with turn(world, "attach", wait_s=args.wait) as session:
        yield session.host, session.findings


def _attach(world: World, host: Host, state: State, guest: Guest, request: NicRequest, wait_s: int) -> Result:
    from tapbridge.cli.hotplug import card_document, unhurried
    from tapbridge.cli.making import keep_seed
    from tapbridge.cli.nics import check_free, plan_another
    from tapbridge.core.attach import has_ipv6
    from tapbridge.linux.liveness import answers
    from tapbridge.qemu.argv import ids
    from tapbridge.qemu.cards import choose_port, device_arguments, plug, read_types, require_bus
    from tapbridge.qemu.machine import machine_of
    from tapbridge.qemu.nics import UserMode, attach_steps
    from tapbridge.qemu.qmp import MonitorLost

    plan = plan_another(
        world,
        state,
        guest.line,
        request,
        name=guest.name,
        user=guest.running.process.uid,
        macs=[card.mac for card in guest.fittings.cards if card.mac is not None],
        taken=guest.fittings.ids | ids(guest.line),
    )
    nic = plan.nics[0]
    require_bus(machine_of(guest.line, native=os.uname().machine), nic.model.name)
    check_free(plan, state, answers if world.may_change_network() else lambda _: False)
    name = nic.id
    types = read_types(guest.monitor, nic.model.name)
    port = choose_port(nic.model, guest.fittings, guest.name)
    device_arguments(nic.nic(UserMode()), types, port)  # or refused, before anything is made
    taps: list[OpenTap] = []
    try:
        with unhurried() as look:
            backend = _make(world, host, state, guest, plan, taps, wait_s)
            name = _free_name(taps[0].name, guest) if taps else name
            plug(guest.monitor, replace(nic, id=name).nic(backend), types, port, look)
    except BaseException as error:
        _close(taps)
        if isinstance(error, MonitorLost):
            guest.take_back(name)
        _delete_what_stays(host, world, taps)
        raise
    _close(taps)
    plan = keep_seed(plan, host)
    tap, bridge = (taps[0].name, nic.bridge) if taps else (None, None)
    steps: tuple[Step, ...] = ()
    if tap is not None and bridge is not None:
        ipv6, rate, guard = has_ipv6(state), request.rate, nic.guard
        steps = attach_steps(tap, bridge, plan.name, ipv6=ipv6, access=nic.access, rate=rate, guard=guard)
    document = {
        "outcome": "done",
        "guest": {"name": guest.name, "pid": guest.running.process.pid},
        "nic": card_document(f"{name}-nic", nic.model.name, nic.mac, tap, bridge.name if bridge else None),
        "steps": guest.steps(steps),
    }
    where = f"on {bridge.name}, by the tap {tap}" if bridge is not None else "in QEMU's user mode"
    text = (
        f"The guest {guest.name!r} (PID {guest.running.process.pid}) has one more NIC: {nic.mac} {where}.\n"
        f"To take it out: tapbridge detach {guest.name} {name}"
    )
    return Result(document=document, text=text, findings=(*guest.findings, *plan.findings))


def _make(
    world: World, host: Host, state: State, guest: Guest, plan: GuestPlan, taps: list[OpenTap], wait_s: int
) -> Backend:
    """The tap, made or borrowed. It goes into `taps` as soon as it is there."""
    from tapbridge.cli.making import make_tap, open_files, vhost_files

    nic = plan.nics[0]
    if nic.bridge is None or world.may_change_network():
        return make_tap(nic, plan.name, state, host, taps)
    from tapbridge.cli.borrowing import borrow_taps

    vhost = vhost_files(nic)
    borrow_taps(plan, world, taps, guest.running.process.pid, wait_s)
    return open_files(taps[0], vhost)


def _free_name(tap: str, guest: Guest) -> str:
    """The tap's name, if no card has it that lost its own tap of that name."""
    name = tap
    while name in guest.fittings.ids or f"{name}-nic" in guest.fittings.ids:
        name += "x"
    return name


def _close(taps: list[OpenTap]) -> None:
    for tap in taps:
        tap.close()


def _delete_what_stays(host: Host, world: World, taps: list[OpenTap]) -> None:
    """A QEMU that does not answer keeps the tap's files. The tap is taken from it, so nothing is left on the bridge.

    Raises HostError.
    """
    from tapbridge.model.step import DeleteLink

    left = [tap.name for tap in taps if host.observe(Scope.LINKS).link(tap.name) is not None]
    if not left:
        return
    if not world.may_change_network():
        raise HostError(
            f"QEMU does not answer and keeps the tap {left[0]}",
            hint=f"it goes when the guest ends; or root takes it away: tapbridge tap del {left[0]} --force",
        )
    host.perform(tuple(DeleteLink(link=name) for name in left))
