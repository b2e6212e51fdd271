"""wpa_supplicant, which keeps a wireless station in its network, found and told by its control socket."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Final

from tapbridge.linux.processes import read_bytes
from tapbridge.model.values import IfName

_SOCKETS: Final = "/proc/thread-self/net/unix"
_MOST_BYTES: Final = 1 << 22
_LIMIT_S: Final = 2.0
_ROOT: Final = 0


def find_supplicant(link: IfName) -> str | None:
    """The control socket of the wpa_supplicant that looks after a station: root's, called as the link, and alive.

    For a dry run without root, which may not ask, it is enough that it is there.
    """
    paths = (line.split()[-1] for line in read_bytes(_SOCKETS, _MOST_BYTES).splitlines()[1:])
    ends = f"/{link}".encode(errors="surrogateescape")
    found = dict.fromkeys(os.fsdecode(path) for path in paths if path.startswith(b"/") and path.endswith(ends))
    return next((path for path in found if _is_root_s(path) and _lives(path)), None)


def join_anew(link: IfName) -> bool:
    """Let the station leave its network and join it again at once; whether anybody was told to.

    The supplicant looks for the network on its own channel first, and does all of it by itself.
    """
    path = find_supplicant(link)
    return path is not None and _answer(path, b"REATTACH") == b"OK\n"


def _is_root_s(path: str) -> bool:
    with suppress(OSError):
        return os.stat(path).st_uid == _ROOT
    return False


def _lives(path: str) -> bool:
    return not os.access(path, os.W_OK) or _answer(path, b"PING") == b"PONG\n"


def _answer(path: str, command: bytes) -> bytes:
    import socket

    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as kept:
        kept.settimeout(_LIMIT_S)
        kept.bind("")  # an abstract name, by which it can answer
        kept.connect(path)
        kept.send(command)
        return kept.recv(4096)
    return b""
