"""Confirmation: whether a change must be confirmed, who guards it meanwhile, and the command's wait."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Literal

from tapbridge.cli.proving import watch_for_arrivals
from tapbridge.cli.result import Result
from tapbridge.cli.turn import release_guards
from tapbridge.model.errors import HostError, UsageError
from tapbridge.model.journal import Applied, Armed, Began
from tapbridge.model.noun import dataclass, replace
from tapbridge.model.plan import Plan
from tapbridge.model.proof import Flow
from tapbridge.model.values import IfName
from tapbridge.model.verdict import Finding, Severity
from tapbridge.transact.guards import Guards
from tapbridge.transact.journal import Journal

if TYPE_CHECKING:
    from tapbridge.cli.turn import Session
    from tapbridge.cli.window import Reader
    from tapbridge.cli.world import World

MOST_S = 3600
REMOTE_S = 60
"""The window where a change goes under the user's own feet, in seconds."""

AUTO_S = 30
"""How long a change that proves itself may take to be there and proved, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What must happen before a change is kept. `seconds` 0: nothing; `auto`: the proof of life, and where
    `inbound` is set a new connection from outside within `seconds`; else somebody's word within `seconds`."""

    seconds: int
    auto: bool = False
    inbound: bool = False

    @property
    def guarded(self) -> bool:
        """Whether guards stand by."""
        return self.seconds > 0

    @property
    def waits(self) -> bool:
        """Whether the change waits once it is there and proved."""
        return self.guarded and (self.inbound or not self.auto)


def confirm_options(parser: ArgumentParser) -> None:
    """The options of a command whose change can wait to be confirmed."""
    parser.add_argument(
        "--confirm",
        metavar="SECONDS",
        type=parse_confirm,
        help="take the change back unless it is confirmed within SECONDS (1 to 3600): by Enter, or by tapbridge "
        "confirm from a new session; auto: confirmed by proof of life; 0: at once. Default: 60 where you came in "
        "through this NIC and have a terminal, auto where you have none, else 0",
    )
    parser.add_argument(
        "--require-inbound",
        action="store_true",
        help=f"with --confirm auto: a new connection from outside within {REMOTE_S} s is part of the proof",
    )
    parser.add_argument(
        "--no-wait", action="store_true", help="return as soon as the change is there; it waits to be confirmed"
    )


def parse_confirm(text: str) -> int | Literal["auto"]:
    """Read the value of --confirm. Raises ArgumentTypeError."""
    if text == "auto":
        return "auto"
    if text.isascii() and text.isdigit() and int(text) <= MOST_S:
        return int(text)
    raise ArgumentTypeError(f"{text!r} is neither a number of seconds from 0 to {MOST_S} nor auto")


def check_options(args: Namespace) -> None:
    """Raises UsageError for options that do not go together."""
    if args.require_inbound and args.confirm not in (None, "auto"):
        raise UsageError("--require-inbound belongs to --confirm auto", hint="tapbridge up --help", code="usage")


def choose_window(args: Namespace, *, remote: bool, terminal: bool) -> Window:
    """What was asked for, and where nothing was, what fits."""
    asked = args.confirm
    if asked is None and args.require_inbound:
        asked = "auto"
    if asked is None:
        asked = 0 if not remote else REMOTE_S if terminal else "auto"
    if asked == "auto":
        return Window(seconds=REMOTE_S if args.require_inbound else AUTO_S, auto=True, inbound=args.require_inbound)
    return Window(seconds=asked)


