"""What every command that changes something does: lock, recover what a crash left, plan, show or ask, apply, report."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tapbridge.cli.result import Result, finding_text
from tapbridge.model.errors import Exit, Refused, Stuck
from tapbridge.model.journal import Began
from tapbridge.model.plan import Plan
from tapbridge.model.state import State
from tapbridge.model.verdict import Finding, Severity, Verdict
from tapbridge.transact.journal import Journal
from tapbridge.transact.lock import writing
from tapbridge.transact.transaction import Report, apply, mend

if TYPE_CHECKING:
    from tapbridge.cli.world import World
    from tapbridge.linux.host import LinuxHost

_SEEN_FROM_BELOW = Finding(
    code="seen-without-root",
    severity=Severity.WARNING,
    subject="plan",
    message="without root the processes of others cannot be seen: a DHCP client or a bound socket may be missing here",
    fix="run it with sudo; a dry run changes nothing",
)
_EXITS = {"done": Exit.DONE, "rolled-back": Exit.FAILED, "stuck": Exit.STUCK}


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One command's turn at this network namespace."""

    host: LinuxHost
    journal: Journal
    boot_id: str
    as_json: bool = False
    findings: tuple[Finding, ...] = ()


def plan_options(parser: ArgumentParser) -> None:
    """The options of every command that carries out a plan."""
    parser.add_argument(
        "--dry-run", action="store_true", help="print every step, its reason and its command; do nothing"
    )
    parser.add_argument(
        "--script", action="store_true", help="print the change as a shell script of iproute2 commands; do nothing"
    )


@contextmanager
def turn(world: World, what: str, *, as_json: bool = False) -> Iterator[Session]:
    """Hold the lock of this network namespace and mend what a crash has left. Raises Forbidden, Refused or Stuck."""
    from tapbridge.linux.boot import boot_id

    world.require_root(what)
    with world.host() as host:
        folder = world.run_dir() / f"netns-{host.cookie()}"
        with writing(folder):
            journal = Journal(folder)
            begun = journal.find_begun(boot_id())
            findings = (_recovered(begun, host, journal),) if begun is not None else ()
            yield Session(host=host, journal=journal, boot_id=boot_id(), as_json=as_json, findings=findings)


def _recovered(begun: Began, host: LinuxHost, journal: Journal) -> Finding:
    left = mend(begun, host)
    if left:
        raise Stuck(
            f"a '{begun.command}' that was cut off could neither be finished nor taken back: {'; '.join(left[:5])}",
            hint=f"mend what is named and run the command again, or give up the way back: rm {journal.path}",
            code="recover-incomplete",
        )
    journal.close()
    message = f"a '{begun.command}' that was cut off was brought to an end first"
    return Finding(code="recovered", severity=Severity.INFO, subject=begun.command, message=message)


def foretell(plan: Plan, world: World, *, as_script: bool, undo: Plan | None = None) -> Result:
    """A plan as it would be carried out, for `--dry-run` and `--script`."""
    risks = plan.risks if world.may_change_network() else (*plan.risks, _SEEN_FROM_BELOW)
    if as_script:
        from tapbridge.cli.script import shell_script

        return Result(document=_document("planned", plan, 0), text=shell_script(plan, undo), findings=risks)
    from tapbridge.cli.preview import preview

    return Result(document=_document("planned", plan, 0), text=preview(plan), findings=risks)


def ask(plan: Plan, args: Namespace, world: World) -> None:
    """Ask whether to go on where the plan carries a warning. Raises Refused for a no, and where nobody can be asked."""
    warnings = [risk for risk in plan.risks if risk.severity is Severity.WARNING]
    if not warnings or args.yes:
        return
    if not world.is_terminal():
        raise Refused(
            f"there is something to know before: {warnings[0].message}"
            + (f" (the first of {len(warnings)} warnings)" if len(warnings) > 1 else ""),
            hint="see them all with --dry-run, and answer with --yes",
            code="unanswered",
        )
    sys.stderr.write("\n".join([*map(finding_text, warnings), "Go on? [y/N] "]))
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Refused("you said no; nothing was changed", code="declined")


def carry_out(plan: Plan, session: Session, check: Callable[[State], Verdict], words: Callable[[State], str]) -> Result:
    """Apply a plan and say how it ended; `words` makes the text of success from the state that was read back."""
    if not plan.stages:
        findings = session.findings + plan.risks
        document = _document("nothing", plan, 0) if session.as_json else {"outcome": "nothing"}
        return Result(document=document, text=words(plan.after), findings=findings)
    began = Began(
        id=f"{session.host.cookie()}-{session.boot_id[:8]}",
        command=plan.command,
        boot_id=session.boot_id,
        netns=session.host.cookie(),
        before=plan.before,
        after=plan.after,
        touched=plan.touched,
    )
    report = apply(plan, began, session.host, session.journal, check)
    document = _document(report.outcome, plan, report.done) if session.as_json else {"outcome": report.outcome}
    if report.outcome == "done":
        return Result(document=document, text=words(plan.after), findings=session.findings + _told(plan))
    exit_code = 128 + report.signal if report.signal and report.outcome != "stuck" else _EXITS[report.outcome]
    return Result(exit=exit_code, document=document, findings=(*session.findings, _failure(plan, report)))


def _told(plan: Plan) -> tuple[Finding, ...]:
    """After success only what the user has not been asked about already matters: what still needs doing."""
    return tuple(risk for risk in plan.risks if risk.severity is Severity.WARNING)


def _failure(plan: Plan, report: Report) -> Finding:
    if report.outcome == "rolled-back":
        message = f"{plan.command} failed and was taken back, the host is as before: {report.reason}"
        return Finding(
            code="rolled-back", severity=Severity.ERROR, subject=plan.command, message=message, fix=report.hint
        )
    return Finding(
        code="stuck",
        severity=Severity.ERROR,
        subject=plan.command,
        message=f"{plan.command} failed ({report.reason}) and could not be taken back wholly",
        evidence=report.left,
        fix="mend what is named; the next tapbridge command that changes something tries again",
    )


def _document(outcome: str, plan: Plan, done: int) -> dict[str, Any]:
    from tapbridge.core.describe import describe

    described = [describe(step) for step in plan.steps]
    return {
        "outcome": outcome,
        "steps": [
            {"text": one.sentence, "command": one.command, "done": number < done}
            for number, one in enumerate(described)
        ],
    }
