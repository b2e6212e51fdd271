"""What a journal that is found means: nothing, a change that waits to be confirmed, or one that a crash cut off."""

from __future__ import annotations

from collections.abc import Callable

from tapbridge.model.journal import Applied, Armed, Began, Ended, Record, Undoing, load
from tapbridge.model.noun import dataclass
from tapbridge.transact.detach import start_time
from tapbridge.transact.journal import Journal, load_records


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A change that is there and proved, and will be taken back unless it is confirmed."""

    id: str
    applied: Applied
    armed: Armed


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A journal that is there: its first record, and what became of the change as far as it tells."""

    began: Began
    records: tuple[Record, ...] = ()

    @property
    def ended(self) -> Ended | None:
        """The last word, if it was said and the journal only not taken away."""
        return next((record for record in self.records if isinstance(record, Ended)), None)

    @property
    def armed(self) -> Armed | None:
        """The guards of the change, if it has any."""
        return next((record for record in self.records if isinstance(record, Armed)), None)


def find_begun(journal: Journal) -> Found | None:
    """The journal that is there. Raises Stuck for one that cannot be read."""
    _, texts = journal.read()
    if not texts:
        return None
    began, *records = load_records(texts)
    assert isinstance(began, Began), "a journal begins with what it takes back"
    return Found(began=began, records=tuple(records))


def find_waiting(journal: Journal) -> Waiting | None:
    """The change that waits to be confirmed, whether or not its time is over; one whose way back has begun does not.

    The first record is not looked into.

    Raises Stuck for a journal that cannot be read.
    """
    transaction, texts = journal.read()
    records = [load(text) for text in texts[1:]]
    armed = next((record for record in records if isinstance(record, Armed)), None)
    applied = next((record for record in reversed(records) if isinstance(record, Applied)), None)
    if armed is None or applied is None or any(isinstance(record, Ended | Undoing) for record in records):
        return None
    return Waiting(id=transaction, applied=applied, armed=armed)


def lives(armed: Armed) -> bool:
    """Whether the guardian process of this record is there still."""
    return armed.pid > 0 and start_time(armed.pid) == armed.started


def is_watched(waiting: Waiting, now: float, timer_lives: Callable[[str], bool]) -> bool:
    """Whether a waiting change is alive: its time is not over, and somebody stands ready to take it back."""
    armed = waiting.armed
    return now < waiting.applied.confirm_by and (lives(armed) or (armed.unit is not None and timer_lives(armed.unit)))
