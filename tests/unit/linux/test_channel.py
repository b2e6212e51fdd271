"""How the answers on a netlink socket are told apart: answers written by hand, since no kernel gives them at will."""

from __future__ import annotations

import errno
import socket
import struct
from typing import Any

import pytest

from tapbridge.linux.attributes import Malformed, pack
from tapbridge.linux.channel import Channel, Request

LINK, DONE, ERROR = 16, 3, 2
INTERRUPTED, EXPLAINED = 0x10, 0x200
ROUTE_DUMP = 26


def message(kind: int, sequence: int, body: bytes, flags: int = 0) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 77) + body + bytes(-len(body) % 4)


def done(sequence: int, code: int = 0) -> bytes:
    return message(DONE, sequence, struct.pack("=i", -code))


def answer(sequence: int, code: int = 0, words: str = "") -> bytes:
    told = pack(1, words.encode() + b"\0") if words else b""
    return message(ERROR, sequence, struct.pack("=i", -code) + bytes(16) + told, EXPLAINED if words else 0)


class Script:
    """A socket that says what it was told to, whatever it is asked."""

    def __init__(self, *datagrams: bytes, sender: int = 0, flags: int = 0) -> None:
        self.datagrams = list(datagrams)
        self.sent: list[bytes] = []
        self.sender, self.flags = sender, flags

    def sendto(self, datagram: bytes, _: tuple[int, int]) -> None:
        self.sent.append(datagram)

    def recvmsg(self, _: int) -> tuple[bytes, list[Any], int, tuple[int, int]]:
        if not self.datagrams:
            raise BlockingIOError
        return self.datagrams.pop(0), [], self.flags, (self.sender, 0)


def channel(script: Script) -> Channel:
    made = Channel.__new__(Channel)
    made.socket = script  # type: ignore[assignment]
    made._port, made._sequence = 77, 0
    made._answers, made._room = 4, 4096
    return made


def test_a_dump_ends_with_its_last_message_and_not_before() -> None:
    script = Script(message(LINK, 1, b"one.") + message(LINK, 1, b"two."), message(LINK, 1, b"six."), done(1))
    assert channel(script).dump(ROUTE_DUMP, b"") == [b"one.", b"two.", b"six."]


def test_an_interrupted_dump_is_begun_again() -> None:
    first = [message(LINK, 1, b"old.", INTERRUPTED), done(1)]
    script = Script(*first, message(LINK, 2, b"new."), done(2))
    assert channel(script).dump(ROUTE_DUMP, b"") == [b"new."]
    assert len(script.sent) == 2


def test_a_dump_that_is_always_interrupted_is_given_up() -> None:
    script = Script(*(message(DONE, n, bytes(4), INTERRUPTED) for n in range(1, 9)))
    with pytest.raises(OSError, match="changed during each of 5 attempts") as caught:
        channel(script).dump(ROUTE_DUMP, b"")
    assert (caught.value.errno, len(script.sent)) == (errno.EINTR, 5)


def test_a_dump_that_fails_midway_is_an_error() -> None:
    with pytest.raises(OSError, match="No buffer space") as caught:
        channel(Script(message(LINK, 1, b"one."), done(1, errno.ENOBUFS))).dump(ROUTE_DUMP, b"")
    assert caught.value.errno == errno.ENOBUFS


def test_answers_to_older_requests_and_of_other_processes_are_passed_over() -> None:
    stale = Script(message(LINK, 0, b"old."), message(LINK, 1, b"new."), done(1))
    assert channel(stale).dump(ROUTE_DUMP, b"") == [b"new."]
    with pytest.raises(OSError, match="did not answer within 10 s") as caught:
        channel(Script(message(LINK, 1, b"lie."), done(1), sender=4711)).dump(ROUTE_DUMP, b"")
    assert caught.value.errno == errno.ETIMEDOUT


def test_a_datagram_that_was_cut_is_refused() -> None:
    with pytest.raises(Malformed, match="more than 65536 bytes"):
        channel(Script(done(1), flags=socket.MSG_TRUNC)).dump(ROUTE_DUMP, b"")


def test_every_answer_of_a_batch_is_read_and_told_by_its_place() -> None:
    script = Script(answer(1), answer(2, errno.EBUSY, "Device is a bridge.") + answer(3, errno.ENOENT))
    requests = [Request(LINK, 0, b""), Request(LINK, 0, b""), Request(LINK, 0, b"", (errno.ENOENT,))]
    ends = channel(script).carry_out(requests)
    assert [end and (end.errno, end.strerror) for end in ends] == [None, (errno.EBUSY, "Device is a bridge"), None]
    assert len(script.sent) == 1
    assert [struct.unpack_from("=I", script.sent[0], 16 * n + 8)[0] for n in range(3)] == [1, 2, 3]


def test_a_batch_is_cut_where_its_answers_would_not_find_room() -> None:
    script = Script(*(answer(n) for n in range(1, 11)))
    assert channel(script).carry_out([Request(LINK, 0, b"")] * 10) == [None] * 10
    assert len(script.sent) == 3


def test_a_question_has_one_answer() -> None:
    assert channel(Script(message(LINK, 1, b"one."))).ask(18, b"") == b"one."
    with pytest.raises(OSError, match="No such device"):
        channel(Script(answer(1, errno.ENODEV))).ask(18, b"")
