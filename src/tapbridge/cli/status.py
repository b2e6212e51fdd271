"""`tapbridge status`: bridges, uplinks, ports and addresses."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tapbridge.cli.result import Result
from tapbridge.core.topology import find_guest_name, find_uplink, is_tap
from tapbridge.core.vlans import tells_vlans_apart
from tapbridge.model.guest import Guest, GuestNic
from tapbridge.model.state import PERMANENT, Address, Link, Scope, State, Vlans
from tapbridge.model.values import IfName
from tapbridge.model.verdict import Finding

if TYPE_CHECKING:
    from tapbridge.cli.world import World
    from tapbridge.linux.host import LinuxHost

_Behind = Mapping[IfName, tuple[Guest, GuestNic]]


def options(parser: ArgumentParser) -> None:
    """`status` has no options of its own."""


def run(args: Namespace, world: World) -> Result:
    """Show the bridges of this network namespace."""
    with world.host() as host:
        state = host.observe(Scope.LINKS)
        pending = _pending(world, host)
    guests = _guests(state)
    behind = {nic.link: (guest, nic) for guest in guests for nic in guest.nics}
    found = [link for link in state.links if link.kind == "bridge"]
    owners = _owners(found)
    bridges = [_bridge(state, link, behind, owners.get(link.name), world) for link in found]
    text = "" if args.json else _text(state, guests, world)
    if pending is not None:
        waits = f"{pending['command']} waits to be confirmed, for {pending['confirm_in_s']} s more: tapbridge confirm"
        text = f"{text}\n{waits}" if text else waits
    findings: tuple[Finding, ...] = ()
    if any(hold.lost is not False for hold in state.holds):
        from tapbridge.guests.findings import unguarded

        findings = unguarded(guests, state)
    return Result(document={"bridges": bridges, "pending": pending}, text=text, findings=findings)


def _pending(world: World, host: LinuxHost) -> dict[str, Any] | None:
    """The change that waits to be confirmed; what needs datetime and JSON is imported only if there may be one."""
    if not os.path.exists(world.journal_dir(host) / "journal"):  # a user may not look
        return None
    from tapbridge.cli.pending import find_pending

    return find_pending(world, host)


def _guests(state: State) -> tuple[Guest, ...]:
    """The guests behind the taps, whoever started them."""
    if not any(is_tap(link) for link in state.links):
        return ()
    from tapbridge.guests.survey import identify

    return identify(state)


def _owners(bridges: Sequence[Link]) -> dict[str, str]:
    """Who holds each bridge."""
    if not bridges:
        return {}
    from tapbridge.linux.holding import find_holders

    return find_holders([(link.name, link.index) for link in bridges])


def _text(state: State, guests: tuple[Guest, ...], world: World) -> str:
    from tapbridge.draw.style import ansi, plain
    from tapbridge.draw.text import speaks_unicode
    from tapbridge.draw.tree import host_tree

    unicode = speaks_unicode(sys.stdout.encoding)
    return host_tree(state, guests, unicode=unicode, style=ansi if world.colour() else plain)


def _bridge(state: State, link: Link, behind: _Behind, owner: str | None, world: World) -> dict[str, Any]:
    uplink = find_uplink(state, link.name)
    return {
        "name": link.name,
        "mac": link.mac,
        "up": link.up and link.carrier,
        "uplink": uplink.name if uplink else None,
        "addresses": [address_json(a) for a in state.addresses_of(link.name)],
        "vlan_aware": tells_vlans_apart(link),
        "ports": [_port(port, behind, aware=tells_vlans_apart(link)) for port in state.ports(link.name)],
        "owner": owner,
        "lease": _lease(state, link.name) if owner is not None else None,
        "saved": _is_saved(world, link.name),
    }


def _lease(state: State, bridge: str) -> dict[str, Any] | None:
    """The IPv4 address that a client or manager keeps there for a time, and how much of it is left."""
    leased = [a for a in state.addresses_of(bridge, 4) if a.valid_lft is not None]
    return {"ip": leased[0].ip, "valid_lft": leased[0].valid_lft} if leased else None


def _is_saved(world: World, bridge: str) -> bool | None:
    """Whether the next boot makes the bridge, by our doing; None for a user who may not look."""
    try:
        os.stat(world.saved_record(bridge))
    except FileNotFoundError:
        return False
    except OSError:
        return None
    return True


def _port(port: Link, behind: _Behind, *, aware: bool) -> dict[str, Any]:
    guest, nic = behind.get(port.name, (None, None))
    return {
        "name": port.name,
        "kind": port.kind or "nic",
        "up": port.up and port.carrier,
        "guest": find_guest_name(port) or (guest.name if guest is not None else None),
        "vlans": [_vlans(vlans) for vlans in port.vlans] if aware else None,
        "rate": nic.rate if nic is not None else None,
        "guard": nic.guard if nic is not None else None,
    }


def _vlans(vlans: Vlans) -> dict[str, Any]:
    return {"first": vlans.first, "last": vlans.last, "pvid": vlans.pvid, "untagged": vlans.untagged}


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
