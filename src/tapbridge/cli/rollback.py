"""`tapbridge rollback`: the change that waits is taken back at once."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from tapbridge.cli.pending import require_waiting
from tapbridge.cli.result import Result, as_before
from tapbridge.cli.turn import opened, take_back_found, wait_option
from tapbridge.model.errors import Stuck
from tapbridge.transact.found import find_begun

if TYPE_CHECKING:
    from tapbridge.cli.world import World


def options(parser: ArgumentParser) -> None:
    """The options of `rollback`."""
    wait_option(parser)


def run(args: Namespace, world: World) -> Result:
    """Take the change that waits back."""
    with opened(world, "rollback", wait_s=args.wait) as session:
        waiting = require_waiting(session, world)
        found = find_begun(session.journal)
        assert found is not None, "it waits"
        undone = take_back_found(found, session, "tapbridge rollback")
    command = waiting.applied.command
    if undone.left:
        raise Stuck(
            f"{command} could not be taken back wholly: {'; '.join(undone.left[:5])}",
            hint="mend what is named, then: tapbridge recover",
            code="stuck",
        )
    lines = [f"{command} is taken back; {as_before(undone.told)}.", *undone.told]
    return Result(document={"outcome": "done", "steps": []}, text="\n".join(lines))
