"""`tapbridge down`: the NIC gets its place back, at any later time."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from tapbridge.cli.changing import carry_out, foretell, plan_options
from tapbridge.cli.proving import ask_before
from tapbridge.cli.result import Result
from tapbridge.cli.turn import turn
from tapbridge.core.guard import guard
from tapbridge.core.mark import find_marked_uplink, read_mark
from tapbridge.core.release import GONE, find_released, release
from tapbridge.core.verify import verify_carried, verify_empty, verify_uplink
from tapbridge.model.errors import Refused
from tapbridge.model.intent import Release
from tapbridge.model.noun import replace
from tapbridge.model.plan import Plan
from tapbridge.model.state import Link, State
from tapbridge.model.values import IfName, parse_found_name
from tapbridge.model.verdict import Finding, Severity, Verdict

if TYPE_CHECKING:
    from tapbridge.cli.world import World


def options(parser: ArgumentParser) -> None:
    """The options of `down`."""
    parser.add_argument("bridge", nargs="?", metavar="BRIDGE", help="the bridge (default: the only one of ours)")
    parser.add_argument(
        "--force", action="store_true", help="also while guests are attached: their taps lose the bridge"
    )
    plan_options(parser)


def run(args: Namespace, world: World) -> Result:
    """Release a bridge's uplink, or show how it would be done."""
    if args.bridge is not None:
        parse_found_name(args.bridge)
    if args.dry_run or args.script:
        with world.host() as host:
            plan, *_ = _plan(args, host.observe(), world)
            return foretell(plan, world, as_script=args.script)
    with turn(world, "down", wait_s=args.wait, as_json=args.json) as session:
        state = session.host.observe()
        if args.bridge is None and not any(read_mark(link) for link in state.links):
            done = Plan(command="down", stages=(), before=state, after=state)
            return carry_out(done, session, _anything, lambda _: "There is no bridge of ours; nothing to do.")
        plan, uplink, nic = _plan(args, state, world)
        proof = ask_before(state, find_released(state, args.bridge).name)
        return carry_out(
            plan,
            session,
            lambda now: _released(plan, now, uplink, nic),
            lambda now: _success(now, nic),
            prove=lambda: proof.check(nic),
        )


def _plan(args: Namespace, state: State, world: World) -> tuple[Plan, Link, IfName]:
    from tapbridge.cli.handover import hand_over

    bridge = find_released(state, args.bridge)
    intent = Release(bridge=bridge.name, force=args.force)
    release(intent, state)  # refused before anybody asks for the owner
    mark = read_mark(bridge)
    uplink = find_marked_uplink(bridge, state.ports(bridge.name))
    assert mark is not None, "release has made sure of it"
    assert uplink is not None, "release has made sure of it"
    nic = mark.nic if bridge.name == mark.nic else uplink.name
    left = GONE if nic == bridge.name else bridge.name
    owner = hand_over(state, bridge.name, nic, port=uplink.name, bridge=left, force=args.force)
    plan = release(intent, state, owner)
    verdict = guard(plan, uplink)
    if not verdict.ok:
        raise Refused(f"the plan is not safe: {verdict.findings[0].message}", hint="report this", code="cut-off")
    if os.path.exists(world.saved_record(bridge.name)):
        plan = replace(plan, risks=(*plan.risks, _returns(bridge.name)))
    return plan, uplink, nic


def _returns(bridge: IfName) -> Finding:
    """What to know of taking down a bridge that is saved."""
    return Finding(
        code="returns-at-boot",
        severity=Severity.WARNING,
        subject=bridge,
        message=f"{bridge} is saved: it goes now, and the next boot makes it again",
        fix=f"if that is not meant: tapbridge unsave {bridge}",
    )


def _anything(_: State) -> Verdict:
    return Verdict()


def _released(plan: Plan, state: State, uplink: Link, nic: IfName) -> Verdict:
    standing = verify_uplink(plan, uplink, state)
    if not standing.ok:
        return standing
    bridge = next(link.index for link in plan.before.links if link.name == uplink.master)
    going = [link.name for link in state.links if link.index == bridge]
    findings = [verify_empty(plan.after, state, name).findings for name in going]
    return Verdict(findings=sum(findings, verify_carried(plan.after, state, nic).findings))


def _success(state: State, nic: IfName) -> str:
    carried = ", ".join(f"{a.ip}/{a.prefix}" for a in state.addresses_of(nic) if not a.temporary)
    return f"{nic} is no port any more and carries {carried or 'no address'}, as before."
