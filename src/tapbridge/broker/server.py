"""The broker's loop: one thread, one poll(2), a bounded amount of memory and time for each client.

Theory of operation. Whoever connects is known by the kernel's word (SO_PEERCRED, SO_PEERGROUPS: the process at the time
of its connect) and gets one of CLIENTS_EACH places for SILENCE_S. A client gets one message per round, so one that
floods delays the others by no more than one answer. Open files that come with a message are counted in the buffer that
is given to the kernel, which closes the others itself; all but the one that is kept are closed before the answer is
sent. An answer that finds no room ends the connection: nothing is ever queued.

The order of lending: policy, then the tap with everything that holds its guest (linux/lent.py), then it is written down
as lent, and only then its open files leave.

Whoever flushes all rules of nf_tables takes the guards away. The kernel tells; GRACE_S later, when whoever it was has
done, they are put back, one between two rounds, so that nobody waits for all of them.
"""

from __future__ import annotations

import array
import os
import select
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from tapbridge.broker.loans import Loan, Loans, Taps
from tapbridge.broker.peer import find_process, read_groups, read_netns, read_peer
from tapbridge.broker.policy import Peer, Rule, decide
from tapbridge.broker.protocol import MESSAGE_BYTES, Attach, Malformed, dump_answer, dump_refusal, parse_request
from tapbridge.core.macs import tap_mac
from tapbridge.core.mark import LoanMark, make_loan_mark
from tapbridge.core.rate import dump_rate
from tapbridge.model.errors import Forbidden, HostError, TapbridgeError
from tapbridge.model.intent import Guard, LendTap
from tapbridge.model.values import IfName, Mac

if TYPE_CHECKING:
    from collections.abc import Iterator

CLIENTS: Final = 256
CLIENTS_EACH: Final = 16
"""Connections at a time, of all users and of one."""

SILENCE_S: Final = 5.0
"""How long a connection may be silent."""

GRACE_S: Final = 0.2
"""How long rules of nf_tables are left to themselves when they have changed."""

_ACCEPTS: Final = 16  # in one round
_PAUSE_S: Final = 0.1  # without a file to spare
_FILES: Final = socket.CMSG_SPACE(4)  # room for one; the kernel takes no more than fit
_REFUSALS: Final = 20  # that are logged in a second


class _Client:
    """A connection."""

    __slots__ = ("deadline", "peer", "socket")

    def __init__(self, connection: socket.socket, peer: Peer, deadline: float) -> None:
        self.socket, self.peer, self.deadline = connection, peer, deadline


