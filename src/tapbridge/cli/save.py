"""`tapbridge save`: the bridge comes back at the next boot, by the files of whoever configures this host."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from tapbridge.cli.changing import ask, carry_out, foretell
from tapbridge.cli.permanence import Change, plan_save
from tapbridge.cli.result import Result, escape, result_of
from tapbridge.cli.turn import Session, turn, wait_option
from tapbridge.model.errors import Exit, TapbridgeError
from tapbridge.model.noun import replace
from tapbridge.model.values import IfName, parse_found_name
from tapbridge.model.verdict import Finding, Severity

if TYPE_CHECKING:
    from tapbridge.cli.world import World


def options(parser: ArgumentParser) -> None:
    """The options of `save`."""
    from tapbridge.owners.keepers import NAMES

    parser.add_argument("bridge", nargs="?", metavar="BRIDGE", help="the bridge (default: the only one of ours)")
    parser.add_argument(
        "--for",
        dest="keeper",
        metavar="NAME",
        help=f"in whose files: {', '.join(NAMES)} (default: whoever configures the NIC at boot)",
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would be changed as a diff; do nothing")
    wait_option(parser)


def run(args: Namespace, world: World) -> Result:
    """Make a bridge permanent, or show how it would be done."""
    if args.bridge is not None:
        parse_found_name(args.bridge)
    if args.dry_run:
        with world.host() as host:
            return shown(plan_save(world, host, host.observe(), args.bridge, args.keeper), world)
    with turn(world, "save", wait_s=args.wait, as_json=args.json) as session:
        change = plan_save(world, session.host, session.host.observe(), args.bridge, args.keeper)
        show_diff(change, quiet=args.quiet or args.json)
        ask(change.plan, args, world)
        return save(change, session)


def save(change: Change, session: Session) -> Result:
    """Carry it out."""

    def words(_: object) -> str:
        if not change.plan.stages:
            return f"{change.bridge} is saved; nothing to do."
        return f"{change.bridge} is saved: the next boot makes it, by {change.keeper}.\nThe way back:  tapbridge unsave"

    return told(carry_out(change.plan, session, lambda _: change.check(session.host), words), change)


def save_too(result: Result, bridge: IfName, session: Session, world: World) -> Result:
    """The result of a change that is done and kept, and of saving its bridge, which it was asked for as well."""
    session = replace(session, findings=())  # they are in the result
    try:
        saved = save(plan_save(world, session.host, session.host.observe(), bridge, None), session)
    except TapbridgeError as error:
        saved = result_of(error)
    steps = [*result.document["steps"], *saved.document["steps"]] if session.as_json else []
    findings = (*result.findings, *saved.findings)
    if saved.exit is not Exit.DONE:
        left = Finding(
            code="not-saved",
            severity=Severity.ERROR,
            subject=bridge,
            message=f"{bridge} is there and is kept, but it is not saved: a reboot brings the old configuration back",
            fix=f"mend what is named, then: tapbridge save {bridge}",
        )
        document = {**result.document, "outcome": "stuck", "steps": steps}
        return replace(result, exit=Exit.STUCK, document=document, findings=(*findings, left))
    outcomes = {result.document["outcome"], saved.document["outcome"]}
    outcome = "done" if "done" in outcomes else "nothing"
    document = {**result.document, "outcome": outcome, "steps": steps, "diff": saved.document["diff"]}
    return replace(result, document=document, text=f"{result.text}\n{saved.text}", findings=findings)


def shown(change: Change, world: World) -> Result:
    """The change as it would be carried out."""
    text = change.diff() or "Nothing to do."
    return replace(told(foretell(change.plan, world, as_script=False), change), text=escape(text))


def told(result: Result, change: Change) -> Result:
    """The result of a change, with its diff and what is to be known of it."""
    document = {**result.document, "diff": change.diff()}
    return replace(result, document=document, findings=(*result.findings, *change.findings))


def show_diff(change: Change, *, quiet: bool) -> None:
    """Let the user see what is going to be changed."""
    if not quiet and (text := change.diff()):
        sys.stderr.write(escape(text) + "\n")
