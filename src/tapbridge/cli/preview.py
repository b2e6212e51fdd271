"""A plan for a reader: every step as a sentence, its reason and its command, and the state that it leads to."""

from __future__ import annotations

from tapbridge.core.describe import describe
from tapbridge.model.plan import Plan, Reason

_WIDEST = 160
_STAGES = {
    Reason.PREPARE: "Prepare. Nothing that carries traffic is touched.",
    Reason.OWNER: "The client that holds the lease.",
    Reason.SHIELD: "Bypass the hole of the port change.",
    Reason.MOVE: "Move. One netlink batch: the kernel does all of it before anybody else gets a word in.",
    Reason.SETTLE: "Settle. What was held back for the move gets its own value.",
    Reason.TAP: "Taps. Nothing else is touched.",
    Reason.FILES: "Configuration. The network of now is not touched.",
    Reason.TIDY: "Take the scaffolding away.",
}


def preview(plan: Plan) -> str:
    """The text of `--dry-run`."""
    from tapbridge.draw.tree import host_tree

    if not plan.stages:
        return "Nothing to do."
    lines: list[str] = []
    number = 0
    for stage in plan.stages:
        lines += ["", _STAGES[stage.reason]]
        for step in stage.steps:
            number += 1
            told = describe(step)
            lines.append(f"{number:4}. {told.sentence}")
            lines.append(f"      because {told.reason}")
            lines.append(f"      {_cut(told.command or '(no command does this)')}")
    return "\n".join([*lines[1:], "", "Afterwards:", host_tree(plan.after)])


def _cut(command: str) -> str:
    """A command on one line; what a file is to hold is too long for that, and is whole in --script and --json."""
    line = command.replace("\n", " ")
    return line if len(line) <= _WIDEST else f"{line[:_WIDEST]}…"
