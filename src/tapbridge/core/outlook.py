"""What a configuration will make of a bridge at the next boot, beside what the bridge is now. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from tapbridge.model.noun import dataclass
from tapbridge.model.state import PROTO_DHCP, PROTO_KERNEL, PROTO_RA, SCOPE_GLOBAL, TABLE_MAIN, Address, State
from tapbridge.model.values import Family, IfName, is_link_local, parse_ip
from tapbridge.model.verdict import Finding, Severity

_DEFAULTS = ("0.0.0.0/0", "::/0")
_TOLD = (PROTO_KERNEL, PROTO_RA, PROTO_DHCP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What files say of a link: addresses as `ip/prefix`, gateways, and the families in which a server is asked.

    `words` are all the words of commands in it, which may do anything: what is among them is not missed.
    """

    addresses: frozenset[str] = frozenset()
    gateways: frozenset[str] = frozenset()
    asked: frozenset[Family] = frozenset()
    words: frozenset[str] = frozenset()


def canonical(text: str) -> str:
    """An address, with or without its prefix, as the kernel writes it; what is none stays as it is."""
    ip, slash, prefix = text.partition("/")
    try:
        return parse_ip(ip)[1] + slash + prefix
    except ValueError:
        return text


def differences(outlook: Outlook, state: State, bridge: IfName) -> tuple[Finding, ...]:
    """What would be otherwise after a reboot, each as a warning.

    What routers advertise is the kernel's business, and comes and goes without anybody's file.
    """
    return tuple(_differs(bridge, message) for message in _messages(outlook, state, bridge))


def _messages(outlook: Outlook, state: State, bridge: IfName) -> Iterator[str]:
    there = [a for a in state.addresses_of(bridge) if a.scope == SCOPE_GLOBAL and not is_link_local(a.family, a.ip)]
    for address in there:
        text = f"{address.ip}/{address.prefix}"
        if not _is_expected(address, outlook, there) and not {text, address.ip} & outlook.words:
            yield f"{text} is on {bridge} now, and would not be after a reboot"
    now = {f"{a.ip}/{a.prefix}" for a in there}
    for text in sorted(outlook.addresses - now):
        yield f"{text} would be on {bridge} after a reboot, and is not now"
    routes = [r for r in state.routes_of(bridge) if r.dst in _DEFAULTS and r.table == TABLE_MAIN]
    told = [r for r in routes if r.protocol not in _TOLD and r.family not in outlook.asked]
    for gateway in sorted({hop.gateway for r in told for hop in r.nexthops if hop.gateway} - outlook.gateways):
        if gateway not in outlook.words:
            yield f"the default route by {gateway} is there now, and would not be after a reboot"
    ways = {hop.gateway for r in routes for hop in r.nexthops}
    for gateway in sorted(outlook.gateways - ways):
        yield f"a default route by {gateway} would be there after a reboot, and is not now"


def _is_expected(address: Address, outlook: Outlook, there: list[Address]) -> bool:
    if f"{address.ip}/{address.prefix}" in outlook.addresses:
        return True
    if address.valid_lft is not None:
        return address.family == 6 or address.family in outlook.asked
    leased = [a for a in there if a.family == address.family and a.valid_lft is not None]
    return address.family in outlook.asked and not leased  # udhcpc gives its address no lifetime


def _differs(bridge: IfName, message: str) -> Finding:
    return Finding(
        code="differs-after-reboot",
        severity=Severity.WARNING,
        subject=bridge,
        message=message,
        fix="make it so now, or put it into the configuration, before you save",
    )
