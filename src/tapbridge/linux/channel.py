"""The netlink socket: dumps, questions, and batches of requests with every answer read.

The kernel carries out what one sendmsg(2) holds in order, without returning to user space, and goes on after a
request that fails. All its answers are in the receive queue before sendmsg returns.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Final

from tapbridge.linux import uapi
from tapbridge.linux.attributes import Malformed, decode_name, walk
from tapbridge.model.noun import dataclass

DUMP_ATTEMPTS: Final = 5
_HEADER: Final = struct.Struct("=IHHII")  # struct nlmsghdr: size, kind, flags, sequence, port
_ERROR: Final = struct.Struct("=i16x")  # struct nlmsgerr: a negative errno, the header of the request
_ERRNO: Final = struct.Struct("=i")
_MAX_ERRNO: Final = 4095  # include/linux/err.h
_TIMEVAL: Final = struct.Struct("@ll")
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_BUFFER_BYTES: Final = 4 << 20
_RECEIVE_BYTES: Final = 64 << 10  # a message of a dump has 32 KiB at most
_ACK_BYTES: Final = 2048  # what an answer takes of the receive buffer, bookkeeping included
_LIMIT_S: Final = 10

Message = tuple[int, int, int, bytes]  # kind, flags, sequence, body


@dataclass(frozen=True, slots=True)
class Request:
    """A message to the kernel without its header. An errno of `forgiven` means that there was nothing to do."""

    kind: int
    flags: int
    body: bytes
    forgiven: tuple[int, ...] = ()


def decode_messages(datagram: bytes) -> Iterator[Message]:
    """The messages of one datagram. Raises Malformed."""
    start, end = 0, len(datagram)
    while end - start >= _HEADER.size:
        size, kind, flags, sequence, _ = _HEADER.unpack_from(datagram, start)
        if size < _HEADER.size or start + size > end:
            raise Malformed(f"a message of {size} bytes where {end - start} are left")
        yield kind, flags, sequence, datagram[start + _HEADER.size : start + size]
        start += size + 3 & ~3


def decode_refusal(flags: int, body: bytes) -> OSError | None:
    """What an answer says: None for done, else the errno and the kernel's own sentence. Raises Malformed."""
    try:
        code = -_ERRNO.unpack_from(body)[0]
        words = walk(body, _ERROR.size).get(uapi.NLMSGERR_ATTR_MSG) if flags & uapi.NLM_F_ACK_TLVS else None
    except struct.error as error:
        raise Malformed(f"an answer of {len(body)} bytes") from error
    if code == 0:
        return None
    if not 0 < code <= _MAX_ERRNO:
        raise Malformed(f"an answer with the error number {code}")
    return OSError(code, decode_name(words).strip().rstrip(".") if words else os.strerror(code))


class Channel:
    """A socket of rtnetlink in the network namespace of the thread that made it.

    Raises OSError where the kernel refuses, Malformed where it does not keep to its format.
    """

    def __init__(self, groups: int = 0) -> None:
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, uapi.NETLINK_ROUTE)
        for option in (uapi.NETLINK_CAP_ACK, uapi.NETLINK_EXT_ACK, uapi.NETLINK_GET_STRICT_CHK):
            with suppress(OSError):  # the youngest is of Linux 4.20
                self.socket.setsockopt(uapi.SOL_NETLINK, option, 1)
        for option in (_SO_SNDBUFFORCE, _SO_RCVBUFFORCE):
            with suppress(PermissionError):  # in a user namespace the system's own limits hold
                self.socket.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEVAL.pack(_LIMIT_S, 0))
        self.socket.bind((0, groups))
        self._port: int = self.socket.getsockname()[0]
        self._answers = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // _ACK_BYTES
        self._room = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 2
        self._sequence = 0

    def close(self) -> None:
        """Give the socket back."""
        self.socket.close()

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """The bodies of a whole dump; one that the kernel interrupted is begun again."""
        for _ in range(DUMP_ATTEMPTS):
            bodies, interrupted = [], 0
            for number, flags, content in self._exchange([Request(kind, uapi.NLM_F_DUMP, body)]):
                interrupted |= flags & uapi.NLM_F_DUMP_INTR
                if number in (uapi.NLMSG_DONE, uapi.NLMSG_ERROR):
                    refusal = decode_refusal(flags if number == uapi.NLMSG_ERROR else 0, content)
                    if refusal is not None:
                        raise refusal
                    break
                bodies.append(content)
            if not interrupted:
                return bodies
        raise OSError(errno.EINTR, f"the network changed during each of {DUMP_ATTEMPTS} attempts to read it")

    def ask(self, kind: int, body: bytes) -> bytes:
        """The body of the one answer to a question."""
        number, flags, content = next(self._exchange([Request(kind, 0, body)]))
        refusal = decode_refusal(flags, content) if number == uapi.NLMSG_ERROR else None
        if refusal is not None:
            raise refusal
        return content

    def carry_out(self, requests: Sequence[Request]) -> list[OSError | None]:
        """Send the requests as one message and say of each how it ended; what no buffer holds goes in several."""
        ends: list[OSError | None] = []
        part: list[Request] = []
        size = 0
        for request in requests:
            length = _HEADER.size + len(request.body)
            if len(part) == self._answers or size + length > self._room:
                ends += self._carry_out_part(part)
                part, size = [], 0
            part.append(request)
            size += length
        return ends + self._carry_out_part(part)

    def _carry_out_part(self, requests: list[Request]) -> list[OSError | None]:
        ends: list[OSError | None] = []
        answers = self._exchange(requests, uapi.NLM_F_ACK)
        for request, (_, flags, content) in zip(requests, answers, strict=False):
            refusal = decode_refusal(flags, content)
            ends.append(None if refusal is None or refusal.errno in request.forgiven else refusal)
        return ends

    def _exchange(self, requests: list[Request], more: int = 0) -> Iterator[tuple[int, int, bytes]]:
        """Send with `more` flags, and go on yielding what the kernel answers to these requests: (kind, flags, body)."""
        first = self._sequence + 1
        more |= uapi.NLM_F_REQUEST
        datagram = b""
        for request in requests:
            self._sequence += 1
            size = _HEADER.size + len(request.body)
            datagram += _HEADER.pack(size, request.kind, request.flags | more, self._sequence, self._port)
            datagram += request.body + bytes(-size % 4)
        self.socket.sendto(datagram, (0, 0))
        while True:
            for kind, flags, sequence, body in decode_messages(self.receive()):
                if first <= sequence <= self._sequence:
                    yield kind, flags, body

    def receive(self) -> bytes:
        """The next datagram of the kernel; what another process sent is passed over."""
        while True:
            try:
                datagram, _, flags, (port, _) = self.socket.recvmsg(_RECEIVE_BYTES)
            except BlockingIOError:
                raise OSError(errno.ETIMEDOUT, f"the kernel did not answer within {_LIMIT_S} s") from None
            if flags & socket.MSG_TRUNC:
                raise Malformed(f"a datagram of more than {_RECEIVE_BYTES} bytes")
            if port == 0:
                return datagram

    def skip(self) -> None:
        """Drop all that has arrived; of a queue that ran over (ENOBUFS) nothing more is wanted than of a full one."""
        while True:
            try:
                self.socket.recv(_RECEIVE_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
