"""Carrying out a plan: journal first, guard second, then stage by stage, reading back, proof; and the way back.

The order is that of every other tool's mistakes avoided: nothing is touched before the state before is on disk and,
where the change must be confirmed, before somebody else stands ready to take it back. What cannot be undone by
comparison, the deletion of a bridge, comes after the proof; then all is read once more, since others are at work too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tapbridge.model.errors import HostError
from tapbridge.model.journal import Acting, Began, Ended
from tapbridge.model.noun import dataclass
from tapbridge.model.plan import Plan, Stage
from tapbridge.model.state import Scope, State
from tapbridge.model.step import KERNEL_STEPS, AddTap, Await, AwaitClient, AwaitLocal, DeleteTaps, Shield, Unshield
from tapbridge.model.verdict import Verdict
from tapbridge.ports import Host
from tapbridge.transact.batches import batches
from tapbridge.transact.guards import Guards
from tapbridge.transact.journal import Journal
from tapbridge.transact.signals import Interrupted, Signals, shielded_from_signals
from tapbridge.transact.undo import Undone, take_back

Proofs = tuple[Callable[[State], Verdict], Callable[[State], Verdict], Callable[[State], Verdict]]
"""What the state must stand up to after each of the parts of a plan (Plan.parts)."""

_NOT_JOURNALLED = (*KERNEL_STEPS, AddTap, DeleteTaps, Await, AwaitClient, AwaitLocal, Shield, Unshield)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How a plan ended. `done` counts the steps carried out; `left` is what a failed undo could not mend, `told` what
    is not as before although nothing is left."""

    outcome: str  # done, pending, rolled-back, stuck
    done: int
    reason: str = ""
    hint: str | None = None
    evidence: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    signal: int | None = None


def apply(
    plan: Plan,
    began: Began,
    host: Host,
    journal: Journal,
    proofs: Proofs,
    guards: Guards | None = None,
) -> Report:
    """Carry the plan out. Never raises for what the host refuses: it is taken back, and the report says so.

    Raises Refused where the journal cannot be written or the guards cannot be armed; nothing was touched then.
    """
    run = _Run(began, host, journal)
    with shielded_from_signals() as signals:
        journal.begin(began)
        try:
            if guards is not None:
                guards.arm(journal, began)
        except BaseException:
            journal.end(Ended(outcome="refused"))
            raise
        try:
            verdict = run.carry_out(plan, proofs, signals)
            applied = guards.window() if verdict.ok and guards is not None else None
            if applied is not None:
                journal.note(applied)
        except (HostError, Interrupted, OSError) as error:
            report = run.failed(error)
        except BaseException:  # an error of our own: the host comes first
            run.undo("an error of tapbridge's own")
            raise
        else:
            report = run.ended(verdict, applied=applied is not None)
        if report.outcome != "pending":
            signals.drop()
            if guards is not None:
                guards.disarm()
        return report


class _Run:
    """One plan on its way."""

    def __init__(self, began: Began, host: Host, journal: Journal) -> None:
        self._began, self._host, self._journal = began, host, journal
        self._done = 0

    def carry_out(self, plan: Plan, proofs: Proofs, signals: Signals) -> Verdict:
        verdict = Verdict()
        for stages, proof in zip(plan.parts(), proofs, strict=True):
            if stages and verdict.ok:
                self._perform(stages, signals)
                verdict = proof(self._host.observe(Scope.KERNEL))
        signals.raise_if_pending()
        return verdict

    def _perform(self, stages: Iterable[Stage], signals: Signals) -> None:
        for steps in batches(stages):
            signals.raise_if_pending()
            if not isinstance(steps[0], _NOT_JOURNALLED):
                self._journal.note(Acting(step=steps[0]))
            self._host.perform(steps)
            self._done += len(steps)

    def ended(self, verdict: Verdict, *, applied: bool) -> Report:
        if not verdict.ok:
            reason = "; ".join(finding.message for finding in verdict.findings)
            evidence = tuple(line for finding in verdict.findings for line in finding.evidence)
            return self._report(self.undo(reason), reason, evidence=evidence)
        if applied:
            return Report(outcome="pending", done=self._done)
        self._journal.end(Ended(outcome="done"))
        return Report(outcome="done", done=self._done)

    def failed(self, error: HostError | Interrupted | OSError) -> Report:
        if isinstance(error, OSError):  # the journal's disk
            reason = f"the journal cannot be written any more: {error.strerror}"
            return self._report(self.undo(reason), reason)
        self._done += error.index if isinstance(error, HostError) else 0
        number = error.number if isinstance(error, Interrupted) else None
        return self._report(self.undo(error.message), error.message, hint=error.hint, number=number)

    def undo(self, reason: str) -> Undone:
        return take_back(self._began, self._host, self._journal, reason)

    def _report(
        self,
        undone: Undone,
        reason: str,
        *,
        hint: str | None = None,
        evidence: tuple[str, ...] = (),
        number: int | None = None,
    ) -> Report:
        return Report(
            outcome=undone.outcome,
            done=self._done,
            reason=reason,
            hint=hint,
            evidence=evidence,
            left=undone.left,
            told=undone.told,
            signal=number,
        )
