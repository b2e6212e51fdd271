"""`tapbridge tap add|del|list`: taps that wait for guests, whose users need no rights to take them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tapbridge.cli.result import Result
from tapbridge.cli.words import number_in, typed
from tapbridge.core.attach import QUEUES
from tapbridge.core.vlans import VLAN
from tapbridge.model.errors import Exit, HostError, UsageError
from tapbridge.model.intent import DropTaps, MakeTap
from tapbridge.model.noun import replace
from tapbridge.model.state import Scope, State
from tapbridge.model.values import IfName, parse_found_name, parse_new_name
from tapbridge.model.verdict import Finding, Severity, Verdict

if TYPE_CHECKING:
    from tapbridge.cli.turn import Session
    from tapbridge.cli.world import World
    from tapbridge.model.guest import TapUse
    from tapbridge.model.plan import Plan

VERBS = ("add", "del", "list")
_OF = {
    "add": ("owner", "group", "bridge", "vlan", "queues", "persist", "saved"),
    "del": ("dead", "all", "force"),
    "list": (),
}


def options(parser: argparse.ArgumentParser) -> None:
    """What can be asked of taps."""
    from tapbridge.cli.changing import plan_options

    parser.add_argument("verb", choices=VERBS, help="make a tap, delete taps, show the taps of this host")
    parser.add_argument("name", nargs="?", metavar="NAME", help="the tap's name")
    add = parser.add_argument_group("options of add")
    add.add_argument("--owner", metavar="USER", help="who may open the tap, by name or number (default: who makes it)")
    add.add_argument("--group", metavar="GROUP", help="everybody of this group may open the tap, instead of an owner")
    add.add_argument("--bridge", metavar="BR", help="the bridge whose port it becomes (default: none)")
    vlan = typed(number_in(VLAN, "a VLAN"))
    add.add_argument("--vlan", type=vlan, metavar="N", help="the VLAN of the guest, which sees no tags (default: none)")
    number = typed(number_in(range(1, QUEUES + 1), "queues"))
    add.add_argument("--queues", type=number, metavar="N", help="pairs of queues that its guest will open (default 1)")
    persist = "write it down, so that --saved makes it again after a reboot; without this it lives until the next one"
    add.add_argument("--persist", action="store_const", const=True, help=persist)
    saved = "instead of NAME: every tap that is written down, and the place of each that has lost its bridge"
    add.add_argument("--saved", action="store_const", const=True, help=saved)
    delete = parser.add_argument_group("options of del")
    delete.add_argument("--dead", action="store_const", const=True, help="instead of NAME: ours that nobody has open")
    every = "instead of NAME: all of ours; those in use are left and named"
    delete.add_argument("--all", action="store_const", const=True, help=every)
    force = "also a tap that is in use, or, if it is named, one that is not ours"
    delete.add_argument("--force", action="store_const", const=True, help=force)
    plan_options(parser)


def run(args: argparse.Namespace, world: World) -> Result:
    """Carry out one verb."""
    for verb, names in _OF.items():
        for name in names if verb != args.verb else ():
            if getattr(args, name) is not None:
                raise UsageError(f"--{name} is an option of tap {verb}", hint="tapbridge tap --help", code="usage")
    if args.verb == "list" and (args.dry_run or args.script or args.name is not None):
        raise UsageError("tap list takes neither a name nor a plan's options", hint="tapbridge tap list", code="usage")
    return {"add": _add, "del": _delete, "list": _list}[args.verb](args, world)


def _add(args: argparse.Namespace, world: World) -> Result:
    from tapbridge.cli.changing import carry_out, foretell
    from tapbridge.cli.keeping import make_folder, steps_back
    from tapbridge.cli.turn import turn
    from tapbridge.core.taps import delete_taps
    from tapbridge.linux.tun import require_tun

    if args.saved:
        return _add_saved(args, world)
    intent = _intent(args, world)
    if args.dry_run or args.script:
        with world.host() as host:
            plan = _plan_to_add(args, intent, host.observe(), world)
        undo = None
        if args.script and plan.before.link(intent.name) is None:
            undo = delete_taps(DropTaps(name=intent.name), plan.after, _uses(plan.after, world), steps_back(plan))
        return foretell(plan, world, as_script=args.script, undo=undo)
    tried: list[Finding] = []
    with turn(world, "tap add", wait_s=args.wait, as_json=args.json) as session:
        plan = _plan_to_add(args, intent, session.host.observe(), world)
        require_tun()
        make_folder(plan)
        result = carry_out(
            plan, session, lambda now: _check(plan, intent, now, tried), lambda _: _told(args, plan, intent)
        )
    return replace(result, findings=(*result.findings, *tried)) if result.exit is Exit.DONE else result


def _intent(args: argparse.Namespace, world: World) -> MakeTap:
    from tapbridge.linux.accounts import find_gid, find_uid

    if args.name is None:
        raise UsageError("tap add needs a name", hint="tapbridge tap add tap0 --owner USER --bridge br0", code="usage")
    if args.owner is not None and args.group is not None:
        raise UsageError(
            "--owner and --group are not to be had together: the kernel would ask for both, and few users are either",
            hint="choose one; for several users make a group",
            code="usage",
        )
    if args.vlan is not None and args.bridge is None:
        raise UsageError("a VLAN is one of a bridge", hint="tapbridge tap add NAME --bridge br0 --vlan 7", code="usage")
    owner = world.uid if args.group is None else None
    return MakeTap(
        name=parse_new_name(args.name),
        owner=find_uid(args.owner) if args.owner is not None else owner,
        group=find_gid(args.group) if args.group is not None else None,
        bridge=parse_found_name(args.bridge) if args.bridge is not None else None,
        queues=args.queues or 1,
        vlan=args.vlan,
    )


def _plan_to_add(args: argparse.Namespace, intent: MakeTap, state: State, world: World) -> Plan:
    from tapbridge.cli.keeping import steps_to_save
    from tapbridge.core.taps import add_tap

    return add_tap(intent, state, steps_to_save(world, add=intent) if args.persist else ())


def _check(plan: Plan, intent: MakeTap, now: State, tried: list[Finding]) -> Verdict:
    """Whether the tap is as it was asked for, and a new one is one for its user; what else bars the user is `tried`."""
    from tapbridge.core.taps import verify_tap
    from tapbridge.linux.trial import try_tap

    verdict, link = verify_tap(intent, now), now.link(intent.name)
    if not verdict.ok or plan.before.link(intent.name) is not None or link is None or link.tap is None:
        return verdict
    finding = try_tap(link.name, link.tap)
    if finding is None:
        return verdict
    if finding.severity is Severity.ERROR:
        return Verdict(findings=(finding,))
    tried.append(finding)
    return verdict


def _told(args: argparse.Namespace, plan: Plan, intent: MakeTap) -> str:
    from tapbridge.linux.accounts import group_name, user_name

    if not plan.stages:
        return "There is nothing to do."
    who = f"the group {group_name(intent.group)}" if intent.group is not None else user_name(intent.owner or 0)
    where = f"a port of {intent.bridge}" if intent.bridge else "on no bridge"
    where += f" in VLAN {intent.vlan}" if intent.vlan is not None else ""
    stays = "after a reboot tapbridge tap add --saved makes it again" if args.persist else "it lives until a reboot"
    queues = f",queues={intent.queues}" if intent.queues > 1 else ""
    return "\n".join(
        [
            f"{intent.name} is there for {who}, {where}; {stays}.",
            f"QEMU takes it with -netdev tap,id=n0,ifname={intent.name},script=no,downscript=no{queues}",
        ]
    )


def _add_saved(args: argparse.Namespace, world: World) -> Result:
    from tapbridge.cli.changing import carry_out, foretell
    from tapbridge.cli.keeping import read_saved
    from tapbridge.cli.turn import turn
    from tapbridge.core.taps import return_taps
    from tapbridge.linux.tun import require_tun

    others = [option for option in _OF["add"] if option != "saved" and getattr(args, option) is not None]
    if args.name is not None or others:
        raise UsageError("--saved stands alone: what the taps are is written down", code="usage")
    if args.dry_run or args.script:
        with world.host() as host:
            plan = return_taps(read_saved(world), host.observe(Scope.KERNEL))
        return foretell(plan, world, as_script=args.script)
    with turn(world, "tap add", wait_s=args.wait, as_json=args.json) as session:
        require_tun()
        plan = return_taps(read_saved(world), session.host.observe(Scope.KERNEL))
        back = [link.name for link in plan.after.links if link.tap is not None and link.name in plan.touched]
        words = f"back: {', '.join(back)}" if plan.stages else "There is nothing to do."
        return carry_out(plan, session, lambda _: Verdict(), lambda _: words)


def _delete(args: argparse.Namespace, world: World) -> Result:
    from tapbridge.cli.changing import foretell
    from tapbridge.cli.turn import turn

    if sum(map(bool, (args.name is not None, args.dead, args.all))) != 1:
        raise UsageError("tap del takes a name, --dead or --all", hint="tapbridge tap --help", code="usage")
    if args.dead and args.force:
        raise UsageError("--dead leaves what is in use, --force takes it", hint="choose one", code="usage")
    name = parse_found_name(args.name) if args.name is not None else None
    if args.dry_run or args.script:
        with world.host() as host:
            plan, _, left = _plan_to_delete(args, name, host.observe(), world)
        result = foretell(plan, world, as_script=args.script)
        return replace(result, findings=(*result.findings, *left))
    with turn(world, "tap del", wait_s=args.wait, as_json=args.json) as session:
        plan, absent, left = _plan_to_delete(args, name, session.host.observe(), world)
        result = _carry_out_deletion(plan, absent, session)
    return replace(result, findings=(*result.findings, *left))


def _plan_to_delete(
    args: argparse.Namespace, name: IfName | None, state: State, world: World
) -> tuple[Plan, str, tuple[Finding, ...]]:
    """The plan, what to say if it is empty, and which taps are left."""
    from tapbridge.cli.keeping import steps_to_save
    from tapbridge.core.refuse import find_link
    from tapbridge.core.taps import delete_taps, find_doomed
    from tapbridge.model.errors import Refused

    uses = _uses(state, world)
    link = state.link(name) if name is not None else None
    if link is not None and link.tap is None:
        raise Refused(
            f"{link.name} is no tap", hint="tapbridge tap list shows the taps", code="not-a-tap", subject=link.name
        )
    intent = DropTaps(name=link.name if link is not None else name, force=bool(args.force))
    doomed = [use.name for use in find_doomed(intent, uses)]
    plan = delete_taps(intent, state, uses, steps_to_save(world, drop=[*doomed, *([name] if name else [])]))
    absent = "There is no tap of ours to delete."
    if name is not None and link is None:
        try:
            find_link(state, name)
        except Refused as refusal:
            absent = f"There is no tap {name}; nothing to do ({refusal.hint})."
    left = tuple(_left(use) for use in uses if use.ours and use.name not in doomed) if args.all else ()
    return plan, absent, left


def _carry_out_deletion(plan: Plan, absent: str, session: Session) -> Result:
    from tapbridge.cli.changing import carry_out
    from tapbridge.cli.keeping import make_folder
    from tapbridge.core.taps import verify_gone

    def words(_: State) -> str:
        return f"deleted: {', '.join(plan.touched)}" if plan.touched else "forgotten" if plan.stages else absent

    make_folder(plan)
    return carry_out(plan, session, lambda now: verify_gone(plan.touched, now), words)


def _left(use: TapUse) -> Finding:
    from tapbridge.core.taps import told_user

    message = f"the tap {use.name} stays, because it is in use by {told_user(use)}"
    return Finding(code="tap-in-use", severity=Severity.INFO, subject=use.name, message=message)


def _uses(state: State, world: World) -> tuple[TapUse, ...]:
    from tapbridge.cli.keeping import read_saved
    from tapbridge.core.taps import tap_uses
    from tapbridge.guests.survey import identify
    from tapbridge.linux.accounts import group_name, user_name

    try:
        saved = {tap.name for tap in read_saved(world)}
    except HostError:  # who may not read it, or a damaged file: the verbs that need it will say so
        saved = None
    return tap_uses(state, identify(state), user_name, group_name, saved)


def _list(args: argparse.Namespace, world: World) -> Result:
    with world.host() as host:
        state = host.observe(Scope.GUESTS)
    taps = _uses(state, world)
    return Result(document={"taps": [_document(tap) for tap in taps]}, text=_text(taps, world))


def _text(taps: Sequence[TapUse], world: World) -> str:
    from tapbridge.draw.taps import tap_columns, tap_table

    if not sys.stdout.isatty():
        return tap_columns(taps)
    if not taps:
        return "there is no tap in this network namespace"
    from tapbridge.draw.style import ansi, plain

    return tap_table(taps, ansi if world.colour() else plain)


def _document(tap: TapUse) -> dict[str, Any]:
    return {
        "name": tap.name,
        "owner": tap.owner,
        "group": tap.group,
        "bridge": tap.bridge,
        "vlan": tap.vlan,
        "queues": tap.queues,
        "persist": tap.saved,
        "in_use": tap.in_use,
        "guest": tap.guest,
        "pid": tap.pid,
        "ours": tap.ours,
        "rate": tap.rate,
        "guard": tap.guard,
    }
