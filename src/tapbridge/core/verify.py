"""Does a state have what was asked for? Read back after every change, and before a plan: nothing to do."""

from __future__ import annotations

from tapbridge.core.mark import find_marked_uplink, read_mark
from tapbridge.core.merge import passes
from tapbridge.core.vlans import tells_vlans_apart
from tapbridge.model.intent import Adopt
from tapbridge.model.plan import Plan
from tapbridge.model.state import PROTO_KERNEL, PROTO_RA, Link, State
from tapbridge.model.values import is_link_local
from tapbridge.model.verdict import Finding, Severity, Verdict


def verify(intent: Adopt, state: State) -> Verdict:
    """Whether the NIC is a port of a bridge that carries what the NIC carried."""
    nic = _nic(intent, state)
    if nic is None:
        return _failed("no-such-link", intent.nic, f"there is no link {intent.nic}", "a link", "none")
    bridge = state.link(nic.master) if nic.master else None
    if bridge is None or bridge.kind != "bridge":
        return _failed("not-a-port", nic.name, f"{nic.name} is no port of a bridge", intent.bridge, nic.master)
    found = [
        _wrong("address-on-port", nic.name, f"{a.ip} is still on the port {nic.name}", "none", a.ip)
        for a in state.addresses_of(nic.name)
        if not is_link_local(a.family, a.ip)
    ]
    found += [
        _wrong(
            "route-on-port", nic.name, f"the route to {r.dst} still leads through the port {nic.name}", "none", r.dst
        )
        for r in state.routes_of(nic.name)
        if not is_link_local(r.family, r.dst.partition("/")[0])
    ]
    if not bridge.up:
        found.append(_wrong("bridge-down", bridge.name, f"the bridge {bridge.name} is down", "up", "down"))
    if read_mark(bridge) is not None and bridge.mac != nic.mac:
        text = f"{bridge.name} has another Ethernet address than {nic.name}"
        found.append(_wrong("bridge-mac", bridge.name, text, nic.mac, bridge.mac))
    if intent.vlan_aware and not tells_vlans_apart(bridge):
        found.append(_wrong("not-vlan-aware", bridge.name, f"{bridge.name} does not tell VLANs apart", "on", "off"))
    return Verdict(findings=tuple(found))


def verify_uplink(plan: Plan, uplink: Link, found: State) -> Verdict:
    """Whether the uplink, known by its number, is called and placed as planned, is up, and has its carrier still."""
    link = next((x for x in found.links if x.index == uplink.index), None)
    if link is None:
        return _failed("uplink-gone", uplink.name, f"{uplink.name} is not there any more", uplink.name, None)
    wanted = next(x for x in plan.after.links if x.index == uplink.index)
    wrong = []
    if link.name != wanted.name:
        text = f"{wanted.name} is called {link.name} now"
        wrong.append(_wrong("uplink-renamed", wanted.name, text, wanted.name, link.name))
    if link.master != wanted.master:
        text = f"{link.name} is a port of {link.master}" if link.master else f"{link.name} is no port"
        wrong.append(_wrong("uplink-moved", link.name, text, wanted.master, link.master))
    if wanted.up and not link.up:
        wrong.append(_wrong("uplink-down", link.name, f"{link.name} is down", "up", "down"))
    elif uplink.carrier and not link.carrier:
        wrong.append(_wrong("no-carrier", link.name, f"{link.name} has lost its carrier", "carrier", "none"))
    return Verdict(findings=tuple(wrong))


def verify_gone(plan: Plan, found: State) -> Verdict:
    """Whether every link that the plan takes away, its scaffolding too, is gone."""
    names = {link.name for link in plan.after.links}
    left = [link.name for link in found.links if link.name in plan.touched and link.name not in names]
    return Verdict(findings=tuple(_wrong("left-behind", x, f"{x} is still there", None, x) for x in left))


def verify_empty(wanted: State, found: State, name: str) -> Verdict:
    """Whether a link has nothing that would be lost when its place is left: nothing that is not in `wanted`."""
    addresses = {(a.ip, a.prefix) for a in wanted.addresses}
    routes = {(r.family, r.table, r.dst) for r in wanted.routes}
    added = [
        f"{a.ip}/{a.prefix}" for a in found.addresses_of(name) if (a.ip, a.prefix) not in addresses and not passes(a)
    ]
    added += [
        f"a route to {r.dst}"
        for r in found.routes_of(name)
        if (r.family, r.table, r.dst) not in routes and r.protocol not in (PROTO_KERNEL, PROTO_RA)
    ]
    return Verdict(
        findings=tuple(_wrong("added-meanwhile", name, f"{what} was added to {name}", None, what) for what in added)
    )


def verify_alone(plan: Plan, found: State) -> Verdict:
    """Whether, before the move, the link that is left is as the plan knows it.

    What somebody has added to it would go with what goes; and where a route of it is gone, the move would replace the
    one of another link that is the first of its slot now.
    """
    links = [x.name for x in plan.before.links if x.name in plan.touched and x.kind != "loopback"]
    left = [name for name in links if plan.before.addresses_of(name)]
    verdicts = [
        verdict
        for name in left
        for verdict in (verify_empty(plan.before, found, name), verify_carried(plan.before, found, name))
    ]
    return Verdict(findings=tuple(finding for verdict in verdicts for finding in verdict.findings))


def verify_carried(wanted: State, found: State, link: str) -> Verdict:
    """Whether the link has every address and every route that it was to have."""
    addresses = {(a.ip, a.prefix) for a in found.addresses_of(link)}
    routes = {(r.family, r.table, r.dst) for r in found.routes_of(link)}
    missing = [
        _wrong("address-missing", link, f"{a.ip}/{a.prefix} is not on {link}", a.ip, None)
        for a in wanted.addresses_of(link)
        if (a.ip, a.prefix) not in addresses and not a.temporary
    ]
    missing += [
        _wrong(
            "route-missing", link, f"the route to {r.dst} (table {r.table}) does not lead through {link}", r.dst, None
        )
        for r in wanted.routes_of(link)
        if (r.family, r.table, r.dst) not in routes and r.protocol != PROTO_RA
    ]
    return Verdict(findings=tuple(missing))


def _nic(intent: Adopt, state: State) -> Link | None:
    """The NIC, which after --take-name is the uplink of the bridge that has its name."""
    link = state.link(intent.nic)
    if link is None or link.kind != "bridge":
        return link
    return find_marked_uplink(link, state.ports(link.name))


def _wrong(code: str, subject: str, message: str, expected: str | None, actual: str | None) -> Finding:
    return Finding(
        code=code, severity=Severity.ERROR, subject=subject, message=message, expected=expected, actual=actual
    )


def _failed(code: str, subject: str, message: str, expected: str | None, actual: str | None) -> Verdict:
    return Verdict(findings=(_wrong(code, subject, message, expected, actual),))
