"""Signals during a transaction: held back, looked at between two batches, delivered at the end."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tapbridge.model.errors import TapbridgeError

_HELD = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE, signal.SIGTSTP}
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Interrupted(TapbridgeError):
    """A signal asked the command to end; `number` is its number."""

    def __init__(self, number: int) -> None:
        super().__init__(f"{signal.Signals(number).name} came in the middle", code="interrupted")
        self.number = number


class Stopped(KeyboardInterrupt):
    """A signal ends the command outside of a transaction; `number` is its number."""

    def __init__(self, number: int) -> None:
        super().__init__()
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

    def drop(self) -> None:
        """Forget those that end a process: the change has ended, and how it has must still be said."""
        while waiting := signal.sigpending() & set(_ENDING):
            signal.sigwait(waiting)


@contextmanager
def shielded_from_signals() -> Iterator[Signals]:
    """Hold signals back, so that none comes between a step and the next."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
    try:
        yield Signals()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def let_signals_in() -> None:
    """Let those come that were held back, and whatever comes from now on."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Let TERM, HUP and QUIT end what is done here as INT does, so that nothing stays of it. Those ignored stay so."""

    def stop(number: int, _frame: FrameType | None) -> None:
        raise Stopped(number)

    ours = [number for number in _ENDING if signal.getsignal(number) is signal.SIG_DFL]
    try:
        for number in ours:
            signal.signal(number, stop)
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
