"""Files that are put in place whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress

from tapbridge.model.errors import HostError
from tapbridge.model.state import File


def write_file(path: str, content: str | None, mode: int = 0o644, owner: tuple[int, int] | None = None) -> None:
    """Put a file in place by fsync and rename, or (None) take it away; also on the medium when this returns.

    A file that exists keeps its mode and owner, one that is new gets `mode` and `owner` (uid, gid; default: ours), and
    its folder where there is none; a symbolic link is followed, so it stays one. Raises HostError.
    """
    target = os.path.realpath(path)
    folder = os.path.dirname(target)
    try:
        if content is None:
            try:
                os.unlink(target)
            except FileNotFoundError:
                return
        else:
            os.makedirs(folder, exist_ok=True)
            _replace(target, content.encode(errors="surrogateescape"), mode, owner)
        _sync(folder)
    except OSError as error:
        act = "removed" if content is None else "written"
        raise HostError(f"{path} cannot be {act}: {error.strerror}", errno=error.errno or 0) from None


def draft_of(path: str) -> str:
    """Where a file is written before it is renamed into its place: a crash may leave it there."""
    folder, name = os.path.split(os.path.realpath(path))
    return os.path.join(folder, f".{name[:200]}.tapbridge")


def read_text(path: str, limit: int = 64 << 20) -> str:
    """A file's text; bytes that are no UTF-8 survive a `write_file`. Raises HostError, also beyond `limit` bytes."""
    try:
        with open(path, "rb") as file:
            text = file.read(limit + 1)
    except OSError as error:
        raise HostError(f"{path} cannot be read: {error.strerror}", errno=error.errno or 0) from None
    if len(text) > limit:
        raise HostError(f"{path} is larger than {limit} bytes", hint="is it the file that it should be?")
    return text.decode(errors="surrogateescape")


def find_text(path: str, limit: int = 64 << 20) -> str | None:
    """A file's text, None where there is no such file. Raises HostError where it cannot be read."""
    return read_text(path, limit) if os.path.exists(path) else None


def find_names(folder: str) -> list[str]:
    """What is in a folder, sorted; nothing where there is none. Raises HostError where it cannot be read."""
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise HostError(f"{folder} cannot be read: {error.strerror}", errno=error.errno or 0) from None


def read_file(path: str) -> File:
    """A file as it is, with its mode and owner; where there is none its content is None. Raises HostError."""
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return File(path=path)
    except OSError as error:
        raise HostError(f"{path} cannot be read: {error.strerror}", errno=error.errno or 0) from None
    return File(path=path, content=read_text(path), mode=there.st_mode & 0o7777, uid=there.st_uid, gid=there.st_gid)


def _replace(target: str, content: bytes, mode: int, owner: tuple[int, int] | None) -> None:
    try:
        old = os.stat(target)
    except FileNotFoundError:
        old = None
    new = draft_of(target)
    with suppress(FileNotFoundError):
        os.unlink(new)  # of a command that died
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            _write_all(fd, content)
            owner = owner if old is None else (old.st_uid, old.st_gid)
            if owner is not None and owner != (os.geteuid(), os.getegid()):
                os.fchown(fd, *owner)
            os.fchmod(fd, mode if old is None else old.st_mode & 0o7777)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(new, target)
    except OSError:
        os.unlink(new)
        raise


def _write_all(fd: int, content: bytes) -> None:
    while content:
        content = content[os.write(fd, content) :]


def _sync(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