class Guarding:
    """The guards of one change: armed before its first step, ended when it ends."""

    def __init__(self, world: World, window: Window, plan: Plan, nic: IfName, save: IfName | None = None) -> None:
        self._world, self._window, self._command = world, window, plan.command
        self._before, self._nic, self._save = plan.before, nic, save
        self._armed: Armed | None = None
        self._arrived: Callable[[], Flow | None] = lambda: None
        self._missing: tuple[Finding, ...] = ()
        self.applied: Applied | None = None

    def tell(self, result: Result) -> Result:
        """The result of the change, with what was not to be had for its guards."""
        return replace(result, findings=(*self._missing, *result.findings)) if self._missing else result

    def guards(self) -> Guards | None:
        """What `apply` is given; None where nobody stands guard."""
        return Guards(arm=self._arm, window=self._begin, disarm=self._disarm) if self._window.guarded else None

    def wait(self, session: Session, result: Result) -> Waiting:
        """The change that waits; its journal is opened while nobody else can take it away."""
        assert self.applied is not None, "only a change that was applied waits"
        from tapbridge.cli.window import Reader

        reader = Reader(session.journal.path)
        return Waiting(
            world=self._world,
            applied=self.applied,
            transaction=session.journal.read()[0],
            reader=reader,
            result=self.tell(result),
            arrived=self._arrived,
            keeps=self._window.inbound,
        )

    def _arm(self, journal: Journal, began: Began) -> None:
        from tapbridge.cli.guardian import make_watch
        from tapbridge.transact.guardian import fork_guardian

        apply_by = self._world.clock.monotonic() + self._window.seconds
        make = partial(make_watch, journal.folder, journal.durable, began, apply_by)
        self._armed, missing = fork_guardian(make, apply_by)
        unit, why = self._arm_timer(journal, began)
        self._armed = replace(self._armed, unit=unit)
        self._missing = tuple(_weaker(self._command, sentence) for sentence in (*missing, *why))
        journal.note(self._armed)

    def _arm_timer(self, journal: Journal, began: Began) -> tuple[str | None, tuple[str, ...]]:
        """The second guardian, by systemd's timer where systemd runs this network; without it the first suffices."""
        from tapbridge.linux.systemd import arm_timer, is_here

        if not is_here():
            return None, ()
        from tapbridge.cli.guardian import timer_words

        unit = f"tapbridge-undo-{began.id}"
        try:
            arm_timer(unit, self._window.seconds, timer_words(journal, began.id), {})
        except HostError as error:
            return None, (error.message,)
        return unit, ()

    def _begin(self) -> Applied | None:
        if not self._window.waits:
            return None
        self._arrived = watch_for_arrivals(self._before, self._nic)
        clock, seconds = self._world.clock, self._window.seconds
        self.applied = Applied(
            command=self._command,
            confirm_by=clock.monotonic() + seconds,
            wall=clock.wall() + seconds,
            save=self._save,
        )
        return self.applied

    def _disarm(self) -> None:

        release_guards(self._armed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A change that waits to be confirmed, after its command has let the lock go."""

    world: World
    applied: Applied
    transaction: str
    reader: Reader
    result: Result
    arrived: Callable[[], Flow | None]
    keeps: bool

    def end(self, *, no_wait: bool, quiet: bool) -> Result:
        """Wait for the word, or say at once that the change waits."""
        from tapbridge.cli.pending import keep_if_waiting, pending_json, take_back_if_there
        from tapbridge.cli.window import Acts, wait_for_word

        try:
            if no_wait:
                pending = pending_json(self.transaction, self.applied, self.world)
                text = f"{self.result.text}\nIt is taken back in {pending['confirm_in_s']} s, unless: tapbridge confirm"
                return replace(self.result, document={**self.result.document, "pending": pending}, text=text)
            acts = Acts(
                confirm=partial(keep_if_waiting, self.world, self.transaction),
                rollback=partial(take_back_if_there, self.world, self.transaction),
                find_arrival=self.arrived,
                arrival_keeps=self.keeps,
            )
            return wait_for_word(self.result, self.applied, self.reader, self.world, acts, quiet=quiet)
        finally:
            self.reader.close()


def _weaker(command: str, sentence: str) -> Finding:
    return Finding(code="weaker-guard", severity=Severity.INFO, subject=command, message=sentence)
