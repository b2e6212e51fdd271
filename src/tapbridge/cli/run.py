"""`tapbridge run`: attach a guest to a network, then become its QEMU."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tapbridge.cli.making import keep_seed, make_tap, open_files, vhost_files
from tapbridge.cli.nets import USER, NicRequest, nic_options, read_requests
from tapbridge.cli.nics import GuestPlan, check_command, check_free, guest_name, plan_guest
from tapbridge.cli.result import Result, print_result
from tapbridge.model.errors import Refused, UsageError
from tapbridge.model.noun import replace
from tapbridge.model.state import Scope, State
from tapbridge.model.verdict import Finding, Severity
from tapbridge.qemu.argv import CommandLine, descriptors, parse_command
from tapbridge.qemu.launch import become, find_program
from tapbridge.qemu.nics import Backend, TapDescriptors, UserMode, find_tap, nic_words

if TYPE_CHECKING:
    from tapbridge.cli.world import World
    from tapbridge.linux.tun import OpenTap

_EXAMPLE = "tapbridge run --name web -- qemu-system-x86_64 -m 512 disk.img"


def options(parser: ArgumentParser) -> None:
    """The options of `run`."""
    from tapbridge.cli.turn import wait_option

    parser.usage = "tapbridge run [--name NAME] [--net NET [NIC OPTIONS]]… -- qemu-system-… ARGS"
    nic_options(parser)
    wait_option(parser)


def run(args: Namespace, world: World) -> Result:
    """Attach, and become QEMU. Returns only where nothing was started; raises for everything that is refused."""
    if args.json:
        raise UsageError("run becomes QEMU and has no document to print", hint="tapbridge args --json", code="usage")
    if not args.rest:
        raise UsageError("run needs the command that starts QEMU, behind --", hint=_EXAMPLE, code="usage")
    requests = read_requests(args.nics, args.alone)
    line = parse_command(args.rest)
    path = find_program(line.words[0], world.environ)
    check_command(args, line)
    name = guest_name(args, line)
    with _attached(args, world, line, requests, name) as (guest, backends, taps):
        words = [
            word for nic, backend in zip(guest.nics, backends, strict=True) for word in nic_words(nic.nic(backend))
        ]
        findings = guest.findings + (_spoken(guest, words) if args.verbose else ())
        print_result(Result(findings=findings), as_json=False, quiet=args.quiet, stdout=sys.stdout, stderr=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        for tap in taps:
            tap.keep_address()
        become(path, [*line.words, *words], descriptors(line) | _files(backends))


@contextmanager
def _attached(
    args: Namespace, world: World, line: CommandLine, requests: Sequence[NicRequest], name: str
) -> Iterator[tuple[GuestPlan, list[Backend], list[OpenTap]]]:
    """The guest with its taps in place. They go when the block ends, for nobody else has them open.

    The turn at the network ends before the block begins: whoever becomes QEMU holds no lock.
    """
    if all(request.net == USER for request in requests):
        with world.host() as host:
            guest = plan_guest(args, world, host.observe(Scope.LINKS), line, requests)
            yield keep_seed(guest, host), [UserMode() for _ in guest.nics], []
        return
    taps: list[OpenTap] = []
    try:
        attached = _own if world.may_change_network() else _borrowed
        guest, backends = attached(args, world, line, requests, name, taps)
        yield guest, backends, taps
    finally:
        for tap in taps:
            tap.close()


def _own(
    args: Namespace,
    world: World,
    line: CommandLine,
    requests: Sequence[NicRequest],
    name: str,
    taps: list[OpenTap],
) -> tuple[GuestPlan, list[Backend]]:
    """Make the taps. They go into `taps` as soon as they are there."""
    from tapbridge.cli.turn import turn
    from tapbridge.linux.liveness import answers

    with turn(world, "run", wait_s=args.wait) as session:
        state = session.host.observe(Scope.KERNEL)
        _require_no_such_guest(state, name, None)
        guest = plan_guest(args, world, state, line, requests)
        check_free(guest, state, answers)
        backends = [make_tap(nic, guest.name, state, session.host, taps) for nic in guest.nics]
        return replace(keep_seed(guest, session.host), findings=session.findings + guest.findings), backends


def _borrowed(
    args: Namespace,
    world: World,
    line: CommandLine,
    requests: Sequence[NicRequest],
    name: str,
    taps: list[OpenTap],
) -> tuple[GuestPlan, list[Backend]]:
    """Borrow the taps from the broker, likewise. Neighbours are not asked: that, too, needs rights."""
    from tapbridge.cli.borrowing import borrow_taps

    with world.host() as host:
        state = host.observe(Scope.KERNEL)
        _require_no_such_guest(state, name, world.uid)
        guest = plan_guest(args, world, state, line, requests)
        check_free(guest, state, lambda _: False)
        vhosts = [vhost_files(nic) for nic in guest.nics]
        borrow_taps(guest, world, taps, os.getpid(), args.wait)
        lent = iter(taps)
        backends: list[Backend] = [
            UserMode() if nic.bridge is None else open_files(next(lent), vhost)
            for nic, vhost in zip(guest.nics, vhosts, strict=True)
        ]
        return keep_seed(guest, host), backends


def _require_no_such_guest(state: State, name: str, user: int | None) -> None:
    tap = find_tap(state, name, user)
    if tap is None:
        return
    from tapbridge.guests.survey import identify

    pids = [guest.pid for guest in identify(state) if guest.pid and tap.name in (nic.link for nic in guest.nics)]
    who = f"PID {pids[0]}, " if pids else ""
    raise Refused(
        f"a guest {name!r} is running already ({who}tap {tap.name} on {tap.master or 'no bridge'})",
        hint="end it first, or give this one another name: --name",
        code="guest-running",
        subject=name,
    )


def _spoken(guest: GuestPlan, words: Sequence[str]) -> tuple[Finding, ...]:
    """What `-v` tells: the arguments as they are added."""
    from shlex import join

    finding = Finding(
        code="attached",
        severity=Severity.INFO,
        subject=guest.name,
        message=f"the guest {guest.name!r} gets: {join(words)}",
    )
    return (finding,)


def _files(backends: Sequence[Backend]) -> set[int]:
    """The open files that QEMU inherits."""
    taps = [backend for backend in backends if isinstance(backend, TapDescriptors)]
    return {number for tap in taps for number in (*tap.taps, *tap.vhost_files)}
