"""A plan while it is being written: every step is folded into the state as it is added, so the next sees it."""

from __future__ import annotations

from tapbridge.core.effect import effect
from tapbridge.model.plan import Plan, Reason, Stage
from tapbridge.model.state import State
from tapbridge.model.step import Step
from tapbridge.model.verdict import Finding


class Draft:
    """Stages, and the state that they have led to so far."""

    def __init__(self, state: State) -> None:
        self.before = state
        self.state = state
        self._stages: list[tuple[Reason, list[Step]]] = []

    def stage(self, reason: Reason) -> None:
        """Begin a stage."""
        self._stages.append((reason, []))

    def do(self, *steps: Step) -> None:
        """Add steps to the stage that was begun last."""
        for step in steps:
            self.state = effect(step, self.state)
            self._stages[-1][1].append(step)

    def plan(self, command: str, touched: tuple[str, ...], risks: tuple[Finding, ...] = ()) -> Plan:
        """The plan as it stands; empty stages are left out."""
        stages = tuple(Stage(reason=reason, steps=tuple(steps)) for reason, steps in self._stages if steps)
        return Plan(command=command, stages=stages, before=self.before, after=self.state, touched=touched, risks=risks)
