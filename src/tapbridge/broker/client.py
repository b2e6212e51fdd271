"""The client: one request, one answer."""

from __future__ import annotations

import array
import os
import socket
from typing import Final

from tapbridge.broker.protocol import MESSAGE_BYTES, QUEUES, Attach, dump_request, parse_answer
from tapbridge.model.errors import Forbidden, HostError
from tapbridge.model.values import IfName

_LIMIT_S: Final = 10.0


class Client:
    """A connection to a broker, which ends it when it is silent for some seconds. Raises Forbidden where there is no
    broker, HostError for what else may fail."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        self._socket.settimeout(_LIMIT_S)
        try:
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            raise Forbidden(
                f"attaching a guest without root needs the broker, and none listens at {path}: {error.strerror}",
                hint="run it with sudo, or let root start the broker: tapbridge service install --broker; or use --net "
                "user, which needs no rights",
                code="no-broker",
                subject=path,
            ) from None

    def close(self) -> None:
        """End the connection. What was lent stays."""
        self._socket.close()

    def attach(self, request: Attach, pidfd: int) -> tuple[IfName, tuple[int, ...]]:
        """Borrow a tap for the process of a pidfd: its name, and its open files, which no program that is executed
        inherits. Raises what the broker refuses with, and HostError."""
        rights = socket.SCM_RIGHTS
        try:
            self._socket.sendmsg([dump_request(request)], [(socket.SOL_SOCKET, rights, array.array("i", [pidfd]))])
            message, told, _, _ = self._socket.recvmsg(
                MESSAGE_BYTES, socket.CMSG_SPACE(4 * QUEUES), socket.MSG_CMSG_CLOEXEC
            )
        except OSError as error:
            raise HostError(f"the broker does not answer: {error}", hint="its log tells why") from None
        taps = array.array("i")
        for level, kind, body in told:
            if (level, kind) == (socket.SOL_SOCKET, rights):
                taps.frombytes(body)
        try:
            name = parse_answer(message)
            if len(taps) != request.queues:
                raise HostError(f"the broker sent {len(taps)} open files for {request.queues} pairs of queues")
        except BaseException:
            for tap in taps:
                os.close(tap)
            raise
        return IfName(name), tuple(taps)
