"""A plan: stages of steps, the state before and the state that they lead to, and what the user should know first."""

from __future__ import annotations

from enum import StrEnum

from tapbridge.model.noun import dataclass
from tapbridge.model.state import State
from tapbridge.model.step import Step
from tapbridge.model.verdict import Finding


class Reason(StrEnum):
    """Why a stage is there; `describe` has the sentences."""

    PREPARE = "prepare"  # nothing that carries traffic is touched
    SHIELD = "shield"  # frames bypass the hole of the port change
    MOVE = "move"  # the critical window
    SETTLE = "settle"  # what was held back for the window gets its own value
    OWNER = "owner"  # the DHCP client or manager
    TAP = "tap"  # taps that wait for guests
    FILES = "files"  # somebody's configuration, for the next boot
    TIDY = "tidy"  # take the scaffolding away


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Steps that belong together. Kernel steps beside one another are performed as one batch."""

    reason: Reason
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What will be done. Empty stages: there is nothing to do. `risks` are findings of severity info or warning."""

    command: str
    stages: tuple[Stage, ...]
    before: State
    after: State
    touched: tuple[str, ...] = ()
    risks: tuple[Finding, ...] = ()

    def parts(self) -> tuple[tuple[Stage, ...], tuple[Stage, ...], tuple[Stage, ...]]:
        """The stages before the move, the move and what follows it, and the scaffolding at the end."""
        reasons = [stage.reason for stage in self.stages]
        move = reasons.index(Reason.MOVE) if Reason.MOVE in reasons else 0
        tidy = reasons.index(Reason.TIDY) if Reason.TIDY in reasons else len(reasons)
        return self.stages[:move], self.stages[move:tidy], self.stages[tidy:]

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps of all stages, in order."""
        return tuple(step for stage in self.stages for step in stage.steps)
