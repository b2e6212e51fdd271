"""`tapbridge unsave`: the next boot knows nothing of the bridge; every file is what it was before `save`."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from tapbridge.cli.changing import carry_out
from tapbridge.cli.permanence import plan_unsave
from tapbridge.cli.result import Result
from tapbridge.cli.save import show_diff, shown, told
from tapbridge.cli.turn import turn, wait_option
from tapbridge.model.values import parse_found_name

if TYPE_CHECKING:
    from tapbridge.cli.world import World


def options(parser: ArgumentParser) -> None:
    """The options of `unsave`."""
    parser.add_argument("bridge", nargs="?", metavar="BRIDGE", help="the bridge (default: the only one that is saved)")
    parser.add_argument(
        "--force", action="store_true", help="also where a file was changed since: what was changed is lost"
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would be put back as a diff; do nothing")
    wait_option(parser)


def run(args: Namespace, world: World) -> Result:
    """Put the files back, or show how it would be done. The bridge itself stays until `down` or the next boot."""
    if args.bridge is not None:
        parse_found_name(args.bridge)
    if args.dry_run:
        with world.host() as host:
            change = plan_unsave(world, host, host.observe(), args.bridge, force=args.force)
            return _nothing() if change is None else shown(change, world)
    with turn(world, "unsave", wait_s=args.wait, as_json=args.json) as session:
        host = session.host
        change = plan_unsave(world, host, host.observe(), args.bridge, force=args.force)
        if change is None:
            return _nothing()
        show_diff(change, quiet=args.quiet or args.json)
        words = f"{change.bridge} is saved no more; it stays until tapbridge down {change.bridge} or the next boot."
        return told(carry_out(change.plan, session, lambda _: change.check(host), lambda _: words), change)


def _nothing() -> Result:
    return Result(document={"outcome": "nothing", "steps": [], "diff": ""}, text="Nothing is saved; nothing to do.")
