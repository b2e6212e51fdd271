"""A lock on the outside world, for tests that must not reach it by accident.

It hangs on the interpreter's own audit events (PEP 578), so it also holds for code that imported `socket` or
`os.open` long before. Reading files stays allowed. An audit hook cannot be taken away again; it is switched.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_FORBIDDEN = frozenset({
    "socket.__new__", "subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn",
    "os.kill", "os.killpg", "pty.spawn", "fcntl.ioctl", "ctypes.dlopen", "syslog.syslog",
})  # fmt: skip
_WRITING = frozenset({
    "os.chmod", "os.chown", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.setxattr", "os.symlink",
    "os.truncate", "os.utime", "shutil.rmtree",
})  # fmt: skip
_NOT_FOLLOWED = {"os.link", "os.remove", "os.rename", "os.symlink"}  # a symbolic link itself, not where it leads
_WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class OutsideWorldError(AssertionError):
    """A test that should be pure reached for the world."""


_installed = False
_writable: tuple[str, ...] | None = None


@contextmanager
def outside_shut(*writable: str | os.PathLike[str]) -> Iterator[None]:
    """Until the end every socket, process and signal, and every write to a file that is not below one of the
    `writable` folders, raises OutsideWorldError."""
    global _installed, _writable
    if not _installed:
        sys.addaudithook(_hook)
        _installed = True
    before, no_bytecode = _writable, sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # a late import would write its .pyc file
    _writable = tuple(os.path.realpath(folder) + "/" for folder in writable)
    try:
        yield
    finally:
        _writable, sys.dont_write_bytecode = before, no_bytecode


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if _writable is None:
        return
    if event in _FORBIDDEN:
        raise OutsideWorldError(f"a pure test reached for the world: {event}{args[:2]}")
    if event == "open" and args[2] & _WRITE_FLAGS:
        _check_path(event, args[0])
    elif event in _WRITING:
        if event != "os.symlink":  # what a symbolic link leads to is not written
            _check_path(event, args[0])
        if event in {"os.rename", "os.link", "os.symlink"}:
            _check_path(event, args[1])


def _check_path(event: str, path: Any) -> None:
    if isinstance(path, int) or path is None:  # a descriptor was checked when it was opened
        return
    text = os.fsdecode(path)
    folder, name = os.path.split(text)
    where = os.path.join(os.path.realpath(folder), name) if event in _NOT_FOLLOWED else os.path.realpath(text)
    if where != "/dev/null" and not (where + "/").startswith(_writable or ()):
        raise OutsideWorldError(f"a pure test wrote to the world: {event} {where}")
