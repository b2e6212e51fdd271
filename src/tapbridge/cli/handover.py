"""What the owner of a link needs done when its place moves: the one place where plans and owners meet."""

from __future__ import annotations

from tapbridge.cli.changing import read_lease
from tapbridge.core.adopt import HandOver
from tapbridge.model.state import State
from tapbridge.model.values import IfName


def hand_over(state: State, source: IfName, target: IfName, *, force: bool) -> HandOver:
    """The steps of the owner of `source`, if it has one, that make it the owner of `target`.

    Raises Refused for an owner whose hand-over is not built, unless forced.
    """
    from tapbridge.owners.table import find_owner
    from tapbridge.owners.table import hand_over as of_owner

    owner = find_owner(state, source)
    if owner is None:
        return HandOver()
    steps = of_owner(owner, state, source, target, read=read_lease, force=force)
    return HandOver(before=steps.before, after=steps.after, risks=steps.risks)
