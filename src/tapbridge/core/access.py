"""How a guest's tap gets into a VLAN, on a bridge that tells VLANs apart, and how ports get back into theirs.

Every port begins in the bridge's own VLAN (its default PVID), and so does the host: frames without a tag go on as on
any other bridge. A guest's tap leaves that VLAN for its own, as an access port, whose frames have no tag; the uplink
is in the guest's VLAN as well, with the tag.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tapbridge.core.topology import find_uplink
from tapbridge.core.vlans import each_vlan, first_vlans, is_in, one_vlan, ranges, tells_vlans_apart
from tapbridge.model.errors import Refused
from tapbridge.model.noun import dataclass, replace
from tapbridge.model.plan import Plan
from tapbridge.model.state import Link, State
from tapbridge.model.step import DeleteVlans, PutVlans, SetVlanFiltering, Step
from tapbridge.model.values import IfName


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The VLAN that a tap is to be in, and the uplink that leads there, if the bridge has one."""

    vlan: int
    uplink: Link | None = None


def access_steps(tap: IfName, bridge: Link, access: Access) -> tuple[Step, ...]:
    """Make a tap that has just joined the bridge, and is down, an access port of a VLAN, and lead the uplink there."""
    leave = (vlans for vlans in first_vlans(bridge) if vlans.first != access.vlan)
    lead = access.uplink is not None and not is_in(access.uplink, access.vlan)
    return (
        PutVlans(link=tap, vlans=one_vlan(access.vlan, access=True)),
        *(DeleteVlans(link=tap, vlans=vlans) for vlans in leave),
        *([PutVlans(link=access.uplink.name, vlans=one_vlan(access.vlan))] if lead and access.uplink else []),
    )


def find_access(bridge: Link | None, vlan: int | None, state: State) -> Access | None:
    """How a tap on the bridge gets into that VLAN; None where none was asked for."""
    if bridge is None or vlan is None:
        return None
    return Access(vlan=vlan, uplink=find_uplink(state, bridge.name))


def require_access(bridge: Link | None, vlan: int | None, state: State) -> Access | None:
    """Likewise. Raises Refused where a tap would not get into that VLAN."""
    access = find_access(bridge, vlan, state)
    if access is None or bridge is None:
        return None
    uplink = access.uplink
    if not tells_vlans_apart(bridge):
        on = f"ip link set {bridge.name} type bridge vlan_filtering 1"
        hint = f"tapbridge up {uplink.name} --vlan-aware" if uplink is not None and bridge.ours else on
        raise Refused(
            f"{bridge.name} does not tell VLANs apart, so no tap can be put into one",
            hint=f"let it: {hint}; nothing is lost by that",
            code="not-vlan-aware",
            subject=bridge.name,
        )
    taken = _link_of(access, state)
    if taken is not None and uplink is not None:
        raise Refused(
            f"{taken.name} on {uplink.name} takes the frames of VLAN {access.vlan} before the bridge sees them",
            hint=f"guests in that VLAN can have a bridge of their own: tapbridge up {taken.name} --bridge NAME",
            code="vlan-taken",
            subject=taken.name,
        )
    return access


def with_uplinks(plan: Plan) -> Plan:
    """The plan, by which the uplinks are touched as well that it leads into a VLAN."""
    led = (step.link for step in plan.steps if isinstance(step, PutVlans))
    return replace(plan, touched=tuple(dict.fromkeys((*plan.touched, *led))))


def restore_vlans(pairs: Iterable[tuple[Link, Link]]) -> Iterator[Step]:
    """The steps that put links back, which are pairs of (as it was, as it is): bridges first, then their ports.

    Where the bridge told no VLANs apart before, it says nothing of its ports', and they are left.
    """
    found = list(pairs)
    unseen = {}
    for was, link in found:
        if was.bridge and link.bridge and was.bridge.vlan_filtering != link.bridge.vlan_filtering:
            yield SetVlanFiltering(link=was.name, on=was.bridge.vlan_filtering)
            unseen[was.name] = first_vlans(was)
    for was, link in found:
        there = link.vlans or unseen.get(was.master or was.name, ())
        if was.master is None or not was.vlans or was.vlans == there:
            continue
        yield from (PutVlans(link=was.name, vlans=vlans) for vlans in was.vlans if vlans not in there)
        wanted = each_vlan(was.vlans)
        beyond = {number: one for number, one in each_vlan(there).items() if number not in wanted}
        yield from (DeleteVlans(link=was.name, vlans=vlans) for vlans in ranges(beyond))


def _link_of(access: Access, state: State) -> Link | None:
    """The VLAN link on the uplink that has this number."""
    links = (x for x in state.links if access.uplink is not None and x.parent == access.uplink.name)
    return next((link for link in links if link.vlan_id == access.vlan), None)
