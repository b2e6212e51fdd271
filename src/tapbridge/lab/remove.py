"""Taking a lab away, whatever is left of it.

Nothing is taken by its name or its PID alone. A namespace is ours if its loopback link bears our mark; a process is
ours if it is in such a namespace, or in the mount namespace of a keeper that is. Between looking and killing, a pidfd
holds the process, so that a PID used again is never hit.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from tapbridge.lab import namespaces as ns
from tapbridge.lab.place import with_system_path
from tapbridge.lab.record import Phase, Record, Shelf
from tapbridge.lab.spec import MARK, Mark, find_mark, netns_name
from tapbridge.model.errors import Refused, Stuck, TapbridgeError
from tapbridge.model.noun import replace

NAMED: Final = Path("/run/netns")
_GENTLE_S: Final = 2.0  # what a guest gets to close its disks
_ROUNDS: Final = 20  # a process can fork while we look


def survey(shelf: str) -> dict[int, Mark]:
    """The places of a shelf's labs in which processes live, by the inodes of their network namespaces.

    Looks into every network namespace that a process of this machine lives in, and that we may look into.
    """
    own = os.stat("/proc/self/ns/net").st_ino
    first: dict[int, int] = {}
    for pid in _pids():
        inode = _inode(pid, "net")
        if inode not in (None, own):
            first.setdefault(inode, pid)
    found = {inode: _marked(f"/proc/{pid}/ns/net", pid) for inode, pid in first.items()}
    return {inode: mark for inode, mark in found.items() if mark is not None and mark.shelf == shelf}


def remove(shelf: Shelf, name: str) -> bool:
    """Remove a lab, on record or not; False if there was nothing. The shelf must be locked.

    Raises Refused from within the lab, Stuck if something resists.
    """
    try:
        record = shelf.find(name)
        known = record is not None
    except TapbridgeError:  # its record is damaged: its marks remain
        record, known = None, True
    own = _marked("/proc/self/ns/net", None)
    if own is not None and (own.shelf, own.lab) == (shelf.ident, name):
        raise Refused(f"this process is in the lab {name} itself", hint="run it outside of the lab", code="inside-lab")
    if record is not None:
        shelf.write(replace(record, phase=Phase.GOING))
    ended = _end_processes(shelf.ident, name)
    unnamed = _unname(shelf.ident, name, record)
    shelf.forget(name)
    return known or ended or unnamed


def leftovers(shelf: Shelf) -> list[str]:
    """Every lab of this shelf of which anything is left, sorted. The shelf must be locked."""
    named = [mark for path in NAMED.glob("tb-*") if (mark := _marked(str(path), None)) is not None]
    found = [mark.lab for mark in (*named, *survey(shelf.ident).values()) if mark.shelf == shelf.ident]
    return sorted({*shelf.names(), *shelf.drafts(), *found})


def _end_processes(shelf: str, lab: str) -> bool:
    any_found = False
    for round_number in range(_ROUNDS):
        inodes = {inode for inode, mark in survey(shelf).items() if mark.lab == lab}
        pidfds = list(_open_inhabitants(f"{MARK} {shelf} {lab} ".encode(), inodes))
        if not pidfds:
            return any_found
        any_found = True
        try:
            _end(pidfds, gently=round_number == 0)
        finally:
            for pidfd in pidfds:
                os.close(pidfd)
    raise Stuck(
        f"processes of the lab {lab} do not end",
        hint=f"see them with: ps -e -o pid,netns,args; then again: tapbridge lab down {lab}",
        code="lab-stuck",
        subject=lab,
    )


def _open_inhabitants(keeper: bytes, inodes: set[int]) -> Iterator[int]:
    """A pidfd of every process in these network namespaces, or in the mount namespace of one of their keepers."""
    mounts = {_inode(pid, "mnt") for pid in _pids() if _inode(pid, "net") in inodes and _begins_with(pid, keeper)}
    mounts -= {None, os.stat("/proc/self/ns/mnt").st_ino}
    for pid in _pids():
        with contextlib.suppress(ProcessLookupError):
            pidfd = os.pidfd_open(pid)
            if _inode(pid, "net") in inodes or _inode(pid, "mnt") in mounts:
                yield pidfd
            else:
                os.close(pidfd)


def _end(pidfds: Iterable[int], *, gently: bool) -> None:
    waiting = set(pidfds)
    first = (signal.SIGTERM, signal.SIGCONT) if gently else (signal.SIGKILL,)
    for signals in (first, (signal.SIGKILL,)):
        for pidfd in waiting:
            for number in signals:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pidfd, number)
        deadline = time.monotonic() + _GENTLE_S
        while waiting and (left := deadline - time.monotonic()) > 0:
            waiting -= set(select.select(list(waiting), [], [], left)[0])
        if not waiting:
            return


def _unname(shelf: str, lab: str, record: Record | None) -> bool:
    """Take the names out of /run/netns: those whose namespace bears our mark, and files left by a crash of ours."""
    places = record.spec.places if record is not None and record.named else ()
    unfinished = {netns_name(lab, place) for place in places}
    found = False
    for path in sorted(NAMED.glob(f"tb-{lab}-*")):
        mark = _marked(str(path), None)
        if mark is not None and (mark.shelf, mark.lab) == (shelf, lab):
            ns.detach(str(path))
        elif mark is not None or path.name not in unfinished or os.path.ismount(path):
            continue
        path.unlink()
        found = True
    return found


def _marked(netns: str, pid: int | None) -> Mark | None:
    """The mark in a network namespace."""
    words = ["nsenter", f"--net={netns}"]
    if pid is not None and not has_privilege():
        words += [f"--target={pid}", "--user", "--preserve-credentials"]
    words += ["ip", "-j", "link", "show", "dev", "lo"]
    environ = with_system_path(os.environ)
    done = subprocess.run(words, env=environ, capture_output=True, text=True, check=False, timeout=10)
    if done.returncode != 0 or not done.stdout:
        return None
    return find_mark(str(json.loads(done.stdout)[0].get("ifalias", "")))


def has_privilege() -> bool:
    """Whether this process may make and enter namespaces where it is (CAP_SYS_ADMIN)."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        capabilities = next(line.split()[1] for line in status if line.startswith("CapEff:"))
    return bool(int(capabilities, 16) >> 21 & 1)


def _begins_with(pid: int, words: bytes) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(words)
    return False


def _inode(pid: int, kind: str) -> int | None:
    with contextlib.suppress(OSError):
        return os.stat(f"/proc/{pid}/ns/{kind}").st_ino
    return None


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]
