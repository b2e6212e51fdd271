"""The outside, as the rest of the program sees it: a Host and a Clock. Nothing else of Linux gets past this file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tapbridge.model.state import File, Scope, State
from tapbridge.model.step import Step


class Host(Protocol):
    """A machine whose network can be read and changed: the real one (linux/) or a model (modelhost/)."""

    def observe(self, scope: Scope = Scope.HOST) -> State:
        """Read the host. Raises HostError where it cannot be read."""
        ...

    def perform(self, steps: Sequence[Step]) -> None:
        """Carry the steps out in order, kernel steps beside one another as one batch.

        The kernel goes on after a message of a batch that fails. Raises HostError with the index of the first
        step that failed, the errno, and the kernel's own words; steps behind its batch were not begun.
        """
        ...

    def read_files(self, paths: Sequence[str]) -> tuple[File, ...]:
        """These files as they are, those that are not there with the content None. Raises HostError."""
        ...


class Clock(Protocol):
    """Time. `monotonic` is CLOCK_BOOTTIME in seconds, `wall` seconds since the epoch."""

    def monotonic(self) -> float:
        """Seconds since boot, suspended time included."""
        ...

    def wall(self) -> float:
        """Seconds since 1970-01-01 UTC."""
        ...
