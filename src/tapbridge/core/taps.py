"""Taps that wait for guests: made before anybody has them open, deleted when nobody has.

A tap's mark says what was asked for, so nothing about a living tap need be remembered elsewhere. What is to come back
after a reboot is written down (core/saved.py). The file is written first: a change that was cut off counts as finished
when the kernel has all of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final

from tapbridge.core.access import access_steps, find_access, require_access, with_uplinks
from tapbridge.core.attach import (
    MTU_LARGEST,
    MTU_USUAL,
    NO_ADDRESS,
    PORTS,
    find_bridge_with_room,
    has_ipv6,
    lost_places,
    rejoin_steps,
)
from tapbridge.core.draft import Draft
from tapbridge.core.macs import lone_tap_mac
from tapbridge.core.mark import TapMark, make_tap_mark, read_tap_mark
from tapbridge.core.refuse import find_link
from tapbridge.core.vlans import find_pvid
from tapbridge.model.errors import Refused
from tapbridge.model.guest import Guest, TapUse
from tapbridge.model.intent import DropTaps, MakeTap
from tapbridge.model.plan import Plan, Reason
from tapbridge.model.state import ALIAS, Link, State, Tap
from tapbridge.model.step import AddTap, DeleteLink, DeleteTaps, SetUp, Step
from tapbridge.model.values import IfName
from tapbridge.model.verdict import Finding, Severity, Verdict

_ALTNAME: Final = f"{ALIAS}-"


def add_tap(intent: MakeTap, state: State, save: Sequence[Step] = ()) -> Plan:
    """The plan for one tap, empty if it is so already; `save` writes down that it comes back. Raises Refused."""
    draft = Draft(state)
    draft.stage(Reason.TAP)
    bridge = _require_bridge(intent.bridge, state) if intent.bridge is not None else None
    require_access(bridge, intent.vlan, state)
    draft.do(*save)
    link = state.link(intent.name)
    if link is None:
        draft.do(*_new_tap(intent, bridge, state))
    else:
        _require_same(intent, link)
        if link.master is None:
            draft.do(*rejoin_steps(link, bridge, state))
        if not link.up:
            draft.do(SetUp(link=link.name, up=True))
    return with_uplinks(draft.plan("tap add", (intent.name,)))


def return_taps(saved: Sequence[MakeTap], state: State) -> Plan:
    """The plan by which taps come back: those that are not there, and the place in its bridge of each that has lost it.

    A bridge that is not there yet is waited for: the same again makes them its ports. A name that is another link's
    is a risk, and keeps no other tap from coming back.
    """
    draft, touched, risks = Draft(state), [], []
    places: Counter[str] = Counter()
    draft.stage(Reason.TAP)
    for intent in saved:
        link = state.link(intent.name)
        if link is None:
            bridge = find_bridge_with_room(intent.bridge, state, places[intent.bridge or ""], intent.vlan)
            places[intent.bridge or ""] += 1
            draft.do(*_new_tap(intent, bridge, state))
            touched.append(intent.name)
        elif read_tap_mark(link) is None:
            risks.append(_not_ours(link))
    for link, bridge in lost_places(state):
        draft.do(*rejoin_steps(link, bridge, draft.state))
        touched.append(link.name)
    return with_uplinks(draft.plan("tap add", tuple(touched), tuple(risks)))


def delete_taps(intent: DropTaps, state: State, uses: Sequence[TapUse], save: Sequence[Step] = ()) -> Plan:
    """The plan that deletes; `save` forgets what was to come back, and goes first. Raises Refused."""
    doomed = find_doomed(intent, uses)
    ours = tuple(use.name for use in doomed if use.ours)
    draft = Draft(state)
    draft.stage(Reason.TAP)
    draft.do(*save)
    if ours:
        draft.do(DeleteTaps(taps=ours))
    draft.do(*(DeleteLink(link=use.name) for use in doomed if not use.ours))
    return draft.plan("tap del", tuple(use.name for use in doomed))


def find_doomed(intent: DropTaps, uses: Sequence[TapUse]) -> tuple[TapUse, ...]:
    """The taps that are meant: one that is not there is no error. Raises Refused for one that must stay."""
    if intent.name is None:
        return tuple(use for use in uses if use.ours and (intent.force or not use.in_use))
    use = next((one for one in uses if one.name == intent.name), None)
    if use is None:
        return ()
    if intent.force:
        return (use,)
    if not use.ours:
        raise Refused(
            f"the tap {use.name} was not made by tapbridge",
            hint=f"whoever made it should delete it; or do it all the same: tapbridge tap del {use.name} --force",
            code="not-ours",
            subject=use.name,
        )
    if use.in_use:
        raise Refused(
            f"the tap {use.name} is in use: {told_user(use)} would lose its network",
            hint=f"end the guest first, or take its network away: tapbridge tap del {use.name} --force",
            code="tap-in-use",
            subject=use.name,
        )
    return (use,)


def told_user(use: TapUse) -> str:
    """Who has a tap open, for a sentence."""
    if use.pid is None:
        return "a process that cannot be seen from here"
    return f"the guest {use.guest!r} (PID {use.pid})" if use.guest else f"the process {use.pid}"


def find_intent(link: Link) -> MakeTap | None:
    """What was asked for when the tap was made; None for a link that `tap add` did not make."""
    mark = read_tap_mark(link)
    if mark is None or link.tap is None:
        return None
    return MakeTap(
        name=link.name,
        owner=link.tap.owner,
        group=link.tap.group,
        bridge=mark.bridge,
        queues=mark.queues,
        vlan=mark.vlan,
    )


def tap_uses(
    state: State,
    guests: Iterable[Guest],
    user: Callable[[int], str],
    group: Callable[[int], str],
    saved: Collection[str] | None,
) -> tuple[TapUse, ...]:
    """The taps of a state by name; `user` and `group` give names to numbers, `saved` are the names of those that come
    back, None if nobody knows. Carrier tells of an opener unseen."""
    holders = {nic.link: guest for guest in guests if guest.pid is not None for nic in guest.nics}
    holds = {hold.link: hold for hold in state.holds}
    found = []
    for link in state.links:
        if link.tap is None:
            continue
        mark, holder, hold = read_tap_mark(link), holders.get(link.name), holds.get(link.name)
        found.append(
            TapUse(
                name=link.name,
                owner=None if link.tap.owner is None else user(link.tap.owner),
                group=None if link.tap.group is None else group(link.tap.group),
                bridge=link.master if link.master_kind == "bridge" else None,
                vlan=find_pvid(link),
                queues=mark.queues if mark is not None else None if link.tap.multi_queue else 1,
                saved=None if saved is None else link.name in saved,
                in_use=holder is not None or link.carrier,
                guest=holder.name if holder is not None else None,
                pid=holder.pid if holder is not None else None,
                ours=link.ours,
                rate=hold.rate if hold is not None else None,
                guard=hold.guard if hold is not None else None,
            )
        )
    return tuple(found)


def verify_tap(intent: MakeTap, state: State) -> Verdict:
    """Whether the tap is there as it was asked for."""
    link = state.link(intent.name)
    if link is None or link.tap is None:
        return _wrong(intent.name, "is not there")
    asked = (intent.owner, intent.group, intent.queues > 1, True)
    if (link.tap.owner, link.tap.group, link.tap.multi_queue, link.tap.persist) != asked:
        return _wrong(intent.name, "has another user or other queues than it was given")
    if link.master != intent.bridge:
        return _wrong(intent.name, f"is {f'a port of {link.master}' if link.master else 'no port'}")
    if intent.vlan is not None and find_pvid(link) != intent.vlan:
        return _wrong(intent.name, f"is not in VLAN {intent.vlan}")
    return Verdict() if link.up else _wrong(intent.name, "is down")


def verify_gone(names: Sequence[str], state: State) -> Verdict:
    """Whether none of the taps is there any more."""
    left = [name for name in names if any(link.name == name for link in state.links)]
    return _wrong(left[0], "is still there") if left else Verdict()


def _new_tap(intent: MakeTap, bridge: Link | None, state: State) -> tuple[Step, ...]:
    """The MTU is set before the bridge sees it, because a bridge takes the lowest of its ports'; the host takes no
    address of its own on the guest's wire. One that goes into a VLAN is up only when it is there."""
    wanted = MTU_USUAL if bridge is None else min(bridge.mtu, MTU_LARGEST)
    access = find_access(bridge, intent.vlan, state)
    made = AddTap(
        name=intent.name,
        mac=lone_tap_mac(intent.name),
        tap=Tap(owner=intent.owner, group=intent.group, persist=True, multi_queue=intent.queues > 1, vnet_hdr=True),
        alias=make_tap_mark(TapMark(queues=intent.queues, bridge=intent.bridge, vlan=intent.vlan)),
        altnames=(_ALTNAME + intent.name,),
        mtu=None if wanted == MTU_USUAL else wanted,
        addr_gen_mode=NO_ADDRESS if has_ipv6(state) else None,
        master=None if bridge is None else bridge.name,
        up=access is None,
    )
    if access is None or bridge is None:
        return (made,)
    return made, *access_steps(intent.name, bridge, access), SetUp(link=intent.name, up=True)


