"""`tapbridge ps`: every guest NIC of this network namespace, whoever started the guest."""

from __future__ import annotations

import argparse
import math
import sys
from typing import TYPE_CHECKING, Any

from tapbridge.cli.result import Result
from tapbridge.model.errors import Forbidden, UsageError
from tapbridge.model.state import Scope

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tapbridge.cli.world import World
    from tapbridge.model.guest import Guest, GuestNic, Sighting

LISTEN_MAX_S = 3600.0


def options(parser: argparse.ArgumentParser) -> None:
    """What can be asked."""
    parser.add_argument(
        "--listen",
        metavar="SECONDS",
        help="listen on the taps for so long (0.1 to 3600) to learn addresses by ARP, DHCP and ND; needs CAP_NET_RAW",
    )


def run(args: argparse.Namespace, world: World) -> Result:
    """Look at everything once, and never wait but for --listen."""
    from tapbridge.guests.survey import survey

    listen_s = _parse_seconds(args.listen)
    with world.host() as host:
        state = host.observe(Scope.KERNEL)
    if listen_s and world.is_terminal() and not args.quiet:
        sys.stderr.write(f"listening for {listen_s:g} s\n")
    try:
        found = survey(state, now=world.clock.wall(), listen_s=listen_s)
    except PermissionError:
        raise Forbidden(
            "listening on taps needs the right to open packet sockets (CAP_NET_RAW)",
            hint="sudo tapbridge ps --listen SECONDS, or leave --listen out",
            code="not-permitted",
        ) from None
    text = "" if args.json else _text(found.guests, world)
    return Result(document={"guests": [_guest(guest) for guest in found.guests]}, text=text, findings=found.findings)


def _parse_seconds(text: str | None) -> float:
    if text is None:
        return 0.0
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0.1 <= seconds <= LISTEN_MAX_S:
        raise UsageError(
            f"--listen takes a number of seconds between 0.1 and {LISTEN_MAX_S:g}, not {text!r}",
            hint="tapbridge ps --listen 5",
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
    }
