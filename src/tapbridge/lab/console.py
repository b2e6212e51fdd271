"""A guest's serial console, seen from the process that started the guest: what it tells, and orders to it."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Callable
from typing import Final

from tapbridge.lab.guest import MARK
from tapbridge.model.errors import HostError

_MOST_BYTES: Final = 1 << 20
_LAST_LINES: Final = 12


class Console:
    """The console of a guest whose stdin and stdout are pipes of ours.

    `seen` is called with every line that the guest tells, its mark taken off.
    """

    def __init__(self, process: subprocess.Popen[str], *, seen: Callable[[str], None] | None = None) -> None:
        if process.stdin is None or process.stdout is None:
            raise ValueError("a console needs pipes at the guest's stdin and stdout")
        self.process = process
        self.told: list[str] = []
        self._orders, self._output = process.stdin, process.stdout.fileno()
        self._text = ""
        self._rest = ""
        self._seen = seen
        self._next = 0

    def order(self, text: str) -> None:
        """Give the guest an order, one line."""
        self._orders.write(text + "\n")
        self._orders.flush()

    def expect(self, *starts: str, limit_s: float) -> str:
        """The next line not yet given out that begins with one of these words.

        Raises HostError, with the end of the console, if the guest ends or the limit is over before.
        """
        deadline = time.monotonic() + limit_s
        while True:
            while self._next < len(self.told):
                line = self.told[self._next]
                self._next += 1
                if line.startswith(starts):
                    return line
            left = deadline - time.monotonic()
            if left <= 0:
                raise HostError(f"the guest has not told {' or '.join(starts)} in {limit_s:g} s{self._end()}")
            if select.select([self._output], [], [], left)[0] and not self._read():
                raise HostError(f"the guest ended before it told {' or '.join(starts)}{self._end()}")

    def wait(self, *, limit_s: float) -> int:
        """Read the console to its end; the exit code of the guest's process. Raises HostError."""
        deadline = time.monotonic() + limit_s
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self._output], [], [], left)[0] and not self._read():
                return self.process.wait(timeout=max(left, 1))
        raise HostError(f"the guest has not ended in {limit_s:g} s{self._end()}")

    def _read(self) -> bool:
        found = os.read(self._output, 1 << 16).decode(errors="replace")
        self._text = (self._text + found)[-_MOST_BYTES:]
        *lines, self._rest = (self._rest + found).replace("\r", "").split("\n")
        for line in lines:
            mark, _, words = line.partition(" ")
            if mark == MARK:
                self.told.append(words)
                if self._seen is not None:
                    self._seen(words)
        self._rest = self._rest[-_MOST_BYTES:]
        return found != ""

    def _end(self) -> str:
        lines = [line for line in self._text.replace("\r", "").split("\n") if line.strip()]
        return "".join(f"\n  {line}" for line in lines[-_LAST_LINES:])
