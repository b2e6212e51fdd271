"""A plan as a POSIX shell script of iproute2 commands, with its way back behind `--undo`."""

from __future__ import annotations

from tapbridge.cli.preview import _STAGES
from tapbridge.core.describe import describe
from tapbridge.model.plan import Plan
from tapbridge.model.step import DeleteAddress, DeleteLink, DeleteNeighbour, DeleteRoute, SetSysctl

_FORGIVING = (DeleteAddress, DeleteLink, DeleteNeighbour, DeleteRoute, SetSysctl)
"""What may fail: what is to be deleted may be gone with something else, and a switch may not be writable."""


def shell_script(plan: Plan, undo: Plan | None) -> str:
    """The script. Run with --undo it takes back what it did without."""
    lines = [
        "#!/bin/sh",
        f"# tapbridge {plan.command}, as iproute2 commands. Run it as root; it stops at the first command that fails.",
        "# It lacks what no command can do: the one netlink batch, the bypass of the port change, and the rollback.",
        "set -eu",
    ]
    if undo is None:
        return "\n".join([*lines, "", *_commands(plan)])
    return "\n".join(
        [
            *lines,
            "",
            'if [ "${1-}" != --undo ]; then',
            *(f"  {line}" for line in _commands(plan)),
            "  exit 0",
            "fi",
            "",
            *_commands(undo),
        ]
    )


def _commands(plan: Plan) -> list[str]:
    lines: list[str] = []
    for stage in plan.stages:
        lines.append(f"# {_STAGES[stage.reason]}")
        for step in stage.steps:
            told = describe(step)
            forgiven = " 2>/dev/null || true" if isinstance(step, _FORGIVING) else ""
            command = told.command or ":"
            lines.append(f"{command}{forgiven}  # {told.sentence}")
    return lines or [":"]
