"""Where the bench has got to, for whoever waits for it."""

from __future__ import annotations

import sys


def tell(text: str) -> None:
    """One line on stderr: in place on a terminal, a line of its own in a file."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
    else:
        print(text.rstrip("\n"), file=sys.stderr, flush=True)
