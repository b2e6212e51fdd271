"""Whose address a message of multicast DNS gives. Pure.

A message is a stranger's bytes (RFC 1035, 4.1; RFC 6762). Every length is checked, a name is followed through no more
pointers than it may have labels, no more records are read than a host has reason to send, and nothing is raised.
"""

from __future__ import annotations

import re

RECORDS = 64
_LABELS = 8
_TYPES = {4: 1, 16: 28}  # A and AAAA, by the size of the address
_LABEL = re.compile(rb"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?")


def find_owner(message: bytes, address: bytes) -> str | None:
    """The host, without `.local`, that an answer gives this address to."""
    if len(message) < 12 or not message[2] & 0x80:  # a question announces nothing
        return None
    questions, *answers = (int.from_bytes(message[place : place + 2], "big") for place in (4, 6, 8, 10))
    place = 12
    for _ in range(min(questions, RECORDS)):
        place = _skip_name(message, place) + 4
    for _ in range(min(sum(answers), RECORDS)):
        owner, place = place, _skip_name(message, place)
        kind = int.from_bytes(message[place : place + 2], "big")
        size = int.from_bytes(message[place + 8 : place + 10], "big")
        place += 10 + size
        if place > len(message):
            return None
        if kind == _TYPES[len(address)] and message[place - size : place] == address:
            return _read_name(message, owner)
    return None


def _skip_name(message: bytes, place: int) -> int:
    """Where the name that begins here ends; the message's end, where it does not."""
    while place < len(message):
        size = message[place]
        if size >= 0xC0:
            return place + 2
        place += 1 + size
        if size == 0:
            return place
    return len(message)


def _read_name(message: bytes, place: int) -> str | None:
    labels: list[str] = []
    for _ in range(2 * _LABELS):
        head = message[place : place + 2]
        if not head:
            return None
        size = head[0]
        if size >= 0xC0:
            place = int.from_bytes(head, "big") & 0x3FFF
        elif size == 0:
            return ".".join(labels[:-1]) or None if labels[-1:] == ["local"] else None
        else:
            label = message[place + 1 : place + 1 + size]
            if len(labels) >= _LABELS or not _LABEL.fullmatch(label):
                return None
            labels.append(label.decode("ascii"))
            place += 1 + size
    return None
