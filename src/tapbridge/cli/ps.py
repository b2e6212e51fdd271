"""`tapbridge ps`: every guest NIC of this network namespace, whoever started the guest."""

from __future__ import annotations

import argparse
import math
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from tapbridge.cli.result import Result
from tapbridge.model.errors import Forbidden, UsageError
from tapbridge.model.state import Scope

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tapbridge.cli.world import World
    from tapbridge.guests.survey import Survey
    from tapbridge.linux.host import LinuxHost
    from tapbridge.model.guest import Guest, GuestNic, Sighting

SECONDS_MAX = 3600.0
TIMEOUT_S = 60.0
PERIOD_S = 2.0


def options(parser: argparse.ArgumentParser) -> None:
    """What can be asked."""
    longer = parser.add_mutually_exclusive_group()
    longer.add_argument(
        "--listen",
        metavar="SECONDS",
        help="listen on the taps for so long (0.1 to 3600) to learn addresses: ARP, DHCP, ND, mDNS; needs CAP_NET_RAW",
    )
    longer.add_argument(
        "--wait-ip",
        metavar="GUEST",
        help="wait until an IP address of this guest is known, and print it; GUEST is its name, its PID or its tap",
    )
    longer.add_argument(
        "--watch",
        nargs="?",
        const=f"{PERIOD_S:g}",
        metavar="SECONDS",
        help=f"look again every so many seconds (0.1 to 3600, default {PERIOD_S:g}), and listen between, until Ctrl-C; "
        "with --json a document a line",
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        help=f"how long --wait-ip waits (0.1 to 3600, default {TIMEOUT_S:g})",
    )


def run(args: argparse.Namespace, world: World) -> Result:
    """Look at everything once, and never wait unless that is asked for."""
    listen_s, timeout_s = _parse_seconds("--listen", args.listen), _parse_seconds("--timeout", args.timeout)
    period_s = _parse_seconds("--watch", args.watch)
    if timeout_s is not None and args.wait_ip is None:
        raise UsageError("--timeout belongs to --wait-ip GUEST", hint="tapbridge ps --wait-ip web", code="usage")
    with world.host() as host:
        if args.wait_ip is not None:
            return _wait(args, world, host, TIMEOUT_S if timeout_s is None else timeout_s)
        if period_s is not None:
            _watch(args, world, host, period_s)
        if listen_s is not None:
            return _result(_listen(args, world, host, listen_s), args, world)
        from tapbridge.guests.survey import survey

        return _result(survey(host.observe(Scope.GUESTS), now=world.clock.wall()), args, world)


def _result(found: Survey, args: argparse.Namespace, world: World) -> Result:
    text = "" if args.json else _text(found.guests, world)
    return Result(document={"guests": [_guest(guest) for guest in found.guests]}, text=text, findings=found.findings)


def _listen(args: argparse.Namespace, world: World, host: LinuxHost, seconds: float) -> Survey:
    from tapbridge.cli.lookout import listen

    if world.is_terminal() and not args.quiet:
        sys.stderr.write(f"listening for {seconds:g} s\n")
    try:
        return listen(host, world, seconds)
    except PermissionError:
        raise Forbidden(
            "listening on taps needs the right to open packet sockets (CAP_NET_RAW)",
            hint="sudo tapbridge ps --listen SECONDS, or leave --listen out",
            code="not-permitted",
        ) from None


def _wait(args: argparse.Namespace, world: World, host: LinuxHost, timeout_s: float) -> Result:
    from tapbridge.cli.lookout import await_address

    guest, ip = await_address(host, world, args.wait_ip, timeout_s)
    return Result(document={"ip": ip, "guests": [_guest(guest)]}, text=ip)


def _watch(args: argparse.Namespace, world: World, host: LinuxHost, period_s: float) -> NoReturn:
    """It ends by a signal, or when nobody reads it any more."""
    import gc

    from tapbridge.cli.lookout import looks
    from tapbridge.cli.watching import Screen

    gc.enable()  # main() switches it off for commands that end
    screen = Screen(world, as_json=args.json, quiet=args.quiet)
    for found in looks(host, world, period_s):
        screen.show(_result(found, args, world))
    raise AssertionError("there is always another look")


def _parse_seconds(option: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0.1 <= seconds <= SECONDS_MAX:
        raise UsageError(
            f"{option} takes a number of seconds between 0.1 and {SECONDS_MAX:g}, not {text!r}",
            hint=f"{option} 5",
            code="usage",
        )
    return seconds


def _text(guests: Sequence[Guest], world: World) -> str:
    from tapbridge.draw.table import guest_columns, guest_table

    if not sys.stdout.isatty():
        return guest_columns(guests)
    if not guests:
        return "no guest: there is no tap in this network namespace"
    import shutil

    from tapbridge.draw.style import ansi, plain

    return guest_table(guests, shutil.get_terminal_size().columns, ansi if world.colour() else plain)


def _guest(guest: Guest) -> dict[str, Any]:
    return {
        "name": guest.name,
        "pid": guest.pid,
        "uid": guest.uid,
        "hypervisor": guest.hypervisor,
        "program": guest.program,
        "nics": [_nic(nic) for nic in guest.nics],
    }


def _nic(nic: GuestNic) -> dict[str, Any]:
    return {
        "tap": nic.link,
        "kind": nic.kind,
        "bridge": nic.bridge,
        "mac": nic.mac,
        "mac_source": nic.mac_source,
        "addresses": [_address(item) for item in nic.addresses],
        "rx_bytes": nic.rx_bytes,
        "tx_bytes": nic.tx_bytes,
        "vlan": nic.vlan,
        "rate": nic.rate,
        "guard": nic.guard,
    }


def _address(item: Sighting) -> dict[str, Any]:
    return {
        "ip": item.ip,
        "prefix": item.prefix,
        "family": item.family,
        "source": item.source,
        "age": item.age,
        "dynamic": item.dynamic,
        "valid_lft": item.valid_lft,
        "preferred_lft": item.preferred_lft,
        "hostname": item.hostname,
    }
