"""Nouns as JSON: what a journal, a record and a test recording are made of, and the records of a journal.

Every dataclass becomes an object with its class's name under "_"; tuples become lists; enumerations their value
with the name of their class. `load(dump(x)) == x` for every noun. A line of a journal holds one record, with the
number of this schema and a checksum, so that a line which was cut short by a crash is known as such.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Any

from tapbridge.model import intent, permanent, plan, state, step, values, verdict
from tapbridge.model.noun import dataclass
from tapbridge.model.state import File, State
from tapbridge.model.step import Step
from tapbridge.model.values import IfName

SCHEMA = 1
_PLAIN = frozenset((str, int, float, bool, type(None)))
_LINE = re.compile(rb'\{"schema":([0-9]+),"id":"([0-9a-f-]+)","sum":"([0-9a-f]{8})","record":(\{.*\})\}')


@dataclass(frozen=True, slots=True, kw_only=True)
class Began:
    """The first record of a transaction: everything that its way back needs, before anything is touched.

    `files` are the files that the steps write, as they were. A `guarded` change is kept only once it was confirmed or
    proved; any other is kept by whoever finds it whole.
    """

    id: str
    command: str
    boot_id: str
    netns: int
    before: State
    after: State
    touched: tuple[str, ...]
    steps: tuple[Step, ...] = ()
    files: tuple[File, ...] = ()
    guarded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Armed:
    """The guards are ready. A process is known by its PID and its start (field 22 of /proc/PID/stat), a timer by its
    unit. Until `apply_by`, seconds of CLOCK_BOOTTIME, the change has to be there and proved."""

    pid: int
    started: int
    apply_by: float
    unit: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Acting:
    """Written before a step that is no kernel message: a process, a file, a manager."""

    step: Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """The change is there and proved, and is taken back at `confirm_by` (CLOCK_BOOTTIME; `wall` since the epoch).

    Whoever confirms it makes the bridge `save` permanent as well.
    """

    command: str
    confirm_by: float
    wall: float
    save: IfName | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Undoing:
    """Somebody takes the change back: PID and reason."""

    pid: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The last record: `confirmed`, `done`, `rolled-back` or `stuck`; `told` is what is not as before although nothing
    is `left`."""

    outcome: str
    reason: str = ""
    left: tuple[str, ...] = ()
    told: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesBegan:
    """What a transaction keeps where it outlives the boot: files that are not below /run, as they were."""

    id: str
    boot_id: str
    files: tuple[File, ...]


Record = Began | Armed | Acting | Applied | Undoing | Ended | FilesBegan
RECORDS = (Began, Armed, Acting, Applied, Undoing, Ended, FilesBegan)


def _nouns() -> dict[str, type]:
    modules = (state, step, plan, intent, permanent, verdict, values)
    found = {
        name: noun
        for module in modules
        for name, noun in vars(module).items()
        if isinstance(noun, type) and (hasattr(noun, "__dataclass_fields__") or issubclass(noun, Enum))
    }
    return found | {noun.__name__: noun for noun in RECORDS}


_NOUNS = _nouns()


def encode_noun(noun: Any) -> Any:
    """A noun as what `json.dumps` takes. Raises TypeError for what is no noun."""
    kind = type(noun)
    if kind in _PLAIN:
        return noun
    if isinstance(noun, tuple):
        return [item if type(item) in _PLAIN else encode_noun(item) for item in noun]
    if isinstance(noun, Enum):
        return {"_": kind.__name__, "value": noun.value}
    if not hasattr(kind, "__dataclass_fields__"):
        raise TypeError(f"{kind.__name__} is no noun of the model")
    encoded = {"_": kind.__name__}
    for name in kind.__dataclass_fields__:
        value = getattr(noun, name)
        encoded[name] = value if type(value) in _PLAIN else encode_noun(value)  # most are: a call for each would cost
    return encoded


def decode_noun(encoded: Any) -> Any:
    """The inverse of `encode_noun`. Raises ValueError for what it did not write."""
    if isinstance(encoded, list):
        return tuple(decode_noun(item) for item in encoded)
    if not isinstance(encoded, dict):
        return encoded
    noun = _NOUNS.get(encoded.get("_", ""))
    if noun is None:
        raise ValueError(f"a record speaks of {encoded.get('_')!r}, which this version does not know")
    fields = {name: decode_noun(value) for name, value in encoded.items() if name != "_"}
    try:
        return noun(fields["value"]) if issubclass(noun, Enum) else noun(**fields)
    except (TypeError, KeyError) as error:
        raise ValueError(f"a record of {noun.__name__} does not have the fields of this version: {error}") from None


def dump(noun: Any) -> str:
    """A noun as one line of JSON."""
    import json

    return json.dumps(encode_noun(noun), separators=(",", ":"))


def load(text: str) -> Any:
    """The inverse of `dump`. Raises ValueError."""
    import json

    return decode_noun(json.loads(text))


def dump_line(record: Record, transaction: str) -> bytes:
    """A record as a line of a journal: schema, transaction, and a checksum (CRC-32 of the record's text)."""
    text = dump(record)
    return f'{{"schema":{SCHEMA},"id":"{transaction}","sum":"{_checksum(text)}","record":{text}}}\n'.encode()


def read_line(line: bytes) -> tuple[str, str]:
    """The transaction and the text of a record, for `load`. Raises ValueError for what was not written whole."""
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError("this is no record of a journal, or one that was cut short")
    schema, transaction, checksum, text = (group.decode() for group in match.groups())
    if int(schema) != SCHEMA:
        raise ValueError(f"a record has the schema {schema}, this version of tapbridge knows {SCHEMA}")
    if checksum != _checksum(text):
        raise ValueError("a record does not have the checksum that it was written with")
    return transaction, text


def _checksum(text: str) -> str:
    import zlib

    return f"{zlib.crc32(text.encode()):08x}"
