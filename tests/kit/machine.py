"""A host that anything may happen to: verbs, faults, crashes, a clock that jumps, and somebody else at work.

The machine drives the transaction core as the commands do, with the real journal and the real guardian's duty; what
the host is made of is left open, so that the same machine runs over the model and over a real kernel.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kit.trouble import ACTS, ADDED, NIC, ROUTE, Clock, Crash, Troubled, deed
from tapbridge.cli.turn import Session, settle, take_back_found
from tapbridge.core.adopt import adopt
from tapbridge.core.compare import comparable, differences
from tapbridge.core.guard import leads_out
from tapbridge.core.release import find_released, release
from tapbridge.core.verify import verify, verify_alone, verify_carried, verify_empty, verify_uplink
from tapbridge.model.errors import HostError, Refused
from tapbridge.model.intent import Adopt, Release
from tapbridge.model.journal import Applied, Armed, Began, Ended
from tapbridge.model.noun import replace
from tapbridge.model.plan import Plan
from tapbridge.model.state import PROTO_RA, Link, State
from tapbridge.model.values import IfName, is_link_local
from tapbridge.model.verdict import Verdict
from tapbridge.ports import Host
from tapbridge.transact.batches import batches
from tapbridge.transact.detach import start_time
from tapbridge.transact.found import find_begun, find_waiting
from tapbridge.transact.guardian import Watch
from tapbridge.transact.guards import Guards
from tapbridge.transact.journal import Journal
from tapbridge.transact.lock import writing
from tapbridge.transact.transaction import Report, apply

BRIDGE = IfName("br0")
BOOT = "boot"
WINDOW_S = 60.0
MOST = 24
"""More batches than any change has."""


class Machine(RuleBasedStateMachine):
    """Everything in any order; `begin` gives it a host."""

    def begin(self, host: Host) -> None:
        """Start with this host, whose NIC is eth0."""
        self.folder = Path(tempfile.mkdtemp()) / "journal"
        self.clock = Clock()
        self.host = Troubled(host)
        self.nic = next(link.index for link in host.observe().links if link.name == NIC)
        self.rebase()

    def teardown(self) -> None:
        """Nothing is left."""
        if hasattr(self, "folder"):
            for path in self.folder.glob("*"):  # shutil.rmtree names files by their folders' descriptors
                path.unlink()
            for folder in (self.folder, self.folder.parent):
                with suppress(FileNotFoundError):
                    folder.rmdir()

    # What the host is measured by

    def rebase(self) -> None:
        """What is there now is what whoever comes next finds."""
        self.base = self.host.host.observe()
        self.meddled = False
        self.added: set[str] = set()

    def link(self, state: State) -> Link:
        """The NIC, whatever it is called."""
        return next(link for link in state.links if link.index == self.nic)

    @property
    def waiting(self) -> bool:
        """Whether a change waits to be confirmed."""
        return self.folder.exists() and find_waiting(Journal(self.folder)) is not None

    @property
    def left(self) -> bool:
        """Whether a crash has left something."""
        return self.folder.exists() and not self.waiting

    def session(self) -> Session:
        """A command's turn."""
        return Session(host=cast(Any, self.host), journal=Journal(self.folder), boot_id=BOOT)

    @invariant()
    def reachable(self) -> None:
        """Where nobody has meddled: every address is answered, and a route leads out to every network."""
        if not hasattr(self, "base") or self.meddled:
            return
        now = self.host.host.observe()
        assert {a.ip for a in self.base.addresses} <= {a.ip for a in now.addresses}
        out = {(r.family, r.table, r.dst) for r in now.routes if leads_out(now, r, self.nic)}
        for route in self.base.routes:
            if leads_out(self.base, route, self.nic) and not is_link_local(route.family, route.dst.partition("/")[0]):
                assert (route.family, route.table, route.dst) in out, f"no way to {route.dst}"

    # Verbs

    def change(self, plan: Plan, check: Callable[[State], Verdict], guarded: bool) -> None:
        """Apply a plan, and hold what is reported to what is there."""
        state = plan.before
        began = Began(
            id="1",
            command=plan.command,
            boot_id=BOOT,
            netns=1,
            before=state,
            after=plan.after,
            touched=plan.touched,
            steps=plan.steps,
            guarded=guarded,
        )
        with writing(self.folder):
            journal = Journal(self.folder)
            try:
                proofs = (partial(verify_alone, plan), check, check)
                report = apply(plan, began, cast(Host, self.host), journal, proofs, self.guards() if guarded else None)
            except Crash:
                self.bury(journal)
                return
        self.judge(report, plan)

    def guards(self) -> Guards:
        """A guardian that the machine itself plays."""
        armed = Armed(pid=os.getpid(), started=start_time(os.getpid()), apply_by=self.clock.now + WINDOW_S)
        return Guards(
            arm=lambda journal, _: journal.note(armed),
            window=lambda: Applied(command="up", confirm_by=self.clock.now + WINDOW_S, wall=0.0),
            disarm=lambda: None,
        )

    def judge(self, report: Report, plan: Plan) -> None:
        """One of the two ends, and which is said."""
        if report.outcome == "pending":
            assert self.waiting
            return
        assert report.outcome in ("done", "rolled-back"), report
        if report.outcome == "done":
            self.is_at(plan.after, plan)
        else:
            self.is_at(plan.before, plan)
        self.settled()

    def is_at(self, end: State, plan: Plan | None) -> None:
        """The host is at this end of a change."""
        now = self.host.host.observe()
        if not self.meddled:
            assert comparable(now) == comparable(end), differences(end, now, tuple(x.name for x in end.links))
            return
        assert [(x.name, x.master) for x in now.links] == [(x.name, x.master) for x in end.links]
        there = {(a.link, a.ip, a.prefix) for a in now.addresses}
        for address in end.addresses:
            assert address.temporary or (address.link, address.ip, address.prefix) in there
        ways = {(r.dst, hop.link) for r in now.routes for hop in r.nexthops}
        for route in end.routes:
            if route.protocol != PROTO_RA:
                assert all((route.dst, hop.link) in ways for hop in route.nexthops), f"no way to {route.dst}"
        kept = {a.ip for a in now.addresses} | {r.dst for r in now.routes}
        assert self.added <= kept, f"lost: {self.added - kept}"

    def settled(self) -> None:
        """Nothing waits, nothing is left, and doing it again does nothing."""
        assert not self.folder.exists()
        before = comparable(self.host.host.observe())
        with writing(self.folder):
            assert settle(self.session()) is None
        assert comparable(self.host.host.observe()) == before
        self.rebase()

    # What may happen before a batch

    def crash(self) -> None:
        """The process is gone."""
        self.host.crashed = True
        raise Crash

    def bury(self, journal: Journal) -> None:
        """What the kernel does with a process that is gone."""
        os.close(cast(Any, journal)._open)
        self.host.expect(0, lambda: None)

    def fault(self) -> None:
        """The host refuses."""
        raise HostError("the test said no", errno=5)

    def somebody(self, what: str, seen: bool = True) -> None:
        """Somebody else does something; `seen`: what he adds can still be seen before it would go."""
        now = self.host.host.observe()
        steps = deed(what, now, self.link(now))
        with suppress(HostError):
            self.host.host.perform(steps)
            if steps and seen:
                self.added |= {ADDED} if "adds an address" in what else {ROUTE} if "adds a route" in what else set()
        if not what.startswith("adds"):
            there = self.host.host.observe()
            self.added &= {a.ip for a in there.addresses} | {r.dst for r in there.routes}
        self.meddled = self.meddled or bool(steps)

    def expect(self, at: int, what: str, plan: Plan | None = None) -> None:
        """Choose what will happen."""
        blind: list[int] = []
        if plan is not None:
            prepare, move, _ = plan.parts()
            blind = [len([*batches(prepare)]) + 1, len([*batches((*prepare, *move))]) + 1]
        acts = {"nothing": lambda: None, "crash": self.crash, "fault": self.fault}
        if at in blind and what.startswith("takes"):
            what = "nothing"
        self.host.expect(at, acts.get(what) or partial(self.somebody, what, at not in blind))

    # Rules

    @precondition(lambda self: not self.waiting)
    @rule(
        take_name=st.booleans(),
        guarded=st.booleans(),
        at=st.integers(1, MOST),
        what=st.sampled_from(("nothing", "crash", "fault", *ACTS)),
    )
    def up(self, take_name: bool, guarded: bool, at: int, what: str) -> None:
        """`up`, with something before one of its batches."""
        self.mended()
        state = self.host.observe()
        intent = Adopt(nic=self.link(state).name, bridge=BRIDGE, take_name=take_name)
        try:
            plan = adopt(intent, state)
        except Refused:
            return
        if not plan.stages:
            return
        final = intent.nic if take_name else BRIDGE

        def check(now: State) -> Verdict:
            for verdict in (verify_uplink(plan, self.link(state), now), verify(intent, now)):
                if not verdict.ok:
                    return verdict
            return verify_carried(plan.after, now, final)

        self.expect(at, what, plan)
        self.change(plan, check, guarded)

    @precondition(lambda self: not self.waiting)
    @rule(at=st.integers(1, MOST), what=st.sampled_from(("nothing", "crash", "fault", *ACTS)))
    def down(self, at: int, what: str) -> None:
        """`down`, with something before one of its batches."""
        self.mended()
        state = self.host.observe()
        try:
            bridge = find_released(state, None)
            plan = release(Release(bridge=bridge.name), state)
        except Refused:
            return
        uplink = self.link(state)

        def check(now: State) -> Verdict:
            standing = verify_uplink(plan, uplink, now)
            if not standing.ok:
                return standing
            going = [link.name for link in now.links if link.index == bridge.index]
            found = [verify_empty(plan.after, now, name).findings for name in going]
            name = next(link.name for link in plan.after.links if link.index == uplink.index)
            return Verdict(findings=sum(found, verify_carried(plan.after, now, name).findings))

        self.expect(at, what, plan)
        self.change(plan, check, guarded=False)

    @precondition(lambda self: self.left)
    @rule(at=st.integers(1, MOST), what=st.sampled_from(("nothing", "crash")))
    def recover(self, at: int, what: str) -> None:
        """`recover`, which may itself be cut off."""
        self.expect(at, what)
        with suppress(Crash):
            self.mended()

    @precondition(lambda self: self.waiting)
    @rule(at=st.integers(1, MOST), what=st.sampled_from(("nothing", "crash")))
    def rollback(self, at: int, what: str) -> None:
        """`rollback`, which may itself be cut off."""
        self.expect(at, what)
        with writing(self.folder):
            session = self.session()
            found = find_begun(session.journal)
            assert found is not None
            try:
                undone = take_back_found(replace(found, records=()), session, "rollback")
            except Crash:
                self.bury(session.journal)
                return
        assert not undone.left
        self.is_at(found.began.before, None)
        self.settled()

    @precondition(lambda self: self.waiting)
    @rule()
    def confirm(self) -> None:
        """`confirm`: from then on it is nobody's."""
        with writing(self.folder):
            journal = Journal(self.folder)
            journal.resume()
            journal.end(Ended(outcome="confirmed"))
        self.settled()

    @rule(seconds=st.sampled_from((1.0, 59.0, 100.0, 1e6)))
    def time_passes(self, seconds: float) -> None:
        """The clock jumps; the guardian of a change that waits wakes when its time is over."""
        found = find_begun(Journal(self.folder)) if self.waiting else None
        self.clock.now += seconds
        waiting = find_waiting(Journal(self.folder)) if found is not None else None
        if found is None or waiting is None or waiting.applied.confirm_by > self.clock.now:
            return
        self.expect(0, "nothing")
        watch = Watch(
            journal=Journal(self.folder),
            began=found.began,
            host=cast(Host, self.host),
            clock=self.clock,
            apply_by=self.clock.now,
        )
        assert watch.stand(lambda deadline, pidfd: False) == "rolled-back"
        self.is_at(found.began.before, None)
        self.settled()

    @rule(what=st.sampled_from(ACTS))
    def somebody_else(self, what: str) -> None:
        """Somebody does something while nothing runs, or while a change waits or lies there."""
        self.somebody(what)
        if not self.folder.exists():
            self.rebase()

    def mended(self) -> None:
        """What every command does first."""
        if not self.left:
            return
        found = find_begun(Journal(self.folder))
        assert found is not None
        with writing(self.folder):
            session = self.session()
            try:
                finding = settle(replace(session, journal=session.journal))
            except Crash:
                self.bury(session.journal)
                raise
        if finding is not None:
            self.is_at(found.began.after if "finished" in finding.message else found.began.before, None)
        self.settled()
