"""Does the host stay reachable through every prefix of a plan? Asked before the first step is taken.

A frame that arrives on the NIC is answered if its destination is an address of some link (Linux answers ARP and
takes packets for any of its addresses on any link), and if a route leads back out: through the NIC itself, port or not,
or through the bridge while the NIC is its port and the bridge has carrier.
"""

from __future__ import annotations

from tapbridge.core.effect import effect
from tapbridge.model.plan import Plan
from tapbridge.model.state import DADFAILED, Link, Route, State
from tapbridge.model.values import is_link_local
from tapbridge.model.verdict import Finding, Severity, Verdict


def guard(plan: Plan, uplink: Link) -> Verdict:
    """Whether after every prefix the host has all addresses and routes that it had through `uplink`, and they work.

    `uplink` is a link of `plan.before`; it is followed by its number, not by its name.
    """
    carrier = uplink.name if uplink.master is None else uplink.master
    addresses = {
        a.ip for a in plan.before.addresses_of(carrier) if not a.flags & DADFAILED and not is_link_local(a.family, a.ip)
    }
    networks = {
        (r.family, r.table, r.dst)
        for r in plan.before.routes_of(carrier)
        if not is_link_local(r.family, r.dst.partition("/")[0])
    }
    state = plan.before
    for number, step in enumerate(plan.steps):
        state = effect(step, state)
        lost = addresses - {a.ip for a in state.addresses}
        reached = {(r.family, r.table, r.dst) for r in state.routes if leads_out(state, r, uplink.index)}
        missing = sorted(lost) + sorted(dst for _, _, dst in networks - reached)
        if missing:
            message = f"after step {number + 1} ({type(step).__name__}) the host would not have {', '.join(missing)}"
            finding = Finding(code="cut-off", severity=Severity.ERROR, subject=carrier, message=message)
            return Verdict(findings=(finding,))
    return Verdict()


def leads_out(state: State, route: Route, index: int) -> bool:
    """Whether a route leads out through the NIC of this number, or through the bridge whose port it is."""
    if not route.nexthops:
        return True
    nic = next((link for link in state.links if link.index == index), None)
    if nic is None:
        return False
    ways = {nic.name}
    bridge = state.link(nic.master) if nic.master else None
    if bridge is not None and bridge.up and bridge.carrier:
        ways.add(bridge.name)
    return any(hop.link in ways for hop in route.nexthops)