class Broker:
    """A broker at a listening socket. `rules` tells the policy as it is now; `log` gets a line for each loan, each tap
    that is taken back, and refusals."""

    def __init__(
        self, listener: socket.socket, taps: Taps, rules: Callable[[], Sequence[Rule]], log: Callable[[str], None]
    ) -> None:
        self._listener = listener
        self._taps = taps
        self._rules = rules
        self._log = log
        self._netns = read_netns(listener)
        self._poll = select.poll()
        self._clients: dict[int, _Client] = {}
        self._each: Counter[int] = Counter()
        self._loans = Loans(taps, self._watch, self._unwatch, log)
        self._paused_until: float | None = None
        self._regard_at: float | None = None
        self._second, self._told = 0, 0

    def serve(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises OSError where the kernel cannot be asked."""
        self._listener.setblocking(False)
        with _stopping() as stop:
            for fd in (stop, self._listener.fileno(), self._taps.fileno(), self._taps.rules_fileno()):
                if fd >= 0:
                    self._watch(fd)
            self._loans.resume(self._guard_of)
            while self._loans.guard_again():  # rules may have changed while nobody looked
                pass
            self._log(f"ready; taps that are lent: {len(self._loans)}")
            while True:
                ready = [fd for fd, _ in self._poll.poll(self._wait_ms())]
                if stop in ready:
                    return
                self._round(ready)

    def close(self) -> None:
        """End every connection. The taps stay: their guests have them."""
        for client in list(self._clients.values()):
            self._drop(client)

    def _round(self, ready: list[int]) -> None:
        if self._taps.fileno() in ready:
            self._loans.look(self._taps.changed())
        self._loans.end(ready)
        for fd in ready:
            client = self._clients.get(fd)
            if client is not None:
                self._hear(client)
        now = time.monotonic()
        for client in [one for one in self._clients.values() if one.deadline <= now]:
            self._drop(client)
        if self._paused_until is not None and self._paused_until <= now:
            self._paused_until = None
            self._watch(self._listener.fileno())
        if self._listener.fileno() in ready:
            self._accept()
        self._regard(ready)

    def _regard(self, ready: list[int]) -> None:
        """See to the guards, a while after rules have changed; those that change meanwhile wake nobody."""
        rules = self._taps.rules_fileno()
        if rules in ready:
            self._unwatch(rules)
            self._regard_at = time.monotonic() + GRACE_S
        elif self._regard_at is not None and self._regard_at <= time.monotonic():
            self._taps.forget_rules()
            if not self._loans.guard_again():
                self._regard_at = None
                self._watch(rules)

    def _wait_ms(self) -> int | None:
        until = [client.deadline for client in self._clients.values()]
        until += [at for at in (self._paused_until, self._regard_at) if at is not None]
        return max(int((min(until) - time.monotonic()) * 1000) + 1, 0) if until else None

    def _watch(self, fd: int) -> None:
        self._poll.register(fd, select.POLLIN)

    def _unwatch(self, fd: int) -> None:
        self._poll.unregister(fd)

    def _accept(self) -> None:
        for _ in range(_ACCEPTS):
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:  # no file to spare, or the client has gone
                self._refuse(f"a connection cannot be taken: {error.strerror}")
                self._unwatch(self._listener.fileno())
                self._paused_until = time.monotonic() + _PAUSE_S
                return
            connection.setblocking(False)
            peer = read_peer(connection)
            if len(self._clients) >= CLIENTS or self._each[peer.uid] >= CLIENTS_EACH:
                connection.close()
                continue
            client = _Client(connection, peer, time.monotonic() + SILENCE_S)
            self._clients[connection.fileno()] = client
            self._each[peer.uid] += 1
            self._watch(connection.fileno())

    def _drop(self, client: _Client) -> None:
        fd = client.socket.fileno()
        del self._clients[fd]
        self._each[client.peer.uid] -= 1
        if not self._each[client.peer.uid]:
            del self._each[client.peer.uid]
        self._unwatch(fd)
        client.socket.close()

    def _hear(self, client: _Client) -> None:
        """Take one message and answer it."""
        try:
            message, told, flags, _ = client.socket.recvmsg(
                MESSAGE_BYTES + 1, _FILES, socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return
        except OSError:
            self._drop(client)
            return
        files = _files(told)
        try:
            if not message:  # the end of the connection, or of anybody's patience
                self._drop(client)
            elif not self._answer(client, message, files, flags):
                self._drop(client)
            else:
                client.deadline = time.monotonic() + SILENCE_S
        finally:
            for fd in files:
                os.close(fd)

    def _answer(self, client: _Client, message: bytes, files: list[int], flags: int) -> bool:
        """Answer a message; whether the client goes on. The pidfd of a guest that got its tap is taken from `files`."""
        try:
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise Malformed("it has too many bytes or open files")
            loan, taps = self._lend(client, message, files)
        except TapbridgeError as error:
            self._refuse(f"user {client.peer.uid} is refused: {error.message}")
            sent = _send(client.socket, dump_refusal(error), ())
            return sent and not isinstance(error, Malformed)
        try:
            if not _send(client.socket, dump_answer(loan.name), taps):
                return False  # the tap goes with its files, which the kernel tells
        finally:
            for tap in taps:
                os.close(tap)
        return True

    def _lend(self, client: _Client, message: bytes, files: list[int]) -> tuple[Loan, tuple[int, ...]]:
        peer, asked = client.peer, parse_request(message)
        if len(files) != 1:
            raise Malformed("the pidfd of the guest must come with it, and nothing else")
        process = find_process(files[0])
        if process is None or process.uid != peer.uid:
            raise Forbidden(
                f"the guest is to be a living process of user {peer.uid}, and what came is none", code="not-your-guest"
            )
        living = self._loans.count(peer.uid, asked.network)
        rule = decide(() if read_netns(client.socket) != self._netns else self._rules(), peer, asked, living)
        mac = tap_mac(asked.mac) if asked.mac is not None else Mac(f"fe:{os.urandom(5).hex(':')}")
        guard = _guard(rule, asked.mac)
        mark = LoanMark(
            uid=peer.uid,
            pid=process.pid,
            started=process.started,
            mac=mac,
            card=asked.mac,
            guest=asked.guest,
            guard=guard.kind if guard is not None else None,
        )
        intent = LendTap(
            bridge=asked.network,
            mac=mac,
            owner=peer.uid,
            alias=make_loan_mark(mark),
            only=asked.mac if rule.held else None,
            queues=asked.queues,
            vnet_hdr=asked.vnet_hdr,
            isolated=rule.isolated,
            rate=min((one for one in (rule.rate, asked.rate) if one is not None), default=None),
            guard=guard,
            vlan=rule.vlan,
        )
        try:
            link, taps = self._taps.lend(intent)
        except Forbidden as error:  # it is the broker that lacks the right
            raise HostError(f"the broker: {error.message}", hint=error.hint) from None
        loan = Loan(
            index=link.index,
            name=link.name,
            alias=intent.alias,
            mac=mac,
            uid=peer.uid,
            bridge=asked.network,
            pidfd=files.pop(0),
            guard=guard,
        )
        self._loans.add(loan)
        held = f"held to {intent.only}" if intent.only is not None else "with any address"
        held += f" and {dump_rate(intent.rate)} bits per second" if intent.rate is not None else ""
        held += ", guarded" if guard is not None else ""
        held += f" but for {' and '.join(rule.allowed)}" if rule.allowed else ""
        who = f"user {peer.uid} (PID {process.pid}) for the guest {asked.guest!r}"
        self._log(f"{loan.name} on {loan.bridge} is lent to {who}, {held}, by line {rule.line} of the policy")
        return loan, taps

    def _guard_of(self, mark: LoanMark, bridge: IfName | None) -> Guard | None:
        """How the policy guards a guest that an earlier broker let in; None where it does so no more, or otherwise."""
        if mark.guard is None or mark.card is None or bridge is None:
            return None
        try:
            rule = decide(self._rules(), Peer(mark.uid, read_groups(mark.pid)), Attach(bridge, mac=mark.card), 0)
        except (TapbridgeError, OSError, ValueError):
            return None
        return _guard(rule, mark.card) if rule.guard == mark.guard else None

    def _refuse(self, words: str) -> None:
        """Log a refusal, unless there are too many of them."""
        second = int(time.monotonic())
        if second != self._second:
            if self._told > _REFUSALS:
                self._log(f"and {self._told - _REFUSALS} more refusals")
            self._second, self._told = second, 0
        self._told += 1
        if self._told <= _REFUSALS:
            self._log(words)


def _guard(rule: Rule, mac: Mac | None) -> Guard | None:
    if rule.guard is None or mac is None:
        return None
    return Guard(mac=mac, ips=rule.ips if rule.guard == "ip" else None, allowed=rule.allowed)


def _files(told: list[tuple[int, int, bytes]]) -> list[int]:
    files = array.array("i")
    for level, kind, body in told:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            files.frombytes(body[: len(body) - len(body) % files.itemsize])
    return list(files)


def _send(connection: socket.socket, message: bytes, files: Sequence[int]) -> bool:
    told = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))] if files else []
    try:
        connection.sendmsg([message], told, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    except OSError:
        return False
    return True


@contextmanager
def _stopping() -> Iterator[int]:
    """What is readable once somebody has asked us to end."""
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    numbers = signal.SIGTERM, signal.SIGINT
    before = [signal.signal(number, lambda *_: None) for number in numbers]
    woken = signal.set_wakeup_fd(writer)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(woken)
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
        with suppress(OSError):
            os.close(reader)
        os.close(writer)
