"""Sockets of our network namespace, as sock_diag(7) tells them."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from tapbridge.linux.attributes import decode_ip
from tapbridge.linux.questions import SOCK_DIAG, dump

INET, INET6 = 2, 10
TCP, UDP, RAW = 6, 17, 255
ESTABLISHED, LISTEN = 1 << 1, 1 << 10
HELD: Final = 0xFFF & ~(1 << 6)
"""All states but TIME_WAIT, which has no process, and there may be very many."""
_BY_FAMILY: Final = 20  # SOCK_DIAG_BY_FAMILY, include/uapi/linux/sock_diag.h
_REQUEST: Final = struct.Struct("=BBBxI48x")  # struct inet_diag_req_v2
_ANSWER: Final = struct.Struct("=4x2s2s16s16sI8x16xI")  # struct inet_diag_msg


class InetSocket(NamedTuple):
    """A TCP, UDP or raw socket. `bound_to` is the number of a link, 0 for none."""

    local: str
    port: int
    remote: str
    remote_port: int
    bound_to: int
    inode: int


def inet_sockets(family: int, protocol: int, states: int = HELD, which: bytes = b"") -> Iterator[InetSocket]:
    """The sockets in one of the states for which the kernel's byte code `which` holds. Raises OSError."""
    size = 4 if family == INET else 16
    for message in dump_sockets(_REQUEST.pack(family, protocol, 0, states) + which):
        if len(message) >= _ANSWER.size:
            port, remote_port, local, remote, index, inode = _ANSWER.unpack_from(message)
            yield InetSocket(
                decode_ip(local[:size]),
                int.from_bytes(port, "big"),
                decode_ip(remote[:size]),
                int.from_bytes(remote_port, "big"),
                index,
                inode,
            )


def dump_sockets(request: bytes) -> list[bytes]:
    """The answers to a request; none of a kernel without this kind of sock_diag. Raises OSError."""
    try:
        return dump(SOCK_DIAG, _BY_FAMILY, request)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINVAL, errno.EPERM, errno.EACCES, errno.EPROTONOSUPPORT):
            return []
        raise
