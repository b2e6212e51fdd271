"""`tapbridge recover`: what a crash has left is finished or taken back."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tapbridge.cli.files import restore_files
from tapbridge.cli.result import Result
from tapbridge.cli.turn import opened, settle, wait_option, watched
from tapbridge.model.verdict import Finding, Severity
from tapbridge.transact.journal import durable_files

if TYPE_CHECKING:
    from tapbridge.cli.world import World


def options(parser: ArgumentParser) -> None:
    """The options of `recover`."""
    wait_option(parser)
    parser.add_argument(
        "--boot",
        action="store_true",
        help="only the files that changes before the last boot have left, of every network namespace",
    )


def run(args: Namespace, world: World) -> Result:
    """Finish or take back what a crash has left. What waits to be confirmed is left alone."""
    if args.boot:
        return _at_boot(world)
    from tapbridge.linux.filters import sweep_filters

    with opened(world, "recover", wait_s=args.wait) as session:
        waiting = watched(session, world)
        if waiting is not None:
            left_s = waiting.applied.confirm_by - world.clock.monotonic()
            message = f"a '{waiting.applied.command}' waits to be confirmed, for {left_s:.0f} s more, and is left alone"
            finding = Finding(code="pending-change", severity=Severity.INFO, subject="recover", message=message)
            return _told("pending", finding)
        return _told("done", settle(session) or _swept(sweep_filters()))


def _swept(gone: Sequence[int]) -> Finding | None:
    if not gone:
        return None
    message = f"the filters of {len(gone)} taps that are gone were taken away"
    return Finding(code="recovered", severity=Severity.INFO, subject="filters", message=message)


def _at_boot(world: World) -> Result:
    from tapbridge.linux.boot import boot_id

    with world.host() as host:
        return _told("done", restore_files(durable_files(world.state_dir()), host, boot_id()))


def _told(outcome: str, finding: Finding | None) -> Result:
    if finding is None:
        return Result(document={"outcome": "nothing", "steps": []}, text="There is nothing to recover.")
    return Result(document={"outcome": outcome, "steps": []}, findings=(finding,))
