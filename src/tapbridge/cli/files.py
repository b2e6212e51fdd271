"""Files that a change of an earlier boot has left behind: put back as they were."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tapbridge.model.errors import HostError, Stuck
from tapbridge.model.step import WriteFile
from tapbridge.model.verdict import Finding, Severity
from tapbridge.ports import Host
from tapbridge.transact.journal import read_durable


def restore_files(journals: Sequence[Path], host: Host, boot_id: str) -> Finding | None:
    """Put back the files of every durable journal that is not of the boot `boot_id`, and take the journal away.

    Raises Stuck with what could not be written; such a journal stays.
    """
    restored: list[str] = []
    errors: list[str] = []
    for path in journals:
        kept = read_durable(path)
        if kept is None:
            errors.append(f"{path} cannot be read")
            continue
        if kept.boot_id == boot_id:
            continue
        failed = len(errors)
        for file, there in zip(kept.files, host.read_files([f.path for f in kept.files]), strict=True):
            if there == file or (there.content is None and file.content is None):
                continue
            try:
                owner = (file.uid, file.gid)
                host.perform((WriteFile(path=file.path, content=file.content, mode=file.mode, owner=owner),))
                restored.append(file.path)
            except HostError as error:
                errors.append(error.message)
        if len(errors) == failed:
            path.unlink(missing_ok=True)
    if errors:
        raise Stuck(
            f"files that a change before the last boot has left could not be put back: {'; '.join(errors[:5])}",
            hint="mend what is named, then: tapbridge recover; a journal that nobody can read may be removed by hand",
            code="recover-incomplete",
        )
    if not restored:
        return None
    message = f"a change before the last boot was cut off; {', '.join(restored)} is as it was before it"
    return Finding(code="recovered", severity=Severity.INFO, subject="files", message=message)
