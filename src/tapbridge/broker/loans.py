"""The taps that are lent, and when each of them comes back.

Theory of operation. A tap is lent to a process. It comes back when that process ends, which its pidfd tells, or when
it is not any more as it was lent: with another address it would take away an address from the bridge, and one made
persistent, or given to another user, is not meant to end with its guest. Both are seen within a millisecond. What is
lent is written on the tap (core/mark.py), so a broker that is started again knows it.

The address is put back the first time, because it need not have been the holder: udev gives one to new links, and may
have looked at the tap before it had its own (linux/tun.py). It does so once.

A guard that somebody has taken away is put back as it was lent. A broker that was started again asks the policy how
that was; where such a guest is guarded no more by it, or otherwise, it says so.

When a guest closes its tap, the kernel deletes it, and tells so; then there is one less.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from tapbridge.broker.peer import has_ended, reopen
from tapbridge.core.mark import LoanMark
from tapbridge.model.errors import TapbridgeError
from tapbridge.model.intent import Guard, LendTap
from tapbridge.model.state import Link
from tapbridge.model.values import IfName, Mac


class Taps(Protocol):
    """The kernel's taps, as a broker needs them; linux/lent.py."""

    def fileno(self) -> int:
        """What is readable when links have changed."""
        ...

    def lend(self, intent: LendTap) -> tuple[Link, tuple[int, ...]]:
        """Make a tap; the link, and its open files. Raises Refused, HostError."""
        ...

    def find(self, index: int) -> Link | None:
        """The link of that number."""
        ...

    def marked(self) -> list[tuple[Link, LoanMark, IfName | None]]:
        """The taps that some broker has lent, and their bridges."""
        ...

    def changed(self) -> set[int] | None:
        """The numbers of links of which there is news; None where some of it was lost."""
        ...

    def rules_fileno(self) -> int:
        """What is readable when rules of nf_tables have changed; -1 where the kernel tells nobody."""
        ...

    def forget_rules(self) -> None:
        """What has changed by now was seen."""
        ...

    def unguarded(self, taps: Iterable[int]) -> frozenset[int]:
        """Which of these, by number, have lost their filter."""
        ...

    def guard(self, index: int, bridge: IfName | None, guard: Guard) -> None:
        """Put a filter back. Raises Refused, HostError."""
        ...

    def readdress(self, index: int, mac: Mac) -> None:
        """Give a tap its address."""
        ...

    def delete(self, taps: Iterable[tuple[int, str]]) -> None:
        """Delete taps by number, those that still have this alias."""
        ...

    def sweep(self) -> None:
        """Take away what taps that are gone have left."""
        ...


@dataclass(slots=True, kw_only=True)
class Loan:
    """A tap that is lent. `uid` has it, `pidfd` is its guest. `guard` is None where it is not known, too.

    `readdressed`: its address was put back once.
    """

    index: int
    name: IfName
    alias: str
    mac: Mac
    uid: int
    bridge: IfName | None
    pidfd: int
    guard: Guard | None = None
    readdressed: bool = False


