"""What may happen to a host in the middle of something: a crash, a fault, somebody's act, time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tapbridge.core.mark import read_mark
from tapbridge.model.state import Address, Link, Nexthop, Route, Scope, State
from tapbridge.model.step import AddRoute, DeleteAddress, DeleteRoute, PutAddress, RenameLink, SetUp, Step
from tapbridge.model.values import IfName
from tapbridge.ports import Host

NIC = IfName("eth0")


ACTS = (
    *("adds an address to the NIC", "adds an address to the bridge", "adds a route by the NIC"),
    *("adds a route by the bridge", "takes an address", "takes a route", "sets the NIC down", "sets the NIC up"),
    *("renames the NIC",),
)
ADDED = "198.51.100.7"
ROUTE = "203.0.113.0/24"


class Crash(BaseException):
    """The process is gone: nothing of it runs any more."""


class Clock:
    """Time that only the machine moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.now

    def wall(self) -> float:
        """The same."""
        return self.now


class Troubled:
    """A host to which something happens before its batch of a certain number: a crash, a fault, or somebody's act."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.at = 0
        self.then: Callable[[], None] = lambda: None
        self.crashed = False

    def expect(self, at: int, then: Callable[[], None]) -> None:
        """Let it happen before the batch of that number, counted from now; a number too large: never."""
        self.at, self.then, self.crashed = at, then, False

    def observe(self, scope: Scope = Scope.HOST) -> State:
        """The state, for whoever lives."""
        if self.crashed:
            raise Crash
        return self.host.observe(scope)

    def perform(self, steps: Sequence[Step]) -> None:
        """Carry out, or not."""
        if self.crashed:
            raise Crash
        self.at -= 1
        if self.at == 0:
            self.then()
        self.host.perform(steps)

    def read_files(self, paths: Sequence[str]) -> Any:
        """No plan of the machine's writes files."""
        return self.host.read_files(paths)

    def cookie(self) -> int:
        """The number of the namespace."""
        return 1


def deed(what: str, now: State, nic: Link) -> Sequence[Step]:
    """What somebody does, as steps; none where there is nothing to do it to."""
    bridge = next((link for link in now.links if read_mark(link) is not None), None)
    link = bridge if "bridge" in what else nic
    if link is None:
        return ()
    addresses, routes = now.addresses_of(link.name, 4), now.routes_of(link.name)
    match what.split()[:2]:
        case ["adds", "an"]:
            return (PutAddress(address=Address(link=link.name, family=4, ip=ADDED, prefix=32)),)
        case ["adds", "a"]:
            hop = Nexthop(link=link.name)
            return (AddRoute(route=Route(family=4, dst=ROUTE, scope=253, metric=7, nexthops=(hop,))),)
        case ["takes", "an"]:
            return tuple(DeleteAddress(address=a) for a in addresses[:1])
        case ["takes", "a"]:
            return tuple(DeleteRoute(route=r) for r in routes[:1])
        case ["sets", _]:
            return (SetUp(link=link.name, up=what.endswith("up")),)
    to = IfName("other0" if link.name != "other0" else NIC)
    return (RenameLink(link=link.name, to=to),) if now.link(to) is None else ()
