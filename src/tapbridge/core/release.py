"""The NIC gets its place back. Planned from what is on the bridge now; the bridge's mark supplies the names."""

from __future__ import annotations

from tapbridge.core.adopt import HandOver
from tapbridge.core.draft import Draft
from tapbridge.core.mark import Mark, find_marked_uplink, read_mark, read_tap_mark
from tapbridge.core.refuse import find_link
from tapbridge.core.transfer import LOOPBACK, Transfer, deafen, loosen_rp_filter
from tapbridge.core.wireless import with_three_addresses
from tapbridge.model.errors import Refused
from tapbridge.model.intent import Release
from tapbridge.model.noun import replace
from tapbridge.model.plan import Plan, Reason
from tapbridge.model.state import Link, State, Sysctl
from tapbridge.model.step import (
    DeleteLink,
    RenameLink,
    SetAddressGeneration,
    SetAlias,
    SetMac,
    SetMaster,
    SetSysctl,
    Shield,
    Unshield,
)
from tapbridge.model.values import IfName
from tapbridge.model.verdict import Finding, Severity

GONE = IfName("tbgone")
"""What a bridge is called that has given a NIC its name back."""


def find_released(state: State, name: str | None, verb: str = "down") -> Link:
    """The bridge of ours that `verb` is about; without a name, the only one. Raises Refused."""
    if name is not None:
        bridge = find_link(state, name)
        if bridge.kind == "bridge" and read_mark(bridge) is None:
            raise Refused(
                f"the bridge {bridge.name} was not made by tapbridge",
                hint="whoever made it must take it away; tapbridge status shows which bridges are ours",
                code="bridge-not-ours",
                subject=bridge.name,
            )
        if bridge.kind != "bridge":
            raise Refused(
                f"{bridge.name} is no bridge", hint="tapbridge status shows the bridges", code="not-a-bridge",
                subject=bridge.name,
            )  # fmt: skip
        return bridge
    ours = [link for link in state.links if read_mark(link) is not None]
    if len(ours) == 1:
        return ours[0]
    if not ours:
        raise Refused("there is no bridge of ours here", hint="tapbridge status", code="nothing-to-do")
    names = ", ".join(link.name for link in ours)
    raise Refused(
        f"there are several bridges of ours: {names}", hint=f"name one: tapbridge {verb} NAME", code="ambiguous"
    )


def release(intent: Release, state: State, hand_over: HandOver | None = None) -> Plan:
    """The plan that gives the uplink of a bridge of ours its place back. Raises Refused where it must not."""
    hand_over = hand_over or HandOver()
    bridge = find_released(state, intent.bridge)
    mark = read_mark(bridge)
    assert mark is not None, "find_released returns only marked bridges"
    ports = state.ports(bridge.name)
    uplink = _require_uplink(state, bridge, ports)
    guests = _require_guests_gone(intent, bridge, uplink, ports)
    swapped = bridge.name == mark.nic and uplink.name != mark.nic
    nic_after = mark.nic if swapped else uplink.name
    bridge_after = GONE if swapped else bridge.name

    draft = Draft(state)
    draft.stage(Reason.PREPARE)
    own_filter = loosen_rp_filter(draft, uplink.name)
    loosen_rp_filter(draft, bridge.name)
    _carry_switches(draft, bridge, uplink)
    transfer = Transfer(
        draft,
        source=bridge.name,
        target=uplink.name,
        source_after=bridge_after,
        target_after=nic_after,
        aside=hand_over.anew,
    )
    transfer.prepare()
    heard = deafen(draft, bridge.name)
    draft.stage(Reason.OWNER)
    draft.do(*hand_over.before)
    draft.stage(Reason.SHIELD)
    draft.do(Shield(link=uplink.name, to=bridge.name))
    draft.stage(Reason.MOVE)
    if swapped:
        draft.do(RenameLink(link=bridge.name, to=bridge_after), RenameLink(link=uplink.name, to=nic_after))
        transfer.late_addresses()
    transfer.move_routes()
    draft.do(SetMaster(link=nic_after, master=None))
    transfer.leave()
    draft.stage(Reason.SETTLE)
    draft.do(Unshield(link=nic_after))
    if hand_over.anew:
        transfer.settle_link_local()
    else:
        transfer.settle()
    draft.do(SetAddressGeneration(link=nic_after, mode=bridge.addr_gen_mode, token=bridge.token))
    _carry_filter(draft, own_filter, bridge, nic_after)
    _carry_mode(draft, mark, bridge, nic_after)
    draft.stage(Reason.OWNER)
    draft.do(*hand_over.after)
    if hand_over.anew:
        draft.stage(Reason.SETTLE)
        transfer.settle()
    draft.stage(Reason.TIDY)
    draft.do(*(SetMaster(link=guest.name, master=None) for guest in guests))
    _take_bridge_away(draft, bridge_after, mark, heard)
    left_alone = tuple(guest.name for guest in guests)
    aside = (LOOPBACK,) if hand_over.anew else ()
    touched = tuple(dict.fromkeys((uplink.name, nic_after, bridge.name, bridge_after, *left_alone, *aside)))
    return draft.plan("down", touched, _left_alone(guests) + hand_over.risks)


