"""One writer per network namespace: flock(2), which the kernel frees when its holder dies, however it dies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tapbridge.model.errors import Forbidden, Refused


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Hold the lock of this folder. Raises Refused with the holder's PID, Forbidden where the folder cannot be made."""
    import fcntl

    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        held = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Forbidden(
            f"{folder} cannot be written: {error.strerror}", hint="run the command with sudo", code="not-permitted"
        ) from None
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(held, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise Refused(
                f"another tapbridge (PID {holder}) is changing this network at the moment",
                hint="wait for it to end, and try again",
                code="locked",
            ) from None
        os.ftruncate(held, 0)
        os.pwrite(held, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(held)
