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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tapbridge.lab import namespaces as ns
from tapbridge.lab.record import Phase, Record, Shelf
from tapbridge.lab.spec import MARK, netns_name, parse_mark
from tapbridge.model.errors import Refused, Stuck, TapbridgeError

NAMED: Final = Path("/run/netns")
_GENTLE_S: Final = 2.0  # what a guest gets to close its disks
_ROUNDS: Final = 20  # a process can fork while we look


@dataclass(frozen=True, slots=True, kw_only=True)
class Inhabited:
    """The namespaces of labs in which processes live: inode of a network namespace → (lab, place)."""

    places: dict[int, tuple[str, str]]

    def of(self, lab: str) -> set[int]:
        """The inodes of one lab."""
        return {inode for inode, (owner, _) in self.places.items() if owner == lab}


def survey() -> Inhabited:
    """Look into every network namespace that a process of this machine lives in, and that we may look into."""
    own = os.stat("/proc/self/ns/net").st_ino
    first: dict[int, int] = {}
    for pid in _pids():
        inode = _inode(pid, "net")
        if inode not in (None, own):
            first.setdefault(inode, pid)
    found = {inode: _marked(f"/proc/{pid}/ns/net", pid) for inode, pid in first.items()}
    return Inhabited(places={inode: mark for inode, mark in found.items() if mark is not None})


def remove(shelf: Shelf, name: str) -> bool:
    """Remove a lab, on record or not; False if there was nothing. The shelf must be locked.

    Raises Refused from within the lab, Stuck if something resists.
    """
    try:
        record = shelf.find(name)
        known = record is not None
    except TapbridgeError:  # its record is damaged: its marks remain
        record, known = None, True
    if record is not None:
        own = os.stat("/proc/self/ns/net").st_ino
        if any(keep.netns == own for keep in record.keeps.values()):
            raise Refused(
                f"this process is in the lab {name} itself", hint="run it outside of the lab", code="inside-lab"
            )
        shelf.write(replace(record, phase=Phase.GOING))
    ended = _end_processes(name)
    unnamed = _unname(name, record)
    shelf.forget(name)
    return known or ended or unnamed


def leftovers(shelf: Shelf) -> list[str]:
    """Every lab of which anything is left, sorted."""
    named = {mark[0] for path in NAMED.glob("tb-*") if (mark := _marked(str(path), None)) is not None}
    return sorted({*shelf.names(), *named, *(lab for lab, _ in survey().places.values())})


def _end_processes(lab: str) -> bool:
    any_found = False
    for round_number in range(_ROUNDS):
        inodes = survey().of(lab)
        pidfds = list(_open_inhabitants(lab, inodes))
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


def _open_inhabitants(lab: str, inodes: set[int]) -> Iterator[int]:
    """A pidfd of every process in these network namespaces, or in the mount namespace of one of their keepers."""
    mounts = {_inode(pid, "mnt") for pid in _pids() if _inode(pid, "net") in inodes and _is_keeper(pid, lab)}
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
    first = (signal.SIGTERM, signal.SIGHUP, signal.SIGCONT) if gently else (signal.SIGKILL,)
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


def _unname(lab: str, record: Record | None) -> bool:
    """Take the names out of /run/netns: those whose namespace bears our mark, and files left by a crash of ours."""
    places = record.spec.places if record is not None and record.named else ()
    unfinished = {netns_name(lab, place) for place in places}
    found = False
    for path in sorted(NAMED.glob(f"tb-{lab}-*")):
        mark = _marked(str(path), None)
        if mark is not None and mark[0] == lab:
            ns.detach(str(path))
        elif path.name not in unfinished or os.path.ismount(path) or path.stat().st_size != 0:
            continue
        path.unlink()
        found = True
    return found


def _marked(netns: str, pid: int | None) -> tuple[str, str] | None:
    """The mark in a network namespace: (lab, place)."""
    words = ["nsenter", f"--net={netns}"]
    if pid is not None and not has_privilege():
        words += [f"--target={pid}", "--user", "--preserve-credentials"]
    done = subprocess.run(
        [*words, "ip", "-j", "link", "show", "dev", "lo"], capture_output=True, text=True, check=False, timeout=10
    )
    if done.returncode != 0 or not done.stdout:
        return None
    return parse_mark(str(json.loads(done.stdout)[0].get("ifalias", "")))


def has_privilege() -> bool:
    """Whether this process may make and enter namespaces where it is (CAP_SYS_ADMIN)."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        capabilities = next(line.split()[1] for line in status if line.startswith("CapEff:"))
    return bool(int(capabilities, 16) >> 21 & 1)


def _is_keeper(pid: int, lab: str) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(f"{MARK} {lab} ".encode())
    return False


def _inode(pid: int, kind: str) -> int | None:
    with contextlib.suppress(OSError):
        return os.stat(f"/proc/{pid}/ns/{kind}").st_ino
    return None


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]
