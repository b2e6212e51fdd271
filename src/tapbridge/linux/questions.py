"""Questions to the kernel by netlink that are asked seldom: sock_diag, nf_tables, nl80211, single rtnetlink ones."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import Final

SOCK_DIAG: Final = 4  # include/uapi/linux/netlink.h
NETFILTER: Final = 12
GENERIC: Final = 16
ROUTE: Final = 0

_HEADER: Final = struct.Struct("=IHHII")
_REQUEST: Final = 1
_ACK: Final = 4
_ECHO: Final = 8
_DUMP: Final = 0x300
_INTERRUPTED: Final = 0x10
_ERROR, _DONE = 2, 3
_ROOM: Final = 1 << 18
_LIMIT_S: Final = 2.0
_TRIES: Final = 5


def ask(protocol: int, kind: int, body: bytes) -> list[bytes]:
    """One request; what the kernel answers, without the netlink headers. Raises OSError with the kernel's errno.

    Without NLM_F_ECHO recent kernels (seen on 6.18) leave RTM_GETQDISC without an answer.
    """
    return list(_answers(protocol, kind, body, _REQUEST | _ACK | _ECHO))


def dump(protocol: int, kind: int, body: bytes) -> list[bytes]:
    """Everything of a kind, without the netlink headers; repeated if it changed meanwhile. Raises OSError."""
    import errno

    for _ in range(_TRIES):
        try:
            return list(_answers(protocol, kind, body, _REQUEST | _DUMP))
        except InterruptedError:
            continue
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))


def _answers(protocol: int, kind: int, body: bytes, flags: int) -> Iterator[bytes]:
    import socket

    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol) as kernel:
        kernel.settimeout(_LIMIT_S)
        kernel.bind((0, 0))
        kernel.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, 1, 0) + body)
        interrupted = False
        while True:
            messages, sender = kernel.recvfrom(_ROOM)
            if sender[0] != 0:
                continue
            start = 0
            while start + _HEADER.size <= len(messages):
                size, number, marks, _, _ = _HEADER.unpack_from(messages, start)
                payload = messages[start + _HEADER.size : start + size]
                start += max(size + 3 & ~3, _HEADER.size)
                interrupted = interrupted or bool(marks & _INTERRUPTED)
                if number in (_DONE, _ERROR):
                    _check(payload)
                    if interrupted:
                        raise InterruptedError
                    return
                yield payload


def _check(payload: bytes) -> None:
    code = struct.unpack_from("=i", payload)[0] if len(payload) >= 4 else 0
    if code < 0:
        raise OSError(-code, os.strerror(-code))
