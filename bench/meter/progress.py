"""Where the bench has got to, for whoever waits for it."""

from __future__ import annotations

import sys
import time

EVERY_S = 10.0

_told_at = -EVERY_S


def tell(text: str) -> None:
    """One line on stderr: in place on a terminal; elsewhere a line of its own, one in EVERY_S seconds."""
    global _told_at
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
    elif time.monotonic() - _told_at >= EVERY_S:
        _told_at = time.monotonic()
        print(text.strip(), file=sys.stderr, flush=True)


def end() -> None:
    """The line is done with."""
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
