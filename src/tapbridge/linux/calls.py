"""Calls over flows of our own: a TCP connection, a DNS query, an echo request. Each has a socket and asks one target.

The socket is bound to no link, so that it finds what any new flow finds. A connection that is refused has been
answered, but not one that somebody else reports as unreachable: a router may say so of a host that it cannot see.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from typing import Final

from tapbridge.linux.attributes import decode_ip
from tapbridge.model.proof import Target
from tapbridge.model.values import is_link_local

_AF: Final = {4: socket.AF_INET, 6: socket.AF_INET6}
_RECVERR: Final = {4: (socket.IPPROTO_IP, 11), 6: (socket.IPPROTO_IPV6, 25)}  # IP_RECVERR, IPV6_RECVERR
_REPORTER: Final = struct.Struct("=16xH")  # struct sock_extended_err, and of the sockaddr behind it the family
_WHERE: Final[dict[int, slice]] = {socket.AF_INET: slice(20, 24), socket.AF_INET6: slice(24, 40)}  # its address
_RESET_AT_CLOSE: Final = struct.pack("@ii", 1, 0)  # struct linger
_ROOM: Final = 4096
_ROOT_SERVERS: Final = struct.pack("!5HBHH", 0x0100, 1, 0, 0, 0, 0, 2, 1)  # behind the ID: RD, one question: `.` NS IN
_ICMP: Final = {4: (socket.IPPROTO_ICMP, 8, 0), 6: (socket.IPPROTO_ICMPV6, 128, 129)}  # protocol, request, reply


class Call:
    """A call. `events` is what poll(2) has to wait for, 0 where nothing can come; `failure` is why, if that is known.

    `ask` asks, or asks once more; `hear` says in words what the answer was, "" for none yet.
    """

    def __init__(self, target: Target, index: int, port: int | None = None) -> None:
        place = target.ip, target.port if port is None else port
        zone = index if is_link_local(target.family, target.ip) else 0
        self._place = (*place, 0, zone) if target.family == 6 else place
        self.target = target
        self.socket: socket.socket | None = None
        self.events = 0
        self.failure = ""

    def close(self) -> None:
        """Give the socket back."""
        if self.socket is not None:
            self.socket.close()

    def fileno(self) -> int:
        """The socket's descriptor."""
        return -1 if self.socket is None else self.socket.fileno()

    def _open(self, kind: int, protocol: int = 0) -> socket.socket:
        self.close()
        more = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        self.socket = socket.socket(_AF[self.target.family], kind | more, protocol)
        return self.socket


class Connection(Call):
    """A TCP connection, ended as soon as it is there. The kernel repeats the SYN after 1 s."""

    def ask(self) -> None:
        """Connect, again only where the last attempt has failed."""
        if self.events:
            return
        attempt = self._open(socket.SOCK_STREAM)
        attempt.setsockopt(*_RECVERR[self.target.family], 1)
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
        number = attempt.connect_ex(self._place)
        self.events = select.POLLOUT if number in (0, errno.EINPROGRESS) else 0
        self.failure = os.strerror(number) if not self.events else ""

    def hear(self) -> str:
        """How connecting ended."""
        assert self.socket is not None
        self.events = 0
        number = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        reporter = self._find_reporter() if number else None
        if number == 0:
            return "took a connection"
        if (reporter is None and number == errno.ECONNREFUSED) or reporter == self.target.ip:
            return "refused a connection"
        self.failure = os.strerror(number) + (f", says {reporter}" if reporter else "")
        return ""

    def _find_reporter(self) -> str | None:
        """Who sent the ICMP message that ended it, if one did. Before Linux 5.18 the kernel does not tell."""
        assert self.socket is not None
        try:
            _, told, _, _ = self.socket.recvmsg(_ROOM, 512, socket.MSG_ERRQUEUE)
        except BlockingIOError:
            return None
        for level, kind, body in told:
            if (level, kind) in _RECVERR.values() and len(body) >= _REPORTER.size:
                where = _WHERE.get(_REPORTER.unpack_from(body)[0])
                return decode_ip(body[where]) if where is not None else None
        return None


class Datagrams(Call):
    """A question in one datagram, and any answer that belongs to it."""

    kind = socket.SOCK_DGRAM
    protocol = 0
    words = ""

    def ask(self) -> None:
        """Send the question."""
        try:
            if self.socket is None:
                self._open(self.kind, self.protocol).connect(self._place)
            assert self.socket is not None
            self.socket.send(self.question())
            self.events = select.POLLIN
        except OSError as error:
            self.failure = error.strerror or str(error)

    def hear(self) -> str:
        """Take one datagram. An error that was reported is kept, and the next answer waited for."""
        assert self.socket is not None
        try:
            told = self.socket.recv(_ROOM)
        except OSError as error:
            self.failure = error.strerror or str(error)
            return ""
        return self.words if self.belongs(told) else ""

    def question(self) -> bytes:
        """What is sent."""
        raise NotImplementedError

    def belongs(self, told: bytes) -> bool:
        """Whether a datagram is the answer."""
        raise NotImplementedError


class Query(Datagrams):
    """A DNS query for the root servers: every server has some answer to it, be it a refusal."""

    words = "answered a DNS query"

    def __init__(self, target: Target, index: int) -> None:
        super().__init__(target, index)
        self._id = os.urandom(2)

    def question(self) -> bytes:
        """The query, the same each time."""
        return self._id + _ROOT_SERVERS

    def belongs(self, told: bytes) -> bool:
        """Whether it is a response (QR) with our ID."""
        return told[:2] == self._id and len(told) > 2 and bool(told[2] & 0x80)


class Echo(Datagrams):
    """An ICMP echo request. Needs CAP_NET_RAW."""

    kind = socket.SOCK_RAW
    words = "answered an echo request"

    def __init__(self, target: Target, index: int) -> None:
        super().__init__(target, index)
        self.protocol, self._request, self._reply = _ICMP[target.family]
        self._token = os.urandom(12)  # identifier, sequence, payload

    def question(self) -> bytes:
        """The request. The kernel sums up ICMPv6 alone."""
        total = (self._request << 8) + sum(struct.unpack("!6H", self._token))
        total = (total & 0xFFFF) + (total >> 16)
        return struct.pack("!BBH", self._request, 0, ~(total + (total >> 16)) & 0xFFFF) + self._token

    def belongs(self, told: bytes) -> bool:
        """Whether it is our own request's reply; of IPv4 the IP header comes along."""
        start = (told[0] & 0x0F) * 4 if self.target.family == 4 and told else 0
        return told[start : start + 1] == bytes((self._reply,)) and told[start + 4 :].startswith(self._token)