def _require_bridge(name: IfName, state: State) -> Link:
    link = find_link(state, name)
    if link.kind != "bridge":
        where = f"it is a port of {link.master}: --bridge {link.master}" if link.master else "tapbridge status"
        raise Refused(f"{link.name} is no bridge", hint=where, code="not-a-bridge", subject=link.name)
    if len(state.ports(link.name)) >= PORTS:
        raise Refused(
            f"{link.name} has {PORTS} ports, and a bridge takes no more",
            hint="use another bridge",
            code="bridge-full",
            subject=link.name,
        )
    return link


def _require_same(intent: MakeTap, link: Link) -> None:
    there = find_intent(link) if link.name == intent.name else None
    if there is None:
        what = f"the {link.kind or 'link'} {link.name}" if link.name != intent.name else f"a {link.kind or 'NIC'}"
        raise Refused(
            f"the name {intent.name} is taken: it is that of {what} which `tapbridge tap add` did not make",
            hint="choose another name; tapbridge tap list shows the taps",
            code="name-taken",
            subject=intent.name,
        )
    for what, has, asked in (
        ("owner", there.owner, intent.owner),
        ("group", there.group, intent.group),
        ("bridge", there.bridge, intent.bridge),
        ("bridge", link.master or intent.bridge, intent.bridge),
        ("number of queues", there.queues, intent.queues),
        ("VLAN", there.vlan, intent.vlan),
    ):
        if has != asked:
            raise Refused(
                f"there is a tap {link.name} already, with another {what}: {_word(has)}, not {_word(asked)}",
                hint=f"delete it first (tapbridge tap del {link.name}), or choose another name",
                code="tap-differs",
                subject=link.name,
            )


def _word(value: object) -> str:
    return "none" if value is None else str(value)


def _not_ours(link: Link) -> Finding:
    return Finding(
        code="name-taken",
        severity=Severity.WARNING,
        subject=link.name,
        message=f"the saved tap {link.name} cannot come back, because there is another link of that name",
        fix=f"rename or delete that link; or forget the tap: tapbridge tap del {link.name}",
    )


def _wrong(tap: str, what: str) -> Verdict:
    finding = Finding(code="tap-wrong", severity=Severity.ERROR, subject=tap, message=f"the tap {tap} {what}")
    return Verdict(findings=(finding,))
