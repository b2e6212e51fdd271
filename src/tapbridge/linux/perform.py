"""Carrying steps out: kernel steps beside one another as one batch, the rest one by one."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence

from tapbridge.linux.acts import perform_alone
from tapbridge.linux.attributes import Malformed
from tapbridge.linux.batch import failed, perform_batch
from tapbridge.linux.channel import Channel
from tapbridge.linux.shield import Shields
from tapbridge.model import step as steps
from tapbridge.model.errors import HostError
from tapbridge.model.step import Step


def perform(channel: Channel, shields: Shields, sequence: Sequence[Step]) -> None:
    """Carry steps out in order; see LinuxHost.perform. Raises HostError."""
    first = 0
    for batch in split_batches(sequence):
        try:
            if isinstance(batch[0], steps.KERNEL_STEPS):
                perform_batch(channel, batch)
            else:
                perform_alone(channel, shields, batch[0])
        except HostError as error:
            index = first + error.index
            raise HostError(error.message, index=index, errno=error.errno, hint=error.hint) from error
        except OSError as error:
            raise failed(batch[0], error, first) from error
        except Malformed as error:
            raise HostError(str(error), index=first, errno=errno.EBADMSG) from error
        first += len(batch)


def split_batches(sequence: Sequence[Step]) -> Iterator[tuple[Step, ...]]:
    """Steps that go to the kernel together; every other step by itself.

    A link that a step makes has no number yet, so its batch ends there; nothing is made in the window in which
    packets could be lost.
    """
    batch: list[Step] = []
    for step in sequence:
        if not isinstance(step, steps.KERNEL_STEPS):
            if batch:
                yield tuple(batch)
            yield (step,)
            batch = []
            continue
        batch.append(step)
        if isinstance(step, steps.AddLink):
            yield tuple(batch)
            batch = []
    if batch:
        yield tuple(batch)
