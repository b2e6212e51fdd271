"""`tapbridge args`: the QEMU arguments that `run` would add, for a script that starts QEMU itself.

A tap that this command made would be gone with it, so it makes none: the arguments name one that the script has, by
its name or by the open files that QEMU inherits.
"""

from __future__ import annotations

import shlex
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from tapbridge.cli.nets import nic_options, read_requests, script_options
from tapbridge.cli.nics import Planned, no_vhost, plan_guest
from tapbridge.cli.result import Result
from tapbridge.core.vlans import one_vlan
from tapbridge.model.errors import Refused, UsageError
from tapbridge.model.state import Scope, State
from tapbridge.model.verdict import Finding, Severity
from tapbridge.qemu.argv import parse_command
from tapbridge.qemu.nics import Backend, TapDescriptors, TapName, UserMode, nic_words

if TYPE_CHECKING:
    from tapbridge.cli.world import World

_FIRST = 3
"""The first file behind stdin, stdout and stderr; sd_listen_fds(3) counts from it, too."""


def options(parser: ArgumentParser) -> None:
    """The options of `args`."""
    parser.usage = "tapbridge args [--name NAME] [--net NET [NIC OPTIONS]]… [-- qemu-system-… ARGS]"
    nic_options(parser)
    script_options(parser)
    parser.add_argument(
        "--format", choices=("shell", "json"), default="shell", help="shell words, or a JSON list (default shell)"
    )


def run(args: Namespace, world: World) -> Result:
    """Print the arguments. Nothing is made, changed or written down."""
    requests = read_requests(args.nics, args.alone)
    line = parse_command(args.rest or ["qemu-system-x86_64"])
    with world.host() as host:
        state = host.observe(Scope.KERNEL)
    guest = plan_guest(args, world, state, line, requests)
    words: list[str] = []
    findings = list(guest.findings)
    number = _FIRST
    for nic in guest.nics:
        backend = _backend(nic, state, number)
        words += nic_words(nic.nic(backend))
        if isinstance(backend, TapDescriptors):
            number = max(number, max(backend.taps) + 1)
            if nic.request.fds is None:
                findings.append(_about_files(nic, backend))
    return Result(document={"args": words}, text=_text(words, args.format), findings=tuple(findings))


def _text(words: list[str], form: str) -> str:
    if form == "shell":
        return shlex.join(words)
    import json

    return json.dumps(words, ensure_ascii=False)


def _backend(nic: Planned, state: State, number: int) -> Backend:
    request = nic.request
    if request.tap is not None and request.fds is not None:
        raise UsageError("a NIC has --tap or --fd, not both", code="usage")
    if request.rate is not None or request.guard in ("mac", "ip"):
        raise UsageError(
            "args makes no tap, so it can neither limit the rate of one nor guard it",
            hint="leave --rate and --guard out; tapbridge run makes a tap that is held to them",
            code="usage",
        )
    if nic.bridge is None:
        if request.tap is not None or request.fds is not None:
            raise UsageError("user mode needs no tap", hint="leave --tap and --fd out", code="usage")
        return UserMode()
    if request.fds is not None and len(request.fds) != nic.queues:
        raise UsageError(
            f"--fd names {len(request.fds)} open files for {nic.queues} pairs of queues",
            hint="one for each: --queues 2 --fd 3:4",
            code="usage",
        )
    vhost = _vhost(nic)
    if request.tap is None:
        return TapDescriptors(taps=request.fds or tuple(range(number, number + nic.queues)), vhost=vhost)
    tap = state.link(request.tap)
    if tap is None or tap.kind != "tap":
        raise Refused(
            f"there is no tap {request.tap!r}" if tap is None else f"{tap.name} is no tap",
            hint=f"make one: tapbridge tap add {request.tap} --bridge {nic.bridge.name}"
            + (f" --queues {nic.queues}" if nic.queues > 1 else ""),
            code="no-such-tap",
            subject=request.tap,
        )
    if tap.tap is not None and tap.tap.multi_queue != (nic.queues > 1):
        raise Refused(
            f"the tap {tap.name} was made for {'several pairs' if tap.tap.multi_queue else 'one pair'} of queues",
            hint="--queues 2 or more" if tap.tap.multi_queue else "leave --queues out",
            code="tap-queues",
            subject=tap.name,
        )
    if tap.master != nic.bridge.name:
        raise Refused(
            f"the tap {tap.name} is no port of {nic.bridge.name}",
            hint=f"ip link set {tap.name} master {nic.bridge.name} up",
            code="tap-elsewhere",
            subject=tap.name,
        )
    if nic.access is not None and one_vlan(nic.access.vlan, access=True) not in tap.vlans:
        raise Refused(
            f"the tap {tap.name} is not in VLAN {nic.access.vlan}",
            hint=f"make one that is: tapbridge tap add NAME --bridge {nic.bridge.name} --vlan {nic.access.vlan}",
            code="tap-elsewhere",
            subject=tap.name,
        )
    return TapName(name=tap.name, vhost=vhost)


def _vhost(nic: Planned) -> bool:
    if nic.vhost == "off":
        return False
    from tapbridge.linux.tun import has_vhost

    found = has_vhost()
    if nic.vhost == "on" and not found:
        raise no_vhost()
    return found


def _about_files(nic: Planned, backend: TapDescriptors) -> Finding:
    files = ":".join(str(number) for number in backend.taps)
    where = nic.bridge.name if nic.bridge is not None else ""
    where += f" in VLAN {nic.access.vlan}" if nic.access is not None else ""
    return Finding(
        code="open-files",
        severity=Severity.INFO,
        subject=nic.id,
        message=f"QEMU must inherit a tap on {where} as open file {files}",
        fix="--fd says which; --tap NAME takes a tap that exists; tapbridge run makes one by itself",
    )
