"""Nouns as JSON: what a journal, a record and a test recording are made of, and the records of a journal.

Every dataclass becomes an object with its class's name under "_"; tuples become lists; enumerations their value
with the name of their class. `load(dump(x)) == x` for every noun.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import Enum
from typing import Any

from tapbridge.model import intent, plan, state, step, values, verdict
from tapbridge.model.state import State
from tapbridge.model.step import Step

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Began:
    """The first record of a transaction: everything that its way back needs, before anything is touched."""

    id: str
    command: str
    boot_id: str
    netns: int
    before: State
    after: State
    touched: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Acting:
    """Written before a step that is no kernel message: a process, a file, a manager."""

    step: Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The last record: `done` or `undone`."""

    outcome: str


Record = Began | Acting | Ended


def _nouns() -> dict[str, type]:
    modules = (state, step, plan, intent, verdict, values)
    found = {
        name: noun
        for module in modules
        for name, noun in vars(module).items()
        if isinstance(noun, type) and (dataclasses.is_dataclass(noun) or issubclass(noun, Enum))
    }
    return found | {noun.__name__: noun for noun in (Began, Acting, Ended)}


_NOUNS = _nouns()


def encode_noun(noun: Any) -> Any:
    """A noun as what `json.dumps` takes. Raises TypeError for what is no noun."""
    if noun is None or type(noun) in (str, int, float, bool):
        return noun
    if isinstance(noun, tuple):
        return [encode_noun(item) for item in noun]
    if isinstance(noun, Enum):
        return {"_": type(noun).__name__, "value": noun.value}
    if dataclasses.is_dataclass(noun) and not isinstance(noun, type):
        fields = {name: encode_noun(getattr(noun, name)) for name in noun.__dataclass_fields__}
        return {"_": type(noun).__name__, **fields}
    raise TypeError(f"{type(noun).__name__} is no noun of the model")


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
