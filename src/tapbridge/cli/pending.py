"""What can be done to a change that waits to be confirmed: keep it, take it back, tell of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tapbridge.cli.turn import Session, opened, release_guards, take_back_found, watched
from tapbridge.model.errors import Refused
from tapbridge.model.journal import Applied, Ended
from tapbridge.transact.found import Waiting, find_begun, find_waiting
from tapbridge.transact.journal import Journal
from tapbridge.transact.undo import Undone

if TYPE_CHECKING:
    from tapbridge.cli.world import World
    from tapbridge.linux.host import LinuxHost

_LOCK_S = 5.0


def require_waiting(session: Session, world: World) -> Waiting:
    """The change that waits, its time not over. Raises Refused."""
    waiting = find_waiting(session.journal)
    if waiting is None:
        raise Refused("there is no change that waits to be confirmed", hint="tapbridge status", code="nothing-pending")
    if waiting.applied.confirm_by <= world.clock.monotonic():
        raise Refused(
            f"the time to confirm '{waiting.applied.command}' is over, and it is being taken back",
            hint="tapbridge recover finishes that, if nobody else does",
            code="nothing-pending",
        )
    return waiting


def keep(session: Session) -> None:
    """Keep the change of the journal that is there: after this record it is nobody's any more."""
    found = find_begun(session.journal)
    assert found is not None, "whoever calls has found it"
    session.journal.resume()
    session.journal.end(Ended(outcome="confirmed"))
    release_guards(found.armed)


def keep_if_waiting(world: World, transaction: str) -> None:
    """Keep the change of this id, if it still waits; how it ended stands in its journal."""
    with opened(world, "confirm", wait_s=_LOCK_S) as session:
        waiting = watched(session, world)
        if waiting is not None and waiting.id == transaction:
            keep(session)


def take_back_if_there(world: World, transaction: str, reason: str) -> Undone:
    """Take the change of this id back, if it has not ended; how it ended stands in its journal."""
    with opened(world, "rollback", wait_s=_LOCK_S) as session:
        found = find_begun(session.journal)
        if found is None or found.began.id != transaction or found.ended is not None:
            return Undone()
        return take_back_found(found, session, reason)


def find_pending(world: World, host: LinuxHost) -> dict[str, Any] | None:
    """The change that waits, as the contract's JSON; None where there is none or it may not be known."""
    try:
        waiting = find_waiting(Journal(world.journal_dir(host)))
    except OSError:
        return None
    return None if waiting is None else pending_json(waiting.id, waiting.applied, world)


def pending_json(transaction: str, applied: Applied, world: World) -> dict[str, Any]:
    """A waiting change as the contract's JSON."""
    return {
        "id": transaction,
        "confirm_by": datetime.fromtimestamp(applied.wall, UTC).isoformat(timespec="seconds"),
        "confirm_in_s": max(0, round(applied.confirm_by - world.clock.monotonic())),
        "command": applied.command,
    }
