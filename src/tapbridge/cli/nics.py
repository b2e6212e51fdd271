"""From what was asked for to the NICs of a guest: the one way that `run` and `args` share.

Everything that can be refused is refused here, before a tap is made.
"""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tapbridge.cli.nets import NicRequest, find_bridge
from tapbridge.core.access import Access, require_access
from tapbridge.core.attach import MTU_LARGEST, MTU_USUAL
from tapbridge.core.filters import host_ips
from tapbridge.core.macs import (
    PREFIX,
    Seed,
    check_mac,
    find_holder,
    guest_mac,
    own_macs,
    refuse_taken,
    suspects,
    tap_mac,
)
from tapbridge.core.topology import find_guest_name, is_tap
from tapbridge.model.errors import Refused
from tapbridge.model.intent import Guard
from tapbridge.model.noun import dataclass, replace
from tapbridge.model.state import Link, Neighbour, State
from tapbridge.model.step import WriteFile
from tapbridge.model.values import Mac
from tapbridge.model.verdict import Finding, Severity
from tapbridge.qemu.argv import CommandLine, Section, find_name, ids, parse_config
from tapbridge.qemu.found import find_nics, refuse_nics, wants_none
from tapbridge.qemu.machine import Machine, Model, choose_model, machine_of
from tapbridge.qemu.nics import Backend, Nic, check_card, choose_id, parse_guest

if TYPE_CHECKING:
    from tapbridge.cli.world import World

