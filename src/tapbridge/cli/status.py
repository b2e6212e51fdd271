"""`tapbridge status`: bridges, uplinks, ports and addresses."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from tapbridge.cli.result import Result
from tapbridge.core.topology import find_guest_name, find_uplink
from tapbridge.model.state import PERMANENT, Address, Link, Scope, State

if TYPE_CHECKING:
    from tapbridge.cli.world import World


def options(parser: ArgumentParser) -> None:
    """`status` has no options of its own."""


def run(args: Namespace, world: World) -> Result:
    """Show the bridges of this network namespace."""
    with world.host() as host:
        state = host.observe(Scope.LINKS)
    document = {"bridges": [_bridge(state, link) for link in state.links if link.kind == "bridge"], "pending": None}
    return Result(document=document, text="" if args.json else _text(state, world))


def _text(state: State, world: World) -> str:
    from tapbridge.draw.style import ansi, plain
    from tapbridge.draw.tree import host_tree

    unicode = "utf" in (sys.stdout.encoding or "").lower()
    return host_tree(state, unicode=unicode, style=ansi if world.colour() else plain)


def _bridge(state: State, link: Link) -> dict[str, Any]:
    uplink = find_uplink(state, link.name)
    return {
        "name": link.name,
        "mac": link.mac,
        "up": link.up and link.carrier,
        "uplink": uplink.name if uplink else None,
        "addresses": [address_json(a) for a in state.addresses_of(link.name)],
        "ports": [_port(port) for port in state.ports(link.name)],
        "owner": None,
        "lease": None,
        "saved": None,
    }


def _port(port: Link) -> dict[str, Any]:
    return {
        "name": port.name,
        "kind": port.kind or "nic",
        "up": port.up and port.carrier,
        "guest": find_guest_name(port),
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
