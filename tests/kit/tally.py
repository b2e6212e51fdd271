"""Counting what was tried, and what did not hold."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from kit.injection import Call

WHOLE: Final = os.environ.get("TAPBRIDGE_FAULTS") == "all"
"""Whether everything is tried (`script/test faults --all`), not CI's sample."""

_SHOWN: Final = 12
_T = TypeVar("_T")


@dataclass(slots=True)
class Tally:
    """The trials of one test. `complaints` has one entry for each that did not hold."""

    fault: str
    scene: str
    verb: str
    tried: int = 0
    changing: int = 0
    cut_off: int = 0
    complaints: list[str] = field(default_factory=list)

    def note(self, where: str, call: Call, told: Sequence[str]) -> None:
        """Count a trial at this call."""
        self.tried += 1
        self.changing += call.role != "asks"
        self.cut_off += any(line.startswith("cut off") for line in told)
        if told:
            self.complaints.append("\n    ".join([where, *told[:_SHOWN]]))
            print(f"{self.scene} {self.verb}: {self.complaints[-1]}", flush=True)

    def told(self) -> str:
        """All complaints. Empty: everything held."""
        return "\n".join(self.complaints)


def sample(items: Sequence[_T], most: int, *, offset: int = 0) -> list[_T]:
    """All of them if everything is tried; else as many as told, evenly spread, always the same."""
    if WHOLE or len(items) <= most:
        return list(items)
    return [items[(offset + number * len(items) // most) % len(items)] for number in range(most)]


def changing(calls: Sequence[Call]) -> list[Call]:
    """The calls that change something, start something or tell something."""
    return [call for call in calls if call.role != "asks"]
