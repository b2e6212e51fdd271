"""What all nouns of the model have in common: they are equal, hashed and shown by their fields.

`dataclass` would write these methods anew for each class, whenever the program starts (docs/why.md, "Dataclasses").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from operator import attrgetter
from typing import Any


class Noun:
    """The base of a frozen dataclass that has `eq=False, repr=False`."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        kind = self.__class__
        if other.__class__ is not kind:
            return NotImplemented
        values = _VALUES.get(kind) or _values(kind)
        return bool(values(self) == values(other))

    def __hash__(self) -> int:
        kind = self.__class__
        return hash((_VALUES.get(kind) or _values(kind))(self))

    def __repr__(self) -> str:
        kind: Any = self.__class__
        return f"{kind.__name__}({', '.join(f'{field.name}={getattr(self, field.name)!r}' for field in fields(kind))})"


_VALUES: dict[type, Callable[[Any], Any]] = {}


def _values(kind: Any) -> Callable[[Any], Any]:
    names = [field.name for field in fields(kind) if field.compare]
    return _VALUES.setdefault(kind, attrgetter(*names) if names else lambda _: ())
