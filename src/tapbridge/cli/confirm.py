"""`tapbridge confirm`: the change that waits is kept."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from tapbridge.cli.pending import keep, require_waiting
from tapbridge.cli.result import Result
from tapbridge.cli.turn import opened, wait_option

if TYPE_CHECKING:
    from tapbridge.cli.world import World


def options(parser: ArgumentParser) -> None:
    """The options of `confirm`."""
    wait_option(parser)


def run(args: Namespace, world: World) -> Result:
    """Keep the change that waits."""
    with opened(world, "confirm", wait_s=args.wait, as_json=args.json) as session:
        waiting = require_waiting(session, world)
        keep(session)
        result = Result(document={"outcome": "done", "steps": []}, text=f"{waiting.applied.command} is kept.")
        if waiting.applied.save is None:
            return result
        from tapbridge.cli.save import save_too

        return save_too(result, waiting.applied.save, session, world)
