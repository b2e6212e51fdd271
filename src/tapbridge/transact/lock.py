"""One writer per network namespace: flock(2), which the kernel frees when its holder dies, however it dies."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tapbridge.model.errors import Forbidden, Refused
from tapbridge.transact.files import take_away

_NAME = "lock"
_PAUSE_S = 0.02  # between two tries; flock(2) itself would wait without a limit
_SIGNED_WITHIN_S = 0.2  # who has just got the lock has not yet left its PID


@contextmanager
def writing(folder: Path, wait_s: float = 0.0, press: Callable[[int], None] | None = None) -> Iterator[None]:
    """Hold the lock of this folder, which is there for no longer than it is held or has something in it.

    Waits `wait_s` seconds at most; `press` is told the holder's PID (0: unknown) after each try that failed. Raises
    Refused with the holder's PID, Forbidden where the folder cannot be made.
    """
    held = _acquire(folder, time.monotonic() + wait_s, press)
    try:
        yield
    finally:
        _release(held, folder)


def is_held(folder: Path) -> bool:
    """Whether somebody holds the lock of this folder. A file that a dead holder has left means nothing.

    Raises OSError.
    """
    import fcntl

    try:
        found = os.open(folder / _NAME, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(found, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(found)
    return False


def _release(held: int, folder: Path) -> None:
    """Raises nothing: what was done under the lock is done."""
    take_away(folder / _NAME)
    os.close(held)
    with suppress(OSError):
        folder.rmdir()


def _acquire(folder: Path, deadline: float, press: Callable[[int], None] | None) -> int:
    import fcntl

    while True:
        held = _open(folder)
        if held is None:
            continue  # the one before us took the folder away between the two calls
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _read_holder(held)
            os.close(held)
            if time.monotonic() >= deadline + (0 if holder else _SIGNED_WITHIN_S):
                raise Refused(
                    f"another tapbridge (PID {holder or 'unknown'}) is changing this network at the moment",
                    hint="wait for it to end, or let this command wait: --wait",
                    code="locked",
                ) from None
            if press is not None:
                press(holder)
            time.sleep(_PAUSE_S)
            continue
        if _is_current(held, folder / _NAME):
            try:
                _sign(held)
            except OSError as error:
                _release(held, folder)
                raise _unwritable(folder, error) from None
            return held
        os.close(held)  # its holder unlinked it before we had it


def _open(folder: Path) -> int | None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):  # a folder or not, open(2) will tell: it may be gone by now
            os.mkdir(folder, 0o700)
        return os.open(folder / _NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError as error:
        if folder.is_symlink():  # to nowhere: it would never be there
            raise _unwritable(folder, error) from None
        return None
    except PermissionError as error:
        raise Forbidden(
            f"{folder} cannot be written: {error.strerror}",
            hint="run the command with sudo",
            code="not-permitted",
        ) from None
    except OSError as error:
        raise _unwritable(folder, error) from None


def _sign(held: int) -> None:
    """Leave our PID for those who find the lock held. Raises OSError."""
    os.ftruncate(held, 0)
    os.pwrite(held, str(os.getpid()).encode(), 0)


def _unwritable(folder: Path, error: OSError) -> Refused:
    return Refused(
        f"{folder} cannot be written, and without a journal nothing could be taken back: {error.strerror}",
        hint="make room there, or choose another folder: TAPBRIDGE_RUN_DIR",
        code="no-journal",
    )


def _read_holder(held: int) -> int:
    text = os.pread(held, 32, 0)
    return int(text) if text.isdigit() else 0


def _is_current(held: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(held), path.stat())
    except FileNotFoundError:
        return False