def _carry_filter(draft: Draft, own: Sysctl | None, bridge: Link, nic: IfName) -> None:
    """The filter that was loosened for the window becomes what the bridge has."""
    now = draft.before.sysctl(bridge.name, "ipv4", "rp_filter")
    if own is not None and now is not None:
        draft.do(SetSysctl(sysctl=replace(own, link=nic, value=now)))


def _carry_mode(draft: Draft, mark: Mark, bridge: Link, nic: IfName) -> None:
    """A wireless card that had three addresses in its frames gets them back, now that it is no port any more."""
    link = draft.state.link(nic)
    if mark.three_addresses and link is not None and link.four_address:
        draft.do(with_three_addresses(draft.before, bridge.name, nic))


def _carry_switches(draft: Draft, bridge: Link, uplink: Link) -> None:
    for own in draft.before.sysctls:
        if own.link == bridge.name and (own.stack, own.name) != ("ipv4", "rp_filter"):
            there = draft.before.sysctl(uplink.name, own.stack, own.name)
            if there is not None and there != own.value:
                draft.do(SetSysctl(sysctl=replace(own, link=uplink.name)))


def _require_uplink(state: State, bridge: Link, ports: tuple[Link, ...]) -> Link:
    uplink = find_marked_uplink(bridge, ports)
    if uplink is None:
        raise Refused(
            f"the NIC that {bridge.name} was made for is not one of its ports any more, so nothing can be given back",
            hint=f"put it back (ip link set NIC master {bridge.name}) or delete the bridge (ip link del {bridge.name})",
            code="no-uplink",
            subject=bridge.name,
        )
    return uplink


def _require_guests_gone(intent: Release, bridge: Link, uplink: Link, ports: tuple[Link, ...]) -> tuple[Link, ...]:
    others = [port for port in ports if port.name != uplink.name and not _is_keeper(port)]
    foreign = [port.name for port in others if port.kind not in ("tap", "tun")]
    if foreign:
        raise Refused(
            f"{bridge.name} has ports that are neither its uplink nor a guest's: {', '.join(foreign)}",
            hint=f"take them out first: ip link set {foreign[0]} nomaster",
            code="foreign-ports",
            subject=bridge.name,
        )
    guests = tuple(port for port in others if port.kind in ("tap", "tun"))
    if any(not _waits(guest) for guest in guests) and not intent.force:
        names = ", ".join(guest.name for guest in guests if not _waits(guest))
        raise Refused(
            f"guests are attached to {bridge.name} ({names}) and would lose their network",
            hint="stop them first (tapbridge ps names them), or leave them without a network: tapbridge down --force",
            code="guests-attached",
            subject=bridge.name,
        )
    return guests


def _waits(port: Link) -> bool:
    """Whether a tap has no guest: `up` gives it its place back."""
    return read_tap_mark(port) is not None and not port.carrier


def _is_keeper(port: Link) -> bool:
    return port.ours and port.kind == "veth"


def _take_bridge_away(draft: Draft, bridge: IfName, mark: Mark, heard: Sysctl | None) -> None:
    for port in draft.state.ports(bridge):
        if _is_keeper(port):
            draft.do(DeleteLink(link=port.name))
    if mark.kept is None:
        draft.do(DeleteLink(link=bridge))
        return
    draft.do(SetAlias(link=bridge, alias=None), SetMac(link=bridge, mac=mark.kept))
    if heard is not None:
        draft.do(SetSysctl(sysctl=replace(heard, link=bridge)))


def _left_alone(guests: tuple[Link, ...]) -> tuple[Finding, ...]:
    return tuple(
        Finding(
            code="guest-without-network",
            severity=Severity.WARNING,
            subject=guest.name,
            message=f"{guest.name} is left without a bridge; its guest has no network",
            fix=f"ip link set {guest.name} master BRIDGE",
        )
        for guest in guests
        if not _waits(guest)
    )
