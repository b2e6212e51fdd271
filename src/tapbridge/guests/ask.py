"""Short questions over unix sockets of guests: lines of JSON there and back, to all of them at once, and no waiting for
whoever does not answer.

A path is a stranger's word. Nothing is sent before the kernel has said that the process that listens there is the one
whose command line named it. What comes back is bounded, and so is the time for all of it together.
"""

from __future__ import annotations

import json
import selectors
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

PATIENCE_S = 0.1
ANSWER_BYTES = 1 << 18
"""Of one socket; a card that filters no VLAN lists all 4,096 of them, in 25 kB."""

ALL_BYTES = 1 << 23
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What to say to the process `pid` at `path`: lines, each of which is answered."""

    pid: int
    path: str
    text: bytes


@dataclass(slots=True)
class _Talk:
    number: int
    left: int
    text: bytes = b""
    answers: list[dict[str, Any]] = field(default_factory=list)

    def take(self, chunk: bytes) -> bool:
        """Read more; False when nothing more is wanted or comes."""
        *lines, self.text = (self.text + chunk).split(b"\n")
        for line in lines:
            answer = _read(line)
            if answer is not None:
                self.answers.append(answer)
                self.left -= 1
        return bool(chunk) and self.left > 0 and len(self.text) < ANSWER_BYTES


def ask(questions: Sequence[Question], patience_s: float = PATIENCE_S) -> list[tuple[dict[str, Any], ...]]:
    """The answers to each question, those that came in time: objects that have `return` or `error`."""
    deadline = time.monotonic() + patience_s
    answers: list[tuple[dict[str, Any], ...]] = [()] * len(questions)
    budget = ALL_BYTES
    with selectors.DefaultSelector() as selector:
        try:
            for number, question in enumerate(questions):
                connection = _open(question)
                if connection is not None:
                    selector.register(connection, selectors.EVENT_READ, _Talk(number, question.text.count(b"\n")))
            while selector.get_map() and budget > 0 and (left := deadline - time.monotonic()) > 0:
                for key, _ in selector.select(left):
                    assert isinstance(key.fileobj, socket.socket)
                    chunk = _receive(key.fileobj)
                    budget -= len(chunk)
                    more = key.data.take(chunk)
                    answers[key.data.number] = tuple(key.data.answers)
                    if not more:
                        selector.unregister(key.fileobj)
                        key.fileobj.close()
        finally:
            for key in list(selector.get_map().values()):
                key.fileobj.close()  # type: ignore[union-attr]
    return answers


def _open(question: Question) -> socket.socket | None:
    """A connection over which the question was asked."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        connection.connect(question.path)
        peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        if _CREDENTIALS.unpack(peer)[0] == question.pid:
            connection.sendall(question.text)
            return connection
    except (OSError, ValueError):  # nobody, not for us, somebody else is being served, or no path at all
        pass
    connection.close()
    return None


def _receive(connection: socket.socket) -> bytes:
    try:
        return connection.recv(ANSWER_BYTES)
    except OSError:
        return b""


def _read(line: bytes) -> dict[str, Any] | None:
    """An answer; None for a greeting, an event, or nonsense."""
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) and ("return" in answer or "error" in answer) else None
