"""One writer per network namespace: flock(2), which the kernel frees when its holder dies, however it dies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tapbridge.model.errors import Forbidden, Refused

_NAME = "lock"


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Hold the lock of this folder, which is there for no longer than it is held or has something in it.

    Raises Refused with the holder's PID, Forbidden where the folder cannot be made.
    """
    held = _acquire(folder)
    try:
        os.ftruncate(held, 0)
        os.pwrite(held, str(os.getpid()).encode(), 0)
        yield
    finally:
        (folder / _NAME).unlink(missing_ok=True)
        os.close(held)
        with suppress(OSError):
            folder.rmdir()


def _acquire(folder: Path) -> int:
    import fcntl

    while True:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            held = os.open(folder / _NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            continue  # the one before us took the folder away between the two calls
        except OSError as error:
            raise Forbidden(
                f"{folder} cannot be written: {error.strerror}", hint="run the command with sudo", code="not-permitted"
            ) from None
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(held, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(held)
            raise Refused(
                f"another tapbridge (PID {holder}) is changing this network at the moment",
                hint="wait for it to end, and try again",
                code="locked",
            ) from None
        if _is_current(held, folder / _NAME):
            return held
        os.close(held)  # its holder unlinked it before we had it


def _is_current(held: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(held), path.stat())
    except FileNotFoundError:
        return False
