"""Asking targets whether they are there: gateways by ARP or ND, the others over new flows. All of them at once."""

from __future__ import annotations

import select
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

_FIRST_ROUND_S: Final = 0.1
_DNS_PORT: Final = 53


def probe(targets: Sequence[Target], link: IfName, *, anew: bool, limit_s: float) -> tuple[Answer, ...]:
    """Ask all targets and return as soon as all have answered, or at the limit. The answers have the targets' order.

    Gateways are asked on `link`, and `anew` makes the kernel forget their MACs. An entry that somebody configured is
    not touched: an echo request and a TCP connection stand in for it. Who has not answered after 0.1 s is asked once
    more, and again after twice that time, and so on. Raises HostError where there is no such link.
    """
    now = time.monotonic()
    end = now + limit_s
    round_s = _FIRST_ROUND_S
    asking = _Asking(targets, link)
    try:
        while asking.waiting and now < end:
            asking.ask(anew=anew)
            asking.hear(min(now + round_s, end))
            round_s *= 2
            now = time.monotonic()
    finally:
        asking.close()
    return tuple(asking.answer(target, limit_s) for target in targets)


class _Asking:
    """Targets that are asked, and what is known of each so far."""

    def __init__(self, targets: Sequence[Target], link: IfName) -> None:
        self._link = link
        self._inquiry = Inquiry(link)
        self._calls: list[Connection | Datagrams] = []
        self.waiting = list(dict.fromkeys(targets))
        self._answers: dict[Target, str] = {}
        self._failures: dict[Target, str] = {}
        for target in self.waiting:
            if target.kind != "gateway":
                self._call(target)

    def close(self) -> None:
        self._inquiry.close()
        for call in self._calls:
            call.close()

    def ask(self, *, anew: bool) -> None:
        """Ask whoever has not answered yet."""
        called = {call.target for call in self._calls}
        for target in self.waiting:
            if target not in called:
                self._ask_gateway(target, anew=anew)
        for call in self._calls:
            if call.target in self.waiting:
                call.ask()
                self._failures[call.target] = call.failure

    def hear(self, deadline: float) -> None:
        """Wait until all have answered, or for the deadline."""
        poll = select.poll()
        poll.register(self._inquiry.socket, select.POLLIN)
        calls = {call.fileno(): call for call in self._calls if call.events}
        for number, call in calls.items():
            poll.register(number, call.events)
        while self.waiting and (left := deadline - time.monotonic()) > 0:
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

        index = self._inquiry.index
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
        if target in self.waiting:
            self.waiting.remove(target)
            self._answers[target] = words
