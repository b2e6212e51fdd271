"""Files of ours that tell of something unfinished by being there."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

_TRIES = 3


def take_away(path: Path) -> None:
    """Remove a file, if it is there. What fails once is tried again; what fails for good stays, and is looked at by
    whoever finds it: a journal says itself how its change ended, and a lock is held by nobody."""
    for _ in range(_TRIES):
        with suppress(OSError):
            path.unlink(missing_ok=True)
            return
