"""The journal: what a transaction would need to be taken back, on disk before its first step.

One file per network namespace, one JSON record a line (model/journal.py). It is there from the first step until the
change is kept or taken back; a journal that is found and that no guard watches belongs to a command that died. The last
line may have been cut short by the crash; such a line was never acted upon, because every record is synced first.

Files that are not below /run outlive the boot, and so must what takes them back: their part of the journal is written
a second time to `durable`, a place that outlives the boot as well, and is in force only after the next boot.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tapbridge.model.errors import Refused, Stuck
from tapbridge.model.journal import Began, Ended, FilesBegan, Record, dump_line, load, read_line
from tapbridge.model.state import File
from tapbridge.transact.files import take_away

_PASSING = ("/run/", "/proc/", "/dev/shm/")


class Journal:
    """The journal in a folder. `durable` is the file for what outlives the boot; None: nothing of that is kept."""

    def __init__(self, folder: Path, durable: Path | None = None) -> None:
        self.folder = folder
        self.path = folder / "journal"
        self.durable = durable
        self._open: int | None = None
        self._id = ""

    def begin(self, record: Began) -> None:
        """Write the first record under another name, sync it, and put it in place: it is there whole or not at all.

        Raises Refused where that cannot be done; nothing is left of it then.
        """
        self._id = record.id
        kept = tuple(file for file in record.files if is_durable(file))
        try:
            if kept and self.durable is not None:
                self.durable.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                files = FilesBegan(id=record.id, boot_id=record.boot_id, files=kept)
                os.close(_put(self.durable, dump_line(files, record.id)))
            self._open = _put(self.path, dump_line(record, record.id))
        except OSError as error:
            self._drop_durable()
            raise Refused(
                f"the journal cannot be written, and without it nothing could be taken back: {error.strerror} "
                f"({error.filename or self.path})",
                hint="make room there, or choose another folder: TAPBRIDGE_RUN_DIR, TAPBRIDGE_STATE_DIR",
                code="no-journal",
            ) from None

    def resume(self) -> None:
        """Open the journal that is there, to add to it. Raises OSError."""
        self._id = self.read()[0]
        self._open = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def note(self, record: Record) -> None:
        """Add a record, and sync it. Raises OSError."""
        assert self._open is not None, "a journal is begun or resumed before it is added to"
        _write(self._open, dump_line(record, self._id))
        os.fsync(self._open)

    def end(self, ended: Ended) -> None:
        """Write the last record, for those who have the journal open, and take the journal away.

        One that ended `stuck` stays, for `recover`. Raises nothing: what is done is done, written or not.
        """
        with suppress(OSError):  # a full disk: those who wait see the journal go, and look at the host
            self.note(ended)
        if self._open is not None:
            os.close(self._open)
            self._open = None
        if ended.outcome != "stuck":
            self.remove()

    def remove(self) -> None:
        """Take the journal away, the durable part first: what is kept longest must not outlast the reason for it."""
        self._drop_durable()
        take_away(self.path)

    def read(self) -> tuple[str, list[str]]:
        """The transaction's id and the texts of its records; ("", []) where there is no journal.

        Raises Stuck where the first record is damaged or of another version.
        """
        try:
            return split(self.path.read_bytes())
        except FileNotFoundError:
            return "", []
        except ValueError as error:
            raise Stuck(
                f"the journal {self.path} cannot be read: {error}",
                hint=f"use the version that wrote it, or, once the network is right, remove it: rm {self.path}",
                code="journal-unreadable",
            ) from None

    def drop_drafts(self, boot_id: str) -> None:
        """Take away what a command has left that died before its journal was in place; by the holder of the lock."""
        for path in (self.path, *([self.durable] if self.durable is not None else [])):
            _draft(path).unlink(missing_ok=True)
        if self.durable is not None and not self.path.exists():
            durable = read_durable(self.durable)
            if durable is not None and durable.boot_id == boot_id:
                self.durable.unlink(missing_ok=True)

    def _drop_durable(self) -> None:
        if self.durable is not None:
            take_away(self.durable)


def split(content: bytes) -> tuple[str, list[str]]:
    """The id and the texts of the records of one transaction, up to the first that was not written whole.

    Raises ValueError where that is the very first.
    """
    lines = content.split(b"\n")
    transaction, first = read_line(lines[0])
    texts = [first]
    for line in lines[1:]:
        try:
            whose, text = read_line(line)
        except ValueError:
            break
        if whose == transaction:
            texts.append(text)
    return transaction, texts


def load_records(texts: Sequence[str]) -> list[Record]:
    """The records themselves. Raises Stuck for one that this version does not know."""
    try:
        return [load(text) for text in texts]
    except ValueError as error:
        raise Stuck(
            f"the journal cannot be read: {error}", hint="use the version that wrote it", code="journal-unreadable"
        ) from None


def read_durable(path: Path) -> FilesBegan | None:
    """What an earlier boot has left of a transaction; None where nothing can be read."""
    try:
        record = load(split(path.read_bytes())[1][0])
    except (OSError, ValueError):
        return None
    return record if isinstance(record, FilesBegan) else None


def durable_files(folder: Path) -> list[Path]:
    """The durable parts of journals that are in a folder."""
    return sorted(folder.glob("journal-*"))


def is_durable(file: File) -> bool:
    """Whether a file outlives the boot."""
    return not file.path.startswith(_PASSING)


def _put(path: Path, line: bytes) -> int:
    """A new file with this line, synced and in place; the descriptor to go on with. Raises OSError."""
    draft = _draft(path)
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        _write(fd, line)
        os.fsync(fd)
        os.rename(draft, path)
        _sync_folder(path.parent)
    except OSError:
        os.close(fd)
        for left in (draft, path):
            left.unlink(missing_ok=True)
        raise
    return fd


def _draft(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")


def _write(fd: int, line: bytes) -> None:
    while line:
        line = line[os.write(fd, line) :]


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
