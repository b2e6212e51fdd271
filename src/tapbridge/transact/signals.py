"""Signals during a transaction: held back, looked at between two batches, delivered at the end."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from tapbridge.model.errors import TapbridgeError

_HELD = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE, signal.SIGTSTP}
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Interrupted(TapbridgeError):
    """A signal asked the command to end; `number` is its number."""

    def __init__(self, number: int) -> None:
        super().__init__(f"{signal.Signals(number).name} came in the middle", code="interrupted")
        self.number = number


class Signals:
    """The signals that wait."""

    def raise_if_pending(self) -> None:
        """Raises Interrupted if a signal that ends a process waits, and takes it."""
        waiting = signal.sigpending()
        for number in _ENDING:
            if number in waiting:
                signal.sigwait({number})
                raise Interrupted(number)


@contextmanager
def shielded_from_signals() -> Iterator[Signals]:
    """Hold signals back, so that none comes between a step and the next."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
    try:
        yield Signals()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
