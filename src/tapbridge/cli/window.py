"""The wait for a confirmation: a countdown, Enter, and what other sessions and the guardian do meanwhile.

The command holds no lock while it waits, so that `tapbridge confirm` and the guardian can take it. It has the journal
open, and reads there how the change ended, even when the journal has been taken away.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from tapbridge.cli.result import Result, as_before
from tapbridge.model.errors import Exit, Stuck
from tapbridge.model.journal import Applied, Ended, load, read_line
from tapbridge.model.noun import dataclass, replace
from tapbridge.model.proof import Flow
from tapbridge.model.verdict import Finding, Severity
from tapbridge.transact.signals import let_signals_in

if TYPE_CHECKING:
    from tapbridge.cli.world import World

_LOOK_S = 0.2
_GRACE_S = 10.0
"""How long after the deadline a guardian may be at work before the command says that it hears nothing."""

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)
_EXITS = {"confirmed": Exit.DONE, "rolled-back": Exit.FAILED, "stuck": Exit.STUCK}


class _Stopped(Exception):
    """A signal came that takes the change back."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@dataclass(frozen=True, slots=True, kw_only=True)
class Acts:
    """What the wait may do; how the change ended stands in the journal afterwards."""

    confirm: Callable[[], object]
    rollback: Callable[[str], object]
    find_arrival: Callable[[], Flow | None]
    """A connection that has come in since the change."""
    arrival_keeps: bool
    """Whether such a connection is the word that it waits for."""


class Reader:
    """A journal that is open, and goes on being readable when it has been taken away."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115
        self._rest = b""

    def close(self) -> None:
        """Give the file back."""
        self._file.close()

    def find_end(self) -> Ended | None:
        """The last record, if it has been written since the last look."""
        while part := self._file.read(1 << 20):
            self._rest += part
        *lines, self._rest = self._rest.split(b"\n")
        records = [load(read_line(line)[1]) for line in lines if b'"record":{"_":"Ended"' in line]
        return records[-1] if records else None


def wait_for_word(result: Result, applied: Applied, reader: Reader, world: World, acts: Acts, *, quiet: bool) -> Result:
    """Wait until the change is confirmed or taken back; `result` is that of the change itself."""
    arrivals: list[Flow] = []
    if not quiet:
        sys.stderr.write(result.text.partition("\n")[0] + "\n")
    with _signals():
        try:
            let_signals_in()
            ended, number = _wait(reader, applied, world, acts, arrivals, quiet=quiet), 0
        except _Stopped as stopped:
            number = stopped.number
            acts.rollback(f"{signal.Signals(number).name} came while it waited to be confirmed")
            ended = reader.find_end() or Ended(outcome="stuck", left=("nobody said how it ended",))
    result = replace(result, findings=(*result.findings, *map(_seen, arrivals)))
    return _result(result, ended, number)


def _wait(reader: Reader, applied: Applied, world: World, acts: Acts, arrivals: list[Flow], *, quiet: bool) -> Ended:
    enter = select.poll()
    if world.is_terminal():
        _forget_what_was_typed()
        enter.register(sys.stdin.fileno(), select.POLLIN)
    countdown = _Countdown(applied.command, terminal=world.is_terminal() and sys.stderr.isatty(), quiet=quiet)
    try:
        while (ended := reader.find_end()) is None:
            left_s = applied.confirm_by - world.clock.monotonic()
            if left_s < -_GRACE_S:
                raise Stuck("nobody took the change back in time", hint="tapbridge recover", code="no-guard")
            countdown.tell(left_s)
            arrival = acts.find_arrival() if not arrivals else None
            if arrival is not None:
                arrivals.append(arrival)
            if arrivals and acts.arrival_keeps:
                acts.confirm()
            elif enter.poll(_LOOK_S * 1000):
                if sys.stdin.readline():
                    acts.confirm()
                else:  # the terminal's end of file is no Enter
                    enter.unregister(sys.stdin.fileno())
        return ended
    finally:
        countdown.finish()


class _Countdown:
    """What the user sees meanwhile, on stderr: a line that counts on a terminal, else one line."""

    def __init__(self, command: str, *, terminal: bool, quiet: bool) -> None:
        self._command, self._terminal, self._quiet = command, terminal, quiet
        self._told: int | None = None

    def tell(self, left_s: float) -> None:
        seconds = max(0, -int(-left_s // 1))
        if self._quiet or seconds == self._told or (self._told is not None and not self._terminal):
            return
        self._told = seconds
        line = f"{self._command} is done and will be taken back in {seconds} s. To keep it: "
        line += "Enter here, or tapbridge confirm in a new session" if self._terminal else "tapbridge confirm"
        sys.stderr.write(f"\r\x1b[K{line}" if self._terminal else f"{line}\n")
        sys.stderr.flush()

    def finish(self) -> None:
        if self._terminal and self._told is not None:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _forget_what_was_typed() -> None:
    """An Enter from before the change says nothing about it."""
    import termios

    termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)


@contextmanager
def _signals() -> Iterator[None]:
    """INT, TERM and QUIT take the change back; HUP and PIPE end the command alone, and the guardian goes on."""

    def stop(number: int, _frame: FrameType | None) -> None:
        raise _Stopped(number)

    before = {number: signal.signal(number, stop) for number in _ENDING}
    before[signal.SIGPIPE] = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _seen(flow: Flow) -> Finding:
    message = f"a new connection has come in since the change, from {flow.remote_ip} to port {flow.local_port}"
    return Finding(code="inbound-seen", severity=Severity.INFO, subject=flow.local_ip, message=message)


def _result(result: Result, ended: Ended, number: int) -> Result:
    exit_code: int = _EXITS.get(ended.outcome, Exit.STUCK)
    if number and ended.outcome == "rolled-back":
        exit_code = 128 + number
    if ended.outcome == "confirmed":
        return Result(document={**result.document, "outcome": "done"}, text=result.text, findings=result.findings)
    rolled_back = ended.outcome == "rolled-back"
    finding = Finding(
        code=ended.outcome,
        severity=Severity.ERROR,
        subject="up",
        message=f"the change was taken back, {as_before(ended.told)}: {ended.reason}"
        if rolled_back
        else f"the change could not be taken back wholly: {ended.reason}",
        evidence=ended.left or ended.told,
        fix=None if rolled_back else "mend what is named, then: tapbridge recover",
    )
    document = {**result.document, "outcome": ended.outcome}
    return Result(exit=exit_code, document=document, findings=(*result.findings, finding))
