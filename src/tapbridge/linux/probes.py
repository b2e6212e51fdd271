"""Asking targets whether they are there: gateways by ARP or ND, the others over new flows. All of them at once."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from tapbridge.linux import uapi
from tapbridge.linux.liveness import Inquiry
from tapbridge.model.errors import HostError
from tapbridge.model.proof import Answer, Target
from tapbridge.model.state import Neighbour
from tapbridge.model.values import IfName

if TYPE_CHECKING:  # where gateways alone are asked, nothing is called
    from tapbridge.linux.calls import Connection, Datagrams

_ROUNDS: Final = 2
_DNS_PORT: Final = 53


def probe(targets: Sequence[Target], link: IfName, *, anew: bool, limit_s: float) -> tuple[Answer, ...]:
    """Ask all targets and return as soon as all have answered, or at the limit. The answers have the targets' order.

    Gateways are asked on `link`, and `anew` makes the kernel forget their MACs first. An entry that somebody
    configured is not touched: an echo request and a TCP connection stand in for it. Who has not answered at half time
    is asked once more; what the kernel sends for ARP, ND and TCP it repeats after 1 s. Raises HostError where there is
    no such link.
    """
    began = time.monotonic()
    asking = _Asking(targets, link)
    try:
        for number in range(_ROUNDS):
            asking.ask(anew=anew and number == 0)
            asking.hear(began + limit_s * (number + 1) / _ROUNDS)
    finally:
        asking.close()
    return tuple(asking.answer(target, limit_s) for target in targets)


class _Asking:
    """Targets that are asked, and what is known of each so far."""

    def __init__(self, targets: Sequence[Target], link: IfName) -> None:
        self._link = link
        self._inquiry = Inquiry(link)
        self._calls: list[Connection | Datagrams] = []
        self._waiting = list(dict.fromkeys(targets))
        self._answers: dict[Target, str] = {}
        self._failures: dict[Target, str] = {}
        for target in self._waiting:
            if target.kind != "gateway":
                self._call(target)

    def close(self) -> None:
        self._inquiry.close()
        for call in self._calls:
            call.close()

    def ask(self, *, anew: bool) -> None:
        """Ask whoever has not answered yet."""
        called = {call.target for call in self._calls}
        for target in self._waiting:
            if target not in called:
                self._ask_gateway(target, anew=anew)
        for call in self._calls:
            if call.target in self._waiting:
                call.ask()
                self._failures[call.target] = call.failure

    def hear(self, deadline: float) -> None:
        """Wait until all have answered, or for the deadline."""
        poll = select.poll()
        poll.register(self._inquiry.socket, select.POLLIN)
        calls = {call.fileno(): call for call in self._calls if call.events}
        for number, call in calls.items():
            poll.register(number, call.events)
        while self._waiting and (left := deadline - time.monotonic()) > 0:
            for number, _ in poll.poll(left * 1000):
                if number in calls:
                    self._hear_call(calls[number])
                    if not calls[number].events:
                        poll.unregister(number)
                else:
                    for one in self._inquiry.hear():
                        self._answered(Target(kind="gateway", family=one.family, ip=one.ip), f"is at {one.mac}")

    def answer(self, target: Target, limit_s: float) -> Answer:
        """What has come of a target."""
        words = self._answers.get(target)
        if words is not None:
            return Answer(target=target, answered=True, detail=words)
        silence = f"no answer within {limit_s:g} s"
        return Answer(target=target, answered=False, detail=self._failures.get(target) or silence)

    def _ask_gateway(self, target: Target, *, anew: bool) -> None:
        try:
            entry = self._inquiry.find(target.family, target.ip)
            if entry is None:
                entry = Neighbour(link=self._link, family=target.family, ip=target.ip)
            if entry.configured or entry.flags & ~uapi.NTF_ROUTER:
                self._call(target)
            else:
                self._inquiry.ask(entry, anew=anew)
        except HostError as error:
            self._failures[target] = error.message

    def _call(self, target: Target) -> None:
        from tapbridge.linux.calls import Connection, Echo, Query

        index = socket.if_nametoindex(self._link)
        if target.kind == "gateway":
            self._calls += [Echo(target, index), Connection(target, index, port=_DNS_PORT)]
        elif target.kind == "dns" and target.port == _DNS_PORT:  # any other port is one for TLS
            self._calls.append(Query(target, index))
        else:
            self._calls.append(Connection(target, index))

    def _hear_call(self, call: Connection | Datagrams) -> None:
        words = call.hear()
        if words:
            self._answered(call.target, words)
        else:
            self._failures[call.target] = call.failure

    def _answered(self, target: Target, words: str) -> None:
        if target in self._waiting:
            self._waiting.remove(target)
            self._answers[target] = words
