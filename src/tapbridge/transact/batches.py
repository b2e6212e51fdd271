"""How a plan's steps are handed to a host: what goes together, and what goes alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tapbridge.model.plan import Stage
from tapbridge.model.step import KERNEL_STEPS, Step


def batches(stages: Iterable[Stage]) -> Iterator[tuple[Step, ...]]:
    """Kernel steps of a stage that stand beside one another together; every other step alone."""
    for stage in stages:
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
