"""Is a tap what was promised? Tried by a child that gives up every right and opens it as its user."""

from __future__ import annotations

import errno
import os
from typing import Final

from tapbridge.linux.accounts import NOBODY, group_name, groups_of, user_name
from tapbridge.linux.tun import TUN, attach
from tapbridge.model.state import Tap
from tapbridge.model.verdict import Finding, Severity

_RIGHTS, _FILE, _TAP, _OPEN = b"rights", b"file", b"tap", b"open"
_FIX: Final = f'chmod 0666 {TUN}; and for the next boot a rule of udev: KERNEL=="tun", MODE="0666"'


def try_tap(name: str, tap: Tap) -> Finding | None:
    """Open the tap as its owner, or as somebody of its group, and close it again: nothing about it changes.

    None: it can be opened. A warning: not, for a reason that is not the tap's. An error: the tap refuses its own user.
    """
    uid, gid = NOBODY, tap.group if tap.group is not None else NOBODY
    groups: list[int] = []
    if tap.owner is not None:
        uid = tap.owner
        gid, groups = groups_of(uid)
    at, number = _opened_as(uid, gid, groups, name, tap)
    if at == _OPEN or (at == _TAP and number == errno.EBUSY):  # its user was quicker than we
        return None
    who = user_name(uid) if tap.owner is not None else f"somebody of the group {group_name(gid)}"
    words = os.strerror(number)
    if at == _FILE:
        message = f"{who} may attach to {name}, but may not open {TUN} ({words}), without which no tap can be opened"
        return Finding(code="tun-closed", severity=Severity.WARNING, subject=TUN, message=message, fix=_FIX)
    if at == _RIGHTS:
        message = f"nobody has tried whether {who} can open {name}: this process cannot become {who} ({words})"
        return Finding(code="tap-untried", severity=Severity.WARNING, subject=name, message=message)
    message = f"{who} tried to open {name}, and the kernel said: {words}"
    return Finding(code="tap-refuses", severity=Severity.ERROR, subject=name, message=message)


def _opened_as(uid: int, gid: int, groups: list[int], name: str, tap: Tap) -> tuple[bytes, int]:
    """Where the way to the open tap ended, and with which errno."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        at, number = _RIGHTS, 0
        try:
            os.setgroups([*groups, gid])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            at = _FILE
            descriptor = os.open(TUN, os.O_RDWR | os.O_CLOEXEC)
            at = _TAP
            attach(descriptor, name, tap)
            at = _OPEN
        except OSError as error:
            number = error.errno or 0
        finally:
            os.write(writing, at + b" %d" % number)
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    at, _, number_text = told.partition(b" ")
    return at or _RIGHTS, int(number_text or errno.ECHILD)
