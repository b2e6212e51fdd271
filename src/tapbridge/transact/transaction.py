"""Carrying out a plan: journal first, then stage by stage, then reading back; and the way back where anything fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tapbridge.core.compare import differences
from tapbridge.core.restore import restore
from tapbridge.model.errors import HostError
from tapbridge.model.journal import Acting, Began
from tapbridge.model.plan import Plan
from tapbridge.model.state import Scope, State
from tapbridge.model.step import KERNEL_STEPS, Await, AwaitLocal, Shield, Step, Unshield
from tapbridge.model.verdict import Verdict
from tapbridge.ports import Host
from tapbridge.transact.journal import Journal
from tapbridge.transact.signals import Interrupted, shielded_from_signals

_NOT_JOURNALLED = (*KERNEL_STEPS, Await, AwaitLocal, Shield, Unshield)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How a plan ended. `done` counts the steps carried out; `left` is what a failed undo could not mend."""

    outcome: str  # done, rolled-back, stuck
    done: int
    reason: str = ""
    hint: str | None = None
    left: tuple[str, ...] = ()
    signal: int | None = None


def apply(plan: Plan, began: Began, host: Host, journal: Journal, check: Callable[[State], Verdict]) -> Report:
    """Carry the plan out. Never raises for what the host refuses: it is taken back, and the report says so."""
    done = 0
    with shielded_from_signals() as signals:
        journal.begin(began)
        try:
            for steps in _batches(plan):
                signals.raise_if_pending()
                if not isinstance(steps[0], _NOT_JOURNALLED):
                    journal.note(Acting(step=steps[0]))
                host.perform(steps)
                done += len(steps)
            verdict = check(host.observe(Scope.KERNEL))
        except (HostError, Interrupted) as error:
            at = done + (error.index if isinstance(error, HostError) else 0)
            reason, hint = error.message, error.hint
            number = error.number if isinstance(error, Interrupted) else None
            return _undone(
                take_back(began, host), journal, Report(outcome="", done=at, reason=reason, hint=hint, signal=number)
            )
        except BaseException:  # an error of our own: the host comes first
            _undone(take_back(began, host), journal, Report(outcome="", done=done))
            raise
        if not verdict.ok:
            reason = "; ".join(finding.message for finding in verdict.findings)
            return _undone(take_back(began, host), journal, Report(outcome="", done=done, reason=reason))
        journal.close()
        return Report(outcome="done", done=done)


def mend(began: Began, host: Host) -> tuple[str, ...]:
    """Bring a change that was cut off to one of its ends: it is finished if all of it is there, else taken back.

    What is left of it, empty for nothing.
    """
    return () if not differences(began.after, host.observe(), began.touched) else take_back(began, host)


def take_back(began: Began, host: Host) -> tuple[str, ...]:
    """Make the touched links what they were: errors are collected, not obeyed. What is left, empty for nothing."""
    errors: list[str] = []
    plan = restore(began.before, host.observe(), began.touched)
    for steps in _batches(plan):
        try:
            host.perform(steps)
        except HostError as error:
            errors.append(error.message)
    left = differences(began.before, host.observe(), began.touched)
    return (*left, *errors) if left else ()


def _undone(left: tuple[str, ...], journal: Journal, report: Report) -> Report:
    journal.close(keep=bool(left))
    outcome = "stuck" if left else "rolled-back"
    return Report(
        outcome=outcome, done=report.done, reason=report.reason, hint=report.hint, left=left, signal=report.signal
    )


def _batches(plan: Plan) -> Iterator[tuple[Step, ...]]:
    """Kernel steps of a stage that stand beside one another together; every other step alone."""
    for stage in plan.stages:
        batch: list[Step] = []
        for step in stage.steps:
            if isinstance(step, KERNEL_STEPS):
                batch.append(step)
                continue
            if batch:
                yield tuple(batch)
                batch = []
            yield (step,)
        if batch:
            yield tuple(batch)
