"""Users and groups by name and by number, as this host knows them."""

from __future__ import annotations

import grp
import os
import pwd
from typing import Final

from tapbridge.model.errors import Refused

_LARGEST: Final = 0xFFFFFFFE  # the number above is the kernel's word for "nobody at all"
NOBODY: Final = 65534
"""The user and the group of that number, who own nothing (overflowuid, overflowgid)."""


def find_uid(text: str) -> int:
    """The number of a user, who is named or numbered; a number need not have an account. Raises Refused."""
    try:
        return pwd.getpwnam(text).pw_uid
    except KeyError:
        return _number(text, "user", "getent passwd")


def find_gid(text: str) -> int:
    """The number of a group, likewise. Raises Refused."""
    try:
        return grp.getgrnam(text).gr_gid
    except KeyError:
        return _number(text, "group", "getent group")


def user_name(uid: int) -> str:
    """The name of a user, or the number where there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_name(gid: int) -> str:
    """The name of a group, likewise."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def groups_of(uid: int) -> tuple[int, list[int]]:
    """The group of a user and all groups that the user is in; of a number without an account, none of note."""
    try:
        account = pwd.getpwuid(uid)
    except KeyError:
        return NOBODY, []
    return account.pw_gid, os.getgrouplist(account.pw_name, account.pw_gid)


def _number(text: str, what: str, command: str) -> int:
    if text.isascii() and text.isdigit() and len(text) < 11 and int(text) <= _LARGEST:
        return int(text)
    raise Refused(f"there is no {what} {text!r}", hint=f"{command} lists them", code=f"no-such-{what}", subject=text)
