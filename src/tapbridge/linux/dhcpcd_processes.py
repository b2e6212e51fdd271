"""The processes of a dhcpcd: which belong together, and the command line under the title that it writes over it.

It divides itself among several (manager, privileged proxy, network and control proxy, one for each packet socket), of
which only the privileged proxy may configure anything. The title covers arguments and environment where the kernel
shows them; but the vector of its main(), at the bottom of the stack, still leads to the words, copied elsewhere.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Final

from tapbridge.core.dhcpcd import AT_ONCE, read_invocation
from tapbridge.linux import processes
from tapbridge.model.state import Client

NAME: Final = "dhcpcd"
ENVIRONMENT: Final = ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",)
"""Its own is under the title."""

_RUN: Final = "/run/dhcpcd"
_START_STACK: Final = 25  # of /proc/PID/stat, behind the name: field 28
_POINTER: Final = struct.calcsize("P")
_NAMED: Final = b"interface="
_ANSWER_S: Final = 2.0  # it runs its hooks before it answers
_MOST_WORDS: Final = 256
_WORD_BYTES: Final = 4096


def read_argv(pid: int) -> tuple[str, ...]:
    """The command line of one of its processes, less what says only how to start; without the right to look into
    memory, its title."""
    try:
        exe = os.readlink(f"/proc/{pid}/exe")
        words = _read_words(pid)
    except (OSError, ValueError, struct.error):
        return processes.argument_vector(pid)[:1]
    return (exe, *(word for word in words if word not in AT_ONCE))


def is_title(argv: tuple[str, ...]) -> bool:
    """Whether this is the title of a process instead of its command line."""
    return len(argv) == 1 and argv[0].startswith(f"{NAME}:")


def at_once(argv: tuple[str, ...]) -> tuple[str, ...]:
    """The command line by which it is started: it gives up after a time unless it is in the background."""
    return (argv[0], AT_ONCE[0], *argv[1:])


def family(pids: Collection[int]) -> set[int]:
    """The processes of a dhcpcd of which these are some: all below the topmost of that name."""
    own = _own()
    parents = {pid: processes.parent(pid) for pid in own}

    def top(pid: int) -> int:
        while parents.get(pid) in own:
            pid = parents[pid]
        return pid

    tops = {top(pid) for pid in pids if pid in own}
    return {pid for pid in own if top(pid) in tops}


def managed_links(pid: int) -> list[str]:
    """The links that a dhcpcd which was told none has in hand, by its own word; none where it does not answer."""
    import socket
    import time

    if processes.state(pid) in ("T", "t"):  # it is held still, and would not answer
        return []
    deadline = time.monotonic() + _ANSWER_S
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as asked:
        asked.settimeout(_ANSWER_S)
        told = b""
        try:
            asked.connect(f"/proc/{pid}/root{_RUN}/sock")
            asked.send(b"--getinterfaces\0")
            while not _is_whole(told) and time.monotonic() < deadline and (part := asked.recv(65536)):
                told += part
        except OSError:
            return []
    return list(dict.fromkeys(_names(told)))


def await_link(client: Client, limit_s: float) -> None:
    """Wait until one that chooses its links by itself has chosen the client's, `limit_s` seconds at most."""
    import time

    if client.link is None or read_invocation(client.argv).alone:
        return
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if any(client.link in managed_links(pid) for pid in _own() if processes.may_configure_network(pid)):
            return
        time.sleep(0.02)


def _own() -> set[int]:
    return {pid for pid in processes.pids() if processes.command_name(pid) == NAME and processes.in_our_netns(pid)}


def _is_whole(told: bytes) -> bool:
    """Whether an answer has as many parts as it says in its first word (size_t); each ends like a variable."""
    return len(told) >= _POINTER and told.endswith(b"\0") and len(_names(told)) >= struct.unpack_from("N", told)[0]


def _names(told: bytes) -> list[str]:
    """The values of `interface=`: each part is the variables that a script of dhcpcd's would get."""
    parts = told[_POINTER:].split(b"\0")
    return [part[len(_NAMED) :].decode(errors="replace") for part in parts if part.startswith(_NAMED)]


def runs(argv: tuple[str, ...]) -> bool:
    """Whether there is one, with whatever other words, that has the PID file of this command line."""
    name = f"{read_invocation(argv).stem}.pid".lstrip(".")
    pid = processes.read_bytes(f"{_RUN}/{name}", 32).strip()
    return pid.isdigit() and processes.command_name(int(pid)) == NAME and processes.in_our_netns(int(pid))


def forget(argv: tuple[str, ...], link: str | None) -> None:
    """Remove what one that was killed has left below /run: its PID, its sockets, its part of resolv.conf."""
    stem = read_invocation(argv).stem
    for name in (f"{stem}.{kind}".lstrip(".") for kind in ("pid", "sock", "unpriv.sock")):
        with suppress(OSError):
            os.unlink(f"{_RUN}/{name}")
    for path in Path(_RUN, "hook-state").glob(f"*/{link}.*"):
        with suppress(OSError):
            path.unlink()


def _read_words(pid: int) -> list[str]:
    stat = processes.read_bytes(f"/proc/{pid}/stat").rpartition(b") ")[2].split()
    bottom = int(stat[_START_STACK])
    memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        (count,) = struct.unpack("l", os.pread(memory, struct.calcsize("l"), bottom))
        if not 0 < count <= _MOST_WORDS:
            raise ValueError("this is no argument vector")
        vector = os.pread(memory, count * _POINTER, bottom + _POINTER)
        places = struct.unpack(f"{count}P", vector)[1:]
        return [_read_word(memory, place) for place in places]
    finally:
        os.close(memory)


def _read_word(memory: int, place: int) -> str:
    """A word, to its end; it may lie at the end of what is mapped."""
    word = b""
    while b"\0" not in word and len(word) < _WORD_BYTES:
        part = os.pread(memory, 64, place + len(word))
        if not part:
            raise ValueError("this is no word")
        word += part
    return word.partition(b"\0")[0].decode(errors="surrogateescape")