_CONFIG_BYTES: Final = 1 << 20
_SUSPECTS: Final = 4
"""Neighbours that are asked whether they hold an address, a second each at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One NIC, all but its tap. `bridge` is None in user mode, `access` where no VLAN was asked for, `host_mtu` where
    the guest need not be told."""

    request: NicRequest
    bridge: Link | None
    access: Access | None
    id: str
    model: Model
    mac: Mac
    queues: int
    host_mtu: int | None
    guard: Guard | None = None

    @property
    def vhost(self) -> str:
        """auto, on or off; user mode and other cards than virtio have none."""
        asked = self.request.vhost or "auto"
        return asked if self.bridge is not None and self.model.virtio else "off"

    def nic(self, backend: Backend) -> Nic:
        """The NIC with its tap."""
        return Nic(
            id=self.id, backend=backend, model=self.model, mac=self.mac, queues=self.queues, host_mtu=self.host_mtu
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestPlan:
    """A guest to be: its name, its NICs, the step that keeps the seed of its addresses, and what should be told."""

    name: str
    nics: tuple[Planned, ...]
    keep_seed: WriteFile | None
    findings: tuple[Finding, ...]


def read_sections(line: CommandLine) -> tuple[Section, ...]:
    """What the files of `-readconfig` say. A pipe is QEMU's to read, and a missing file QEMU's to complain of."""
    sections: list[Section] = []
    for name in line.values("readconfig"):
        path = Path(name)
        try:
            if path.is_file():
                with open(path, encoding="utf-8", errors="replace") as file:
                    sections += parse_config(file.read(_CONFIG_BYTES))
        except OSError:
            continue
    return tuple(sections)


def check_command(args: Namespace, line: CommandLine) -> tuple[Section, ...]:
    """Raises Refused if QEMU's own arguments make a NIC. Returns what its configuration files say."""
    sections = read_sections(line)
    nics = find_nics(line, sections)
    if nics and not args.keep_nics:
        raise refuse_nics(nics)
    return sections


def guest_name(args: Namespace, line: CommandLine) -> str:
    """`--name`, else QEMU's `-name`, else guest. Raises UsageError."""
    return parse_guest(args.name if args.name is not None else find_name(line) or "guest")


def plan_guest(
    args: Namespace, world: World, state: State, line: CommandLine, requests: Sequence[NicRequest]
) -> GuestPlan:
    """Settle everything about a guest's NICs but their taps. Raises Refused, UsageError, HostError."""
    from tapbridge.qemu.seed import read_seed

    sections = check_command(args, line)
    name = guest_name(args, line)
    machine = machine_of(line, native=os.uname().machine)
    bridges = [find_bridge(request.net, state) for request in requests]
    first = next((bridge.name for bridge in bridges if bridge is not None), None)
    seed, keep_seed = read_seed(world.root, world.state_dir(), state, first)
    seed = replace(seed, user=world.uid or None)
    macs = _choose_macs(requests, name, seed, state)
    taken = set(ids(line, sections))
    nics: list[Planned] = []
    for number, (request, bridge) in enumerate(zip(requests, bridges, strict=True)):
        nics.append(_plan_nic(request, bridge, machine, macs[number], choose_id(number, taken), state))
        taken |= {nics[-1].id, f"{nics[-1].id}-nic"}
    findings = [*_about_command(line), *(finding for nic in nics for finding in _about_nic(nic))]
    return GuestPlan(name=name, nics=tuple(nics), keep_seed=keep_seed, findings=tuple(findings))


def plan_another(
    world: World,
    state: State,
    line: CommandLine,
    request: NicRequest,
    *,
    name: str,
    user: int,
    macs: Collection[Mac],
    taken: Collection[str],
) -> GuestPlan:
    """Settle everything about one more NIC of a user's guest that runs, and has these addresses and ids already.
    Raises Refused, UsageError, HostError.

    Its address is that of the first number that is free, so a NIC that was taken out and comes back has its old one.
    """
    from tapbridge.qemu.seed import read_seed

    bridge = find_bridge(request.net, state)
    seed, keep_seed = read_seed(world.root, world.state_dir(), state, bridge.name if bridge is not None else None)
    seed = replace(seed, user=user or None)
    own = own_macs(state)
    if request.mac is not None:
        check_mac(request.mac, own)
        if request.mac in macs:
            raise refuse_taken(request.mac, name, "by another NIC of the same guest")
    prefix = request.mac_prefix or PREFIX
    numbered = (guest_mac(seed, name, number, own, prefix) for number in range(len(macs) + 1))
    mac = request.mac or next(mac for mac in numbered if mac not in macs)
    machine = machine_of(line, native=os.uname().machine)
    nic = _plan_nic(request, bridge, machine, mac, choose_id(len(macs), taken), state)
    return GuestPlan(name=name, nics=(nic,), keep_seed=keep_seed, findings=tuple(_about_nic(nic)))


def _access(request: NicRequest, bridge: Link | None, state: State) -> Access | None:
    if request.vlan is not None and bridge is None:
        raise Refused("user mode knows no VLANs", hint="leave --vlan out", code="user-mode", subject="user")
    return require_access(bridge, request.vlan, state)


def _plan_nic(request: NicRequest, bridge: Link | None, machine: Machine, mac: Mac, name: str, state: State) -> Planned:
    model = choose_model(machine, request.model)
    queues = request.queues or 1
    guarded = request.guard in ("mac", "ip")
    vhost, user = request.vhost or "auto", bridge is None
    check_card(model, queues=queues, vhost=vhost, user=user, rate=request.rate, guarded=guarded)
    return Planned(
        request=request,
        bridge=bridge,
        access=_access(request, bridge, state),
        id=name,
        model=model,
        mac=mac,
        queues=queues,
        host_mtu=_host_mtu(request, bridge),
        guard=_guard(request, bridge, mac, state) if guarded else None,
    )


def _guard(request: NicRequest, bridge: Link | None, mac: Mac, state: State) -> Guard:
    allowed = request.allow or ()
    if request.ip is not None or bridge is None:
        return Guard(mac=mac, ips=request.ip, allowed=allowed)
    return Guard(mac=mac, denied=host_ips(state, bridge.name), allowed=allowed)


def _choose_macs(requests: Sequence[NicRequest], guest: str, seed: Seed, state: State) -> list[Mac]:
    own = own_macs(state)
    chosen: list[Mac] = []
    for number, request in enumerate(requests):
        if request.mac is not None:
            check_mac(request.mac, own)
            if request.mac in chosen:
                raise refuse_taken(request.mac, guest, "by another NIC of the same guest")
        prefix = request.mac_prefix or PREFIX
        chosen.append(request.mac or guest_mac(seed, guest, number, {*own, *chosen, *_asked(requests)}, prefix))
    return chosen


def _asked(requests: Sequence[NicRequest]) -> set[Mac]:
    return {request.mac for request in requests if request.mac is not None}


def _host_mtu(request: NicRequest, bridge: Link | None) -> int | None:
    largest = MTU_USUAL if bridge is None else min(bridge.mtu, MTU_LARGEST)
    if request.mtu is None:
        return None if largest == MTU_USUAL else largest
    if request.mtu > largest:
        where = "user mode" if bridge is None else bridge.name
        raise Refused(
            f"an MTU of {request.mtu} bytes is more than the {largest} that {where} carries",
            hint="the larger frames would be lost; leave --mtu out, or raise the MTU of the bridge and of its ports",
            code="mtu-too-large",
            subject=where,
        )
    return request.mtu


def _about_command(line: CommandLine) -> list[Finding]:
    if not wants_none(line):
        return []
    return [
        Finding(
            code="nic-none",
            severity=Severity.INFO,
            subject=line.program,
            message="QEMU is told to make no NIC (-nic none); the guest gets ours all the same",
        )
    ]


def _about_nic(nic: Planned) -> list[Finding]:
    found = []
    if nic.host_mtu is not None and not nic.model.virtio:
        message = f"a card of the model {nic.model.name} cannot tell the guest its MTU of {nic.host_mtu} bytes"
        fix = "set it in the guest, or use a virtio model"
        found.append(
            Finding(code="mtu-not-told", severity=Severity.WARNING, subject=nic.model.name, message=message, fix=fix)
        )
    if nic.bridge is not None and not nic.bridge.up:
        message = f"{nic.bridge.name} is down, so nothing reaches the guest"
        fix = f"ip link set {nic.bridge.name} up"
        found.append(
            Finding(code="bridge-down", severity=Severity.WARNING, subject=nic.bridge.name, message=message, fix=fix)
        )
    return found


def check_free(guest: GuestPlan, state: State, answers: Callable[[Neighbour], bool]) -> None:
    """Raises Refused if somebody on a NIC's bridge has its address, or that of its tap; a stale neighbour is asked
    whether he lives."""
    for nic in guest.nics:
        if nic.bridge is None:
            continue
        for mac in (nic.mac, tap_mac(nic.mac)):
            port = find_holder(state, nic.bridge.name, mac)
            if port is not None:
                raise refuse_taken(mac, guest.name, f"{_told_holder(port, state)}, a port of {nic.bridge.name}")
        for neighbour in suspects(state, nic.bridge.name, nic.mac)[:_SUSPECTS]:
            if answers(neighbour):
                raise refuse_taken(nic.mac, guest.name, f"by {neighbour.ip}, which answers on {nic.bridge.name}")


def _told_holder(port: Link, state: State) -> str:
    """Who is behind a port; of a guest that somebody else has started, the process tells."""
    name = find_guest_name(port)
    if name is None and is_tap(port):
        from tapbridge.guests.survey import identify

        holders = (guest.name for guest in identify(state) if port.name in (nic.link for nic in guest.nics))
        name = next(holders, None)
    return f"by the guest {name!r} on {port.name}" if name else f"by something behind {port.name}"


def no_vhost() -> Refused:
    """The refusal of `--vhost on` where the kernel has no vhost."""
    return Refused(
        "this kernel offers no vhost: /dev/vhost-net cannot be opened",
        hint="modprobe vhost_net; or leave --vhost out: the guest runs without it",
        code="no-vhost",
    )
