"""One scene that goes through fault after fault: what each did to the host, told as complaints. None: it held.

A scene is built once and used again, for a host that recovered is the host of before or of after; where it is neither,
that is a complaint, and the scene is built anew.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from kit import injection
from kit.fingerprint import Fingerprint, differing, fingerprint
from kit.injection import Call, Ended
from kit.lan import batch
from kit.reach import Reach, reach_of
from kit.scenes import Scene
from kit.stage import Stage, processes_in, standing
from kit.standins import Fault, stand_ins
from tapbridge.model.noun import replace

RECOVER: Final = ("recover", "--wait", "10")
"""A guardian may be at work as well: who is second waits."""

WINDOW_S: Final = 2
REFUSED: Final = 3
STUCK: Final = 4
_SETTLING_S: Final = 0.3
_PATIENCE_S: Final = 5.0
_OUR_FILES: Final = r"^unexpected file: (run(/tapbridge)?/netns|var/lib/tapbridge)"
_RENEWAL_S: Final = 10.0
"""Within it a lease is renewed that is to be renewed after three seconds."""


Start = Literal["free", "bridged", "pending", "tapped"]


_GUARDED: Final = ("--confirm", "600", "--no-wait")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """A command that changes something, and where the host is when it is given."""

    name: str
    words: Callable[[Scene], tuple[str, ...]]
    start: Start


def _tap_add(scene: Scene) -> tuple[str, ...]:
    return ("tap", "add", "web0", "--bridge", scene.bridge)


VERBS: Final = {
    verb.name: verb
    for verb in (
        Verb(name="up", words=lambda scene: scene.up, start="free"),
        Verb(name="down", words=lambda scene: scene.down, start="bridged"),
        Verb(name="run", words=lambda _: ("run", "--name", "web", "--", "qemu-system-x86_64"), start="bridged"),
        Verb(name="up --confirm", words=lambda scene: (*scene.up, *_GUARDED), start="free"),
        Verb(name="confirm", words=lambda _: ("confirm",), start="pending"),
        Verb(name="rollback", words=lambda _: ("rollback",), start="pending"),
        Verb(name="tap add", words=_tap_add, start="bridged"),
        Verb(name="tap del", words=lambda _: ("tap", "del", "web0"), start="tapped"),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """What a verb does undisturbed: the host before and after it, and its system calls."""

    before: Fingerprint
    after: Fingerprint
    calls: tuple[Call, ...]

    @property
    def alone(self) -> bool:
        """Whether the program starts no other."""
        return not any(call.role == "starts" for call in self.calls)

    def strangeness(self, found: Fingerprint) -> tuple[str, ...]:
        """How a host differs from the nearer of before and after. Empty: it is one of them."""
        return min((differing(end, found) for end in (self.before, self.after)), key=len)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """How a trial ended. `reached`: the program came to the call at all; `told` is empty where everything held."""

    reached: bool
    told: tuple[str, ...] = ()


@dataclass(slots=True)
class Ordeal:
    """A scene under faults. It is entered by `ordeal_of`."""

    scene: Scene
    folder: Path
    stack: ExitStack = field(default_factory=ExitStack)
    stage: Stage = field(init=False)
    reach: Reach = field(init=False)
    ends: dict[str, Fingerprint] = field(init=False, default_factory=dict)
    rehearsals: dict[str, Rehearsal] = field(init=False, default_factory=dict)

    def build(self) -> None:
        """Build the scene, or build it anew."""
        self.stack.close()
        shutil.rmtree(self.folder, ignore_errors=True)  # the same paths again, for they are in argument vectors
        self.stage = self.stack.enter_context(standing(self.scene, self.folder))
        self.reach = self.stack.enter_context(reach_of(self.stage))
        self.ends = {"free": self._at_rest()}
        assert self.reach.unanswered() == ()

    @property
    def free(self) -> Rehearsal:
        """What takes everything back leaves: the host as it was built."""
        return Rehearsal(before=self.ends["free"], after=self.ends["free"], calls=())

    def rehearse(self, verb: Verb) -> Rehearsal:
        """Give the command undisturbed, once."""
        if verb.name not in self.rehearsals:
            self.get_ready(verb)
            calls = injection.calls_of(self.command(verb), self.stage.where)
            after = self._at_rest()
            self.rehearsals[verb.name] = Rehearsal(before=self.ends[verb.start], after=after, calls=tuple(calls))
        return self.rehearsals[verb.name]

    def rehearse_recovery(self, verb: Verb, call: Call) -> list[Call]:
        """The system calls of the recovery from a kill at this call."""
        self.get_ready(verb)
        self._kill(verb, call)
        return injection.calls_of([*self.stage.program, *RECOVER], self.stage.where)

    def get_ready(self, verb: Verb) -> None:
        """Bring the host to where the verb starts. Raises Spoilt."""
        wanted = self.ends.get(verb.start)
        if wanted is None:
            self._go(verb.start)
            self.ends[verb.start] = self._at_rest()
            return
        if not differing(wanted, fingerprint(self.stage)):
            return
        self._go(verb.start)
        if told := self._differing_at_last(lambda found: differing(wanted, found)):
            raise Spoilt(told)

    def command(self, verb: Verb) -> list[str]:
        """A verb as it is typed."""
        return [*self.stage.program, *verb.words(self.scene)]

    def attempt(self, trial: Callable[[], Trial]) -> Trial:
        """Do it. After a complaint the scene is built anew."""
        try:
            done = trial()
        except (AssertionError, subprocess.TimeoutExpired) as error:
            done = Trial(reached=True, told=(f"{type(error).__name__}: {error}",))
        if done.told:
            self.build()
        return done

    def killed(self, verb: Verb, call: Call, *, again: Call | None = None) -> Trial:
        """Kill the verb before this call, and the recovery before that one; ask at each rest; recover; compare."""
        self.get_ready(verb)
        ended = self._kill(verb, call)
        told = self._unanswered("after the kill")
        if again is not None:
            ended = self._kill(None, again)
            told += self._unanswered("after the second kill")
        told += self._recovered(self.rehearse(verb))
        if not ended.reached and ended.code:
            told += (f"not killed, exit {ended.code}: {ended.output}",)
        return Trial(reached=ended.reached, told=told)

    def beside_owner(self, ends: Rehearsal, trial: Callable[[], Trial]) -> Trial:
        """A trial, and then the owner's word: it renews the lease, which nobody has given up, and changes nothing."""
        mark = len(self.stage.served)
        done = trial()
        return replace(done, told=(*done.told, *self._unheld(mark, ends.strangeness)))

    def lapsed(self, call: Call | None = None) -> Trial:
        """Let the window of an `up` end, or kill it before this call. The guardian takes it back, and nobody else."""
        self.get_ready(VERBS["up"])
        mark, reached = len(self.stage.served), True
        words = (*self.scene.up, "--confirm", str(WINDOW_S), "--no-wait")
        if call is None:
            self._must(*words)
        else:
            program = [*self.stage.program, *words]
            reached = injection.kill(self._here(call), program, self.stage.where, alone=False).reached
        told = self._unanswered("before the window's end")

        def left(found: Fingerprint) -> tuple[str, ...]:
            return tuple(lie for lie in self.free.strangeness(found) if not re.search(_OUR_FILES, lie))

        told += self._differing_at_last(left, WINDOW_S + _RENEWAL_S)
        told += self._recovered(self.free)
        return Trial(reached=reached, told=(*told, *self._unheld(mark, left)))

    def failed(self, verb: Verb, call: Call, fault: str) -> Trial:
        """Let this call fail. Exit 0 must mean after; 4 may be anything that a recovery mends; all others, before.

        A journal or a lock that nobody could take away says nothing of the host, if the next recovery agrees.
        """
        self.get_ready(verb)
        return self._told_truly(verb, self._fail(verb, call, fault))

    def misserved(self, verb: Verb, call: Call, fault: Fault) -> Trial:
        """The same where a program that it calls fails, or does not answer."""
        self.get_ready(verb)
        assert self.stage.within is not None, "a manager's programs are in its container"
        with stand_ins(self.stage.within, fault, at=call.number) as calls:
            done = self.stage.tapbridge(*verb.words(self.scene))
            reached = (call.kind, call.number) in [(one.kind, one.number) for one in calls()]
        return self._told_truly(verb, Ended(code=done.returncode, reached=reached, output=done.stdout + done.stderr))

    def programs(self, verb: Verb) -> list[Call]:
        """The programs of a manager's that a verb calls, each for the first time with these words."""
        if self.stage.within is None:
            return []
        self.get_ready(verb)
        with stand_ins(self.stage.within) as calls:
            self._must(*verb.words(self.scene))
            first: dict[str, Call] = {}
            for call in calls():
                first.setdefault(call.text, call)
            return list(first.values())

    def recovery_failed(self, verb: Verb, first: Call, call: Call, fault: str) -> Trial:
        """Kill the verb at the first call and let this call of the recovery fail. Exit 0 must mean before or after."""
        self.get_ready(verb)
        self._kill(verb, first)
        ended = self._fail(None, call, fault)
        told, rehearsal = self._unanswered("after the fault"), self.rehearse(verb)
        if ended.code == 0:
            told += tuple(lie for lie in self._lies(ended, rehearsal.strangeness) if not _ours(lie))
        told += self._recovered(rehearsal)
        return Trial(reached=ended.reached, told=(f"it said: {ended.output}", *told) if told else ())

    def guardian(self) -> int:
        """A change that waits to be confirmed, for so short that its guardian will soon take it back: its PID."""
        self.get_ready(VERBS["up"])
        self._must(*self.scene.up, "--confirm", str(WINDOW_S), "--no-wait")
        return next(pid for pid, words in processes_in(self.stage.host) if "--confirm" in words)

    def guardian_killed(self, call: Call) -> Trial:
        """Kill the guardian before this call of its way back. A recovery then leads to before."""
        reached = injection.kill_running(self._here(call), self.guardian(), self.folder)
        told = self._unanswered("after the kill")
        return Trial(reached=reached, told=(*told, *self._recovered(self.free)))

    def _kill(self, verb: Verb | None, call: Call) -> Ended:
        """Kill a verb, or without one the recovery."""
        return injection.kill(
            self._here(call),
            self.command(verb) if verb else [*self.stage.program, *RECOVER],
            self.stage.where,
            alone=self._alone(verb),
        )

    def _fail(self, verb: Verb | None, call: Call, fault: str) -> Ended:
        return injection.fail(
            self._here(call),
            fault,
            self.command(verb) if verb else [*self.stage.program, *RECOVER],
            self.stage.where,
            alone=self._alone(verb),
        )

    def _alone(self, verb: Verb | None) -> bool:
        """Whether the program starts no other; a recovery may start the DHCP client."""
        return self.rehearse(verb).alone if verb else not self.scene.leased

    def _here(self, call: Call) -> Call:
        """The call as it is in this building of the scene, whose namespace has another number."""
        if call.path is None:
            return call
        return replace(call, path=re.sub(r"netns-\d+", f"netns-{self.stage.cookie}", call.path))

    def _unanswered(self, when: str) -> tuple[str, ...]:
        return tuple(f"cut off {when}: {who}" for who in self.reach.unanswered())

    def _told_truly(self, verb: Verb, ended: Ended) -> Trial:
        told, rehearsal = self._unanswered("after the fault"), self.rehearse(verb)
        if ended.code == STUCK:
            told += self._recovered(rehearsal)
        else:
            wanted = rehearsal.before if ended.code else rehearsal.after
            lies = self._lies(ended, lambda found: differing(wanted, found))
            mended = self._recovered(Rehearsal(before=wanted, after=wanted, calls=())) if lies else ()
            told += mended or tuple(lie for lie in lies if not _ours(lie))
        return Trial(reached=ended.reached, told=(f"it said: {ended.output}", *told) if told else ())

    def _lies(self, ended: Ended, differences: Callable[[Fingerprint], tuple[str, ...]]) -> tuple[str, ...]:
        return tuple(f"exit {ended.code}, but {lie}" for lie in self._differing_at_last(differences))

    def _recovered(self, rehearsal: Rehearsal) -> tuple[str, ...]:
        done = self.stage.tapbridge(*RECOVER)
        left = self._differing_at_last(rehearsal.strangeness)
        said = () if done.returncode == 0 else (f"recover: exit {done.returncode}: {done.stderr}",)
        return (*said, *left)

    def _unheld(self, mark: int, differences: Callable[[Fingerprint], tuple[str, ...]]) -> tuple[str, ...]:
        """What the server says against the owner since its log was so long, and what a renewal has changed."""
        there, deadline = len(self.stage.served), time.monotonic() + _RENEWAL_S
        while "DHCPACK" not in self.stage.served[there:]:
            if time.monotonic() > deadline:
                return (f"no renewal within {_RENEWAL_S:g} s", self.stage.served[mark:])
            time.sleep(0.05)
        words = "RELEASE|DECLINE|NAK" if self.scene.owner == "networkd" else "RELEASE|DECLINE|NAK|DISCOVER"
        given_up = re.findall(f"DHCP(?:{words}).*", self.stage.served[mark:])  # see docs/owners.md for networkd
        return (*given_up, *self._differing_at_last(differences))

    def _differing_at_last(
        self, differences: Callable[[Fingerprint], tuple[str, ...]], patience_s: float = _PATIENCE_S
    ) -> tuple[str, ...]:
        """Wait a while until there are none; else the last ones."""
        deadline = time.monotonic() + patience_s
        while (told := differences(fingerprint(self.stage))) and time.monotonic() < deadline:
            time.sleep(0.05)
        return told

    def _go(self, start: Start) -> None:
        """From wherever the host is to one of the starts, by the commands that are needed for it."""
        there = fingerprint(self.stage)
        if any("/journal " in file for file in there["file"]):
            if self.stage.tapbridge("rollback").returncode not in (0, REFUSED):
                self._must("rollback")
            self._must("recover")
        if any('"ifname": "web0"' in link for link in there["link"]):
            self._must("tap", "del", "--all")
        self._must(*self.scene.down)
        if start in ("bridged", "tapped"):
            self._must(*self.scene.up)
            batch(self.scene.ports)
            if start == "tapped":
                self._must(*_tap_add(self.scene))
        elif start == "pending":
            self._must(*self.scene.up, *_GUARDED)

    def _must(self, *words: str) -> None:
        done = self.stage.tapbridge(*words)
        if done.returncode != 0:
            raise Spoilt(f"{words}: exit {done.returncode}: {done.stderr}")

    def _at_rest(self) -> Fingerprint:
        """The host once nothing of it changes any more by itself."""
        last, since = fingerprint(self.stage), time.monotonic()
        while time.monotonic() - since < _SETTLING_S:
            time.sleep(0.05)
            now = fingerprint(self.stage)
            if differing(last, now) or any("tentative" in address for address in now["address"]):
                since, last = time.monotonic(), now
        return last


def _ours(lie: str) -> bool:
    """Whether it is a file of ours that stays where its removal itself is what fails, until the next command."""
    return re.search(r"unexpected file: run(/tapbridge)?/netns(/lock|/journal)? ", lie) is not None


class Spoilt(AssertionError):
    """The host cannot be brought back to where a verb starts."""


@contextmanager
def ordeal_of(scene: Scene, folder: Path) -> Iterator[Ordeal]:
    """Build a scene for faults."""
    found = Ordeal(scene, folder)
    try:
        found.build()
        yield found
    finally:
        found.stack.close()
