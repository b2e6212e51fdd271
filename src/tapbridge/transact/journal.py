"""The journal: what a transaction would need to be taken back, on disk before its first step.

One file per network namespace, one JSON record a line. It is there from the first step to the last; a journal that
is found by a later command belongs to a command that died.
"""

from __future__ import annotations

import os
from pathlib import Path

from tapbridge.model.journal import Acting, Began, Record, dump, load


class Journal:
    """The journal in a folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "journal"
        self._open: int | None = None

    def begin(self, record: Began) -> None:
        """Write the first record under another name, sync it, and put it in place: it is there whole or not at all."""
        draft = self.path.with_suffix(".new")
        self._open = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        os.write(self._open, dump(record).encode() + b"\n")
        os.fsync(self._open)
        os.rename(draft, self.path)
        _sync_folder(self.path.parent)

    def note(self, record: Acting) -> None:
        """Add a record before a step that is no kernel message."""
        assert self._open is not None, "a journal is begun before it is added to"
        os.write(self._open, dump(record).encode() + b"\n")
        os.fsync(self._open)

    def close(self, *, keep: bool = False) -> None:
        """End the transaction: the journal goes, unless it is kept for `recover`."""
        if self._open is not None:
            os.close(self._open)
            self._open = None
        if not keep:
            self.path.unlink(missing_ok=True)

    def find_begun(self, boot_id: str) -> Began | None:
        """What a command that died has left, if any. A journal of an earlier boot is history, and is removed."""
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return None
        record: Record | None = load(lines[0]) if lines else None
        if isinstance(record, Began) and record.boot_id == boot_id:
            return record
        self.path.unlink(missing_ok=True)
        return None


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
