"""`tapbridge status`: bridges, uplinks, ports and addresses."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tapbridge.cli.result import Result
from tapbridge.core.topology import find_guest_name, find_uplink, is_tap
from tapbridge.model.guest import Guest
from tapbridge.model.state import PERMANENT, Address, Link, Scope, State

if TYPE_CHECKING:
    from tapbridge.cli.world import World


def options(parser: ArgumentParser) -> None:
    """`status` has no options of its own."""


def run(args: Namespace, world: World) -> Result:
    """Show the bridges of this network namespace."""
    with world.host() as host:
        state = host.observe(Scope.LINKS)
    guests = _guests(state)
    names: dict[str, str | None] = {nic.link: guest.name for guest in guests for nic in guest.nics}
    bridges = [_bridge(state, link, names) for link in state.links if link.kind == "bridge"]
    text = "" if args.json else _text(state, guests, world)
    return Result(document={"bridges": bridges, "pending": None}, text=text)


def _guests(state: State) -> tuple[Guest, ...]:
    """The guests behind the taps, whoever started them."""
    if not any(is_tap(link) for link in state.links):
        return ()
    from tapbridge.guests.survey import identify

    return identify(state)


def _text(state: State, guests: tuple[Guest, ...], world: World) -> str:
    from tapbridge.draw.style import ansi, plain
    from tapbridge.draw.text import speaks_unicode
    from tapbridge.draw.tree import host_tree

    unicode = speaks_unicode(sys.stdout.encoding)
    return host_tree(state, guests, unicode=unicode, style=ansi if world.colour() else plain)


def _bridge(state: State, link: Link, names: Mapping[str, str | None]) -> dict[str, Any]:
    uplink = find_uplink(state, link.name)
    return {
        "name": link.name,
        "mac": link.mac,
        "up": link.up and link.carrier,
        "uplink": uplink.name if uplink else None,
        "addresses": [address_json(a) for a in state.addresses_of(link.name)],
        "ports": [_port(port, names.get(port.name)) for port in state.ports(link.name)],
        "owner": None,
        "lease": None,
        "saved": None,
    }


def _port(port: Link, guest: str | None) -> dict[str, Any]:
    return {
        "name": port.name,
        "kind": port.kind or "nic",
        "up": port.up and port.carrier,
        "guest": find_guest_name(port) or guest,
    }


def address_json(address: Address) -> dict[str, Any]:
    """An address of the host as the contract's JSON."""
    return {
        "ip": address.ip,
        "prefix": address.prefix,
        "family": address.family,
        "source": "kernel",
        "age": None,
        "dynamic": not address.flags & PERMANENT,
        "valid_lft": address.valid_lft,
        "preferred_lft": address.preferred_lft,
    }