class Loans:
    """All of them. `watch` is told of each pidfd that is to be polled, `unwatch` of each that is no more."""

    def __init__(
        self, taps: Taps, watch: Callable[[int], None], unwatch: Callable[[int], None], log: Callable[[str], None]
    ) -> None:
        self._taps = taps
        self._watch = watch
        self._unwatch = unwatch
        self._log = log
        self._by_index: dict[int, Loan] = {}
        self._by_pidfd: dict[int, Loan] = {}
        self._counts: Counter[tuple[int, IfName | None]] = Counter()

    def __len__(self) -> int:
        return len(self._by_index)

    def count(self, uid: int, bridge: IfName) -> int:
        """How many taps a user has on a bridge."""
        return self._counts[uid, bridge]

    def add(self, loan: Loan) -> None:
        """A tap is lent; from now on the pidfd is ours."""
        self._by_index[loan.index] = self._by_pidfd[loan.pidfd] = loan
        self._counts[loan.uid, loan.bridge] += 1
        self._watch(loan.pidfd)

    def resume(self, guard_of: Callable[[LoanMark, IfName | None], Guard | None]) -> None:
        """Take over what an earlier broker has lent; what its guest has left is deleted. `guard_of` tells how a guest
        on a bridge is guarded, if that is known. Raises OSError."""
        left, guarded = [], []
        for link, mark, bridge in self._taps.marked():
            pidfd = reopen(mark.pid, mark.started)
            if pidfd is None:
                left.append((link, "its guest has ended"))
                continue
            loan = Loan(
                index=link.index,
                name=link.name,
                alias=link.alias or "",
                mac=mark.mac,
                uid=mark.uid,
                bridge=bridge,
                pidfd=pidfd,
                guard=guard_of(mark, bridge),
            )
            self.add(loan)
            self._log(f"{link.name} on {bridge} is lent to user {mark.uid} (PID {mark.pid}) already")
            guarded += [link] if mark.guard is not None and loan.guard is None else []
            self.look({link.index})
        lost = self._taps.unguarded([link.index for link in guarded])
        for link in guarded:
            if link.index in lost:
                self._log(f"{link.name} is not guarded any more, until its guest is started again")
        for link, why in left:
            self._log(f"{link.name} is taken away: {why}")
        self._taps.delete((link.index, link.alias or "") for link, _ in left)
        self._taps.sweep()

    def end(self, pidfds: Iterable[int]) -> None:
        """Take back what these guests had, if they have ended. Raises OSError."""
        self._take_back(
            [(self._by_pidfd[fd], "its guest has ended") for fd in pidfds if fd in self._by_pidfd and has_ended(fd)]
        )

    def guard_again(self) -> bool:
        """Put the guard of one tap back that has lost it; whether to come again for another. Raises OSError."""
        guards = {index: loan.guard for index, loan in self._by_index.items() if loan.guard is not None}
        lost = self._taps.unguarded(guards)
        if not lost:
            return False
        loan = self._by_index[min(lost)]
        try:
            self._taps.guard(loan.index, loan.bridge, guards[loan.index])
        except TapbridgeError as error:
            self._log(f"{loan.name} is not guarded any more, until rules change again: {error.message}")
            return False
        self._log(f"{loan.name} is guarded again: somebody had taken its rules away")
        return len(lost) > 1

    def look(self, changed: set[int] | None) -> None:
        """Take back what is not as it was lent any more. Raises OSError."""
        spoilt, before = [], len(self)
        for index in list(self._by_index) if changed is None else changed & self._by_index.keys():
            loan = self._by_index[index]
            link = self._taps.find(index)
            if link is None or link.alias != loan.alias:
                self._forget(loan)
                self._log(f"{loan.name} is gone")
            elif link.mac != loan.mac and not loan.readdressed:
                self._taps.readdress(index, loan.mac)
                loan.readdressed = True
                self._log(f"{loan.name} has its address {loan.mac} again: it was changed to {link.mac}")
            elif (why := _spoilt(loan, link)) is not None:
                spoilt.append((loan, why))
        if len(self) < before:
            self._taps.sweep()
        self._take_back(spoilt)

    def _take_back(self, loans: list[tuple[Loan, str]]) -> None:
        for loan, why in loans:
            self._forget(loan)
            self._log(f"{loan.name} is taken away from user {loan.uid}: {why}")
        if loans:
            self._taps.delete((loan.index, loan.alias) for loan, _ in loans)
            self._taps.sweep()

    def _forget(self, loan: Loan) -> None:
        del self._by_index[loan.index], self._by_pidfd[loan.pidfd]
        key = loan.uid, loan.bridge
        self._counts[key] -= 1
        if not self._counts[key]:
            del self._counts[key]
        self._unwatch(loan.pidfd)
        with suppress(OSError):
            os.close(loan.pidfd)


def _spoilt(loan: Loan, link: Link) -> str | None:
    """What a holder has changed of a tap that he was lent; None for nothing that matters."""
    if link.mac != loan.mac:
        return f"its address was changed to {link.mac}"
    if link.tap is None or not link.ethernet:
        return "it is no Ethernet tap any more"
    if link.tap.persist:
        return "it was made persistent"
    if (link.tap.owner, link.tap.group) != (loan.uid, None):
        return "it was given to another user"
    return None
