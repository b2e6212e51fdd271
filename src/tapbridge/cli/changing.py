"""What every command that carries out a plan does: show it, ask, apply, report."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from tapbridge.cli.result import Result, as_before, finding_text
from tapbridge.cli.turn import Session, wait_option
from tapbridge.core.verify import verify_alone, verify_gone
from tapbridge.model.errors import Exit, HostError, Refused
from tapbridge.model.journal import Began
from tapbridge.model.plan import Plan
from tapbridge.model.state import State
from tapbridge.model.step import StopClient, WriteFile
from tapbridge.model.verdict import Finding, Severity, Verdict
from tapbridge.transact.guards import Guards
from tapbridge.transact.transaction import Report, apply

if TYPE_CHECKING:
    from tapbridge.cli.world import World

_SEEN_FROM_BELOW = Finding(
    code="seen-without-root",
    severity=Severity.WARNING,
    subject="plan",
    message="without root the processes of others cannot be seen: a DHCP client or a bound socket may be missing here",
    fix="run it with sudo; a dry run changes nothing",
)
_EXITS = {"done": Exit.DONE, "rolled-back": Exit.FAILED, "stuck": Exit.STUCK}


def plan_options(parser: ArgumentParser) -> None:
    """The options of every command that carries out a plan."""
    parser.add_argument(
        "--dry-run", action="store_true", help="print every step, its reason and its command; do nothing"
    )
    parser.add_argument(
        "--script", action="store_true", help="print the change as a shell script of iproute2 commands; do nothing"
    )
    wait_option(parser)


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


def carry_out(
    plan: Plan,
    session: Session,
    check: Callable[[State], Verdict],
    words: Callable[[State], str],
    guards: Guards | None = None,
    prove: Callable[[], Verdict] = Verdict,
) -> Result:
    """Apply a plan and say how it ended; `words` makes the text of success from the state that was read back.

    `check` reads back, `prove` asks others. With guards the outcome may be `pending`: the change is there, and waits
    to be confirmed.
    """
    if not plan.stages:
        findings = session.findings + plan.risks
        document = _document("nothing", plan, 0) if session.as_json else {"outcome": "nothing"}
        return Result(document=document, text=words(plan.after), findings=findings)
    began = _begin(plan, session, guarded=guards is not None)
    proofs = (partial(verify_alone, plan), partial(_proved, check, prove), partial(_tidy, plan, check))
    report = apply(plan, began, session.host, session.journal, proofs, guards)
    document = _document(report.outcome, plan, report.done) if session.as_json else {"outcome": report.outcome}
    if report.outcome in ("done", "pending"):
        findings = session.findings + _told(plan) + _finished(plan, report) + _started_meanwhile(plan)
        return Result(document=document, text=words(plan.after), findings=findings)
    exit_code = 128 + report.signal if report.signal and report.outcome != "stuck" else _EXITS[report.outcome]
    return Result(exit=exit_code, document=document, findings=(*session.findings, _failure(plan, report)))


def _proved(check: Callable[[State], Verdict], prove: Callable[[], Verdict], state: State) -> Verdict:
    verdict = check(state)
    return prove() if verdict.ok else verdict


def _tidy(plan: Plan, check: Callable[[State], Verdict], state: State) -> Verdict:
    verdict = check(state)
    return verify_gone(plan, state) if verdict.ok else verdict


def _begin(plan: Plan, session: Session, *, guarded: bool) -> Began:
    from tapbridge.linux.files import draft_of

    cookie = session.host.cookie()
    paths = [step.path for step in plan.steps if isinstance(step, WriteFile)]
    paths += [draft_of(path) for path in paths]  # which a crash may leave behind
    return Began(
        id=f"{cookie:x}-{time.time_ns():x}",
        command=plan.command,
        boot_id=session.boot_id,
        netns=cookie,
        before=plan.before,
        after=plan.after,
        touched=plan.touched,
        steps=plan.steps,
        files=session.host.read_files(tuple(dict.fromkeys(paths))),
        guarded=guarded,
    )


def _told(plan: Plan) -> tuple[Finding, ...]:
    """After success only what the user has not been asked about already matters: what still needs doing."""
    return tuple(risk for risk in plan.risks if risk.severity is Severity.WARNING)


def _started_meanwhile(plan: Plan) -> tuple[Finding, ...]:
    """A client that somebody started on the link that was left: it is his, but it would give the link an address."""
    left = {step.client.link for step in plan.steps if isinstance(step, StopClient)} - {None}
    if not left:
        return ()
    from tapbridge.linux.clients import observe_clients

    try:
        clients = observe_clients([link for link in left if link is not None])
    except (OSError, HostError):  # the change is there, whether we may look or not
        return ()
    return tuple(
        Finding(
            code="client-left",
            severity=Severity.WARNING,
            subject=client.link or "",
            message=f"{client.program} (PID {client.pid}) was started meanwhile for {client.link}, which carries the "
            "host no more",
            fix=f"kill {client.pid}",
        )
        for client in clients
        if client.link in left
    )


def _finished(plan: Plan, report: Report) -> tuple[Finding, ...]:
    """What happened on the way, where the change was finished because there was no way back."""
    if not report.told:
        return ()
    return (
        Finding(
            code="finished-instead",
            severity=Severity.WARNING,
            subject=plan.command,
            message=f"{plan.command} met something that would have taken it back: {report.reason}",
            evidence=report.told,
        ),
    )


def _failure(plan: Plan, report: Report) -> Finding:
    if report.outcome == "rolled-back":
        return Finding(
            code="rolled-back",
            severity=Severity.ERROR,
            subject=plan.command,
            message=f"{plan.command} failed and was taken back, {as_before(report.told)}: {report.reason}",
            evidence=(*report.evidence, *report.told),
            fix=report.hint,
        )
    return Finding(
        code="stuck",
        severity=Severity.ERROR,
        subject=plan.command,
        message=f"{plan.command} failed ({report.reason}) and could not be taken back wholly",
        evidence=report.left,
        fix="mend what is named, then: tapbridge recover (every other command that changes something does so first)",
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
