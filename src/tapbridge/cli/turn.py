"""A command's turn at this network namespace: the lock, and first of all what an earlier command has left."""

from __future__ import annotations

import os
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from tapbridge.model.errors import HostError, Refused, Stuck
from tapbridge.model.journal import Armed, Undoing
from tapbridge.model.noun import dataclass
from tapbridge.model.verdict import Finding, Severity
from tapbridge.transact.detach import drop_control_group
from tapbridge.transact.found import Found, Waiting, find_begun, find_waiting, is_watched, lives
from tapbridge.transact.journal import Journal
from tapbridge.transact.lock import writing
from tapbridge.transact.signals import stopped_by_signals
from tapbridge.transact.undo import Undone, mend, take_back

if TYPE_CHECKING:
    from tapbridge.cli.world import World
    from tapbridge.linux.host import LinuxHost

MOST_S = 3600
WAIT_S = 60
"""What `--wait` alone means, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One command's turn at this network namespace."""

    host: LinuxHost
    journal: Journal
    boot_id: str
    as_json: bool = False
    findings: tuple[Finding, ...] = ()


def wait_option(parser: ArgumentParser) -> None:
    """The option of every command that changes something."""
    parser.add_argument(
        "--wait",
        metavar="SECONDS",
        nargs="?",
        type=_seconds,
        const=WAIT_S,
        default=0,
        help=f"wait so long for another tapbridge to end (alone: {WAIT_S}; default 0)",
    )


def _seconds(text: str) -> int:
    from argparse import ArgumentTypeError

    if not text.isascii() or not text.isdigit() or int(text) > MOST_S:
        raise ArgumentTypeError(f"{text!r} is no number of seconds from 0 to {MOST_S}")
    return int(text)


@contextmanager
def opened(world: World, what: str, *, wait_s: float = 0.0, as_json: bool = False) -> Iterator[Session]:
    """Hold the lock of this network namespace. Raises Forbidden, Refused."""
    from tapbridge.linux.boot import boot_id

    world.require_root(what)
    with world.host() as host:
        folder = world.journal_dir(host)
        with stopped_by_signals(), writing(folder, wait_s):
            journal = Journal(folder, world.durable_journal())
            journal.drop_drafts(boot_id())
            yield Session(host=host, journal=journal, boot_id=boot_id(), as_json=as_json)


@contextmanager
def turn(world: World, what: str, *, wait_s: float = 0.0, as_json: bool = False) -> Iterator[Session]:
    """Hold the lock, and mend what a crash, or a guest's end, has left.

    Raises Forbidden, Stuck, and Refused also where a change waits.
    """
    from tapbridge.linux.filters import sweep_filters

    with opened(world, what, wait_s=wait_s, as_json=as_json) as session:
        waiting = watched(session, world)
        if waiting is not None:
            left_s = waiting.applied.confirm_by - world.clock.monotonic()
            raise Refused(
                f"a '{waiting.applied.command}' waits to be confirmed, for {left_s:.0f} s more",
                hint="tapbridge confirm keeps it, tapbridge rollback takes it back",
                code="pending-change",
            )
        finding = settle(session)
        sweep_filters()
        yield Session(
            host=session.host,
            journal=session.journal,
            boot_id=session.boot_id,
            as_json=as_json,
            findings=(finding,) if finding is not None else (),
        )


def watched(session: Session, world: World) -> Waiting | None:
    """The change that waits to be confirmed, if its time is not over and a guard stands by."""
    waiting = find_waiting(session.journal)
    if waiting is None:
        return None
    return waiting if is_watched(waiting, world.clock.monotonic(), _timer_lives) else None


def _timer_lives(unit: str) -> bool:
    from tapbridge.linux.systemd import is_armed

    return is_armed(unit)


def settle(session: Session) -> Finding | None:
    """Bring what a dead command has left to one of its ends, by the holder of the lock. Raises Stuck."""
    found = find_begun(session.journal)
    if found is None:
        durable = session.journal.durable
        return settle_files(session) if durable is not None and durable.exists() else None
    if found.began.boot_id != session.boot_id:  # history, but for its files
        return settle_files(session)
    if found.ended is not None and found.ended.outcome != "stuck":
        release_guards(found.armed)
        session.journal.remove()
        return None
    session.journal.resume()
    how, undone = mend(found.began, session.host, session.journal)
    return _recovered(found, session, how, undone)


def settle_files(session: Session) -> Finding | None:
    """What an earlier boot has left in files that outlive it. Raises Stuck."""
    from tapbridge.cli.files import restore_files

    finding = restore_files([session.journal.durable] if session.journal.durable else [], session.host, session.boot_id)
    session.journal.remove()
    return finding


def take_back_found(found: Found, session: Session, reason: str) -> Undone:
    """Take the change of this journal back. From the first record on it is none that waits any more."""
    session.journal.resume()
    with suppress(OSError):  # without it a crash of ours is seen at the deadline only
        session.journal.note(Undoing(pid=os.getpid(), reason=reason))
    undone = take_back(found.began, session.host, session.journal, reason)
    release_guards(found.armed)
    return undone


def release_guards(armed: Armed | None) -> None:
    """Take away what the guards of a change that has ended leave. The guardian itself goes with the journal.

    A timer that stays, because we are killed here, finds no journal.
    """
    if armed is None:
        return
    if not lives(armed):
        drop_control_group(armed.pid)  # somebody killed it
    if armed.unit is not None:
        from tapbridge.linux.systemd import disarm_timer

        with suppress(HostError):
            disarm_timer(armed.unit)


def _recovered(found: Found, session: Session, how: str, undone: Undone) -> Finding:
    release_guards(found.armed)
    if undone.left:
        raise Stuck(
            f"a '{found.began.command}' that was cut off could neither be finished nor taken back: "
            + "; ".join(undone.left[:5]),
            hint=f"mend what is named, then: tapbridge recover (to give up the way back: rm {session.journal.path})",
            code="recover-incomplete",
        )
    return Finding(
        code="recovered",
        severity=Severity.INFO,
        subject=found.began.command,
        message=f"a '{found.began.command}' that was cut off was {how} first",
        evidence=undone.told,
    )
