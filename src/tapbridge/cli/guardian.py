"""The guardian's entry: where the process that takes an unconfirmed change back gets its host, its clock, its code.

`python -m tapbridge.cli.guardian FOLDER ID [DURABLE]` is the second guardian, which systemd's timer starts.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tapbridge.cli.world import SystemClock
from tapbridge.core.compare import kernel_part
from tapbridge.core.merge import merge
from tapbridge.core.restore import restore
from tapbridge.linux.host import LinuxHost
from tapbridge.model.journal import Began
from tapbridge.model.state import Scope
from tapbridge.ports import Host
from tapbridge.transact.found import find_begun
from tapbridge.transact.guardian import Watch, sleeper
from tapbridge.transact.journal import Journal

_PACKAGES: Final = ("tapbridge.core", "tapbridge.linux", "tapbridge.model", "tapbridge.transact")
_LATE: Final = ("ctypes", "difflib", "fcntl", "hashlib", "json", "select", "signal", "subprocess", "zlib")


SECOND_LATE_S = 0.5
"""By how many seconds the second guardian lets the first be first."""


def timer_words(journal: Journal, transaction: str) -> list[str]:
    """The command line of the second guardian."""
    durable = [str(journal.durable.absolute())] if journal.durable is not None else []
    return [sys.executable, "-I", "-m", __name__, str(journal.folder.absolute()), transaction, *durable]


def main(argv: Sequence[str]) -> int:
    """Stand guard for a change that is in the journal; 1 where it could not be taken back wholly."""
    folder, transaction, *durable = argv
    journal = Journal(Path(folder), Path(durable[0]) if durable else None)
    found = find_begun(journal)
    if found is None or found.began.id != transaction or found.armed is None:
        return 0
    preload()
    watch = Watch(
        journal=journal,
        began=found.began,
        host=LinuxHost(),
        clock=SystemClock(),
        apply_by=found.armed.apply_by,
        late_s=SECOND_LATE_S,
    )
    return 1 if watch.stand(sleeper(journal.folder)) == "stuck" else 0


def make_watch(
    folder: Path, durable: Path | None, began: Began, apply_by: float, command: int | None, pid: int
) -> Watch:
    """A guardian's duty, with all that it needs in memory: it will not read a file of code, whatever it does later.

    Raises HostError and OSError where the host cannot be read.
    """
    preload()
    host = LinuxHost()
    rehearse(host, began)
    return Watch(
        journal=Journal(folder, durable),
        began=began,
        host=host,
        clock=SystemClock(),
        apply_by=apply_by,
        command=command,
        command_pid=pid,
    )


def preload() -> None:
    """Import what is otherwise imported when it is needed: the file system may be away by then."""
    for package in _PACKAGES:
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
            importlib.import_module(module.name)
    for name in _LATE:
        importlib.import_module(name)


def rehearse(host: Host, began: Began) -> None:
    """Plan the way back once, so that the deadline finds the code warm and its pages in memory."""
    now = host.observe(Scope.KERNEL)
    wanted = merge(kernel_part(began.before), kernel_part(began.after), began.steps, now, began.touched)
    restore(wanted.state, now, began.touched)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
