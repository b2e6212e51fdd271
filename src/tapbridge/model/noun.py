"""`dataclass`, `field`, `fields` and `replace` of the standard library, for frozen dataclasses with slots.

The library writes and compiles three to six methods of each class whenever the program starts, and imports `inspect`
for it: a third of the time of most commands (docs/why.md, "Dataclasses"). Here one base compares, hashes, shows and
guards all of them by their fields, and what fills the slots of a class is compiled when its first object is made. To a
reader and to mypy they are the library's own.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any

_MISSING: Any = object()


class _Field:
    """What is known of a field: as much of dataclasses.Field as we use, under its names."""

    __slots__ = ("compare", "default", "default_factory", "kw_only", "name", "repr")

    def __init__(
        self,
        *,
        default: Any = _MISSING,
        default_factory: Any = _MISSING,
        repr: bool = True,  # noqa: A002
        compare: bool = True,
    ) -> None:
        self.name, self.kw_only = "", False
        self.default, self.default_factory, self.repr, self.compare = default, default_factory, repr, compare


def _fields(noun: Any) -> tuple[_Field, ...]:
    return tuple(noun.__dataclass_fields__.values())


def _replace(noun: Any, /, **changes: Any) -> Any:
    for name in noun.__dataclass_fields__:
        if name not in changes:
            changes[name] = getattr(noun, name)
    return noun.__class__(**changes)


class _Noun:
    """The base of them all."""

    __slots__ = ()

    def __init__(self, *values: Any, **named: Any) -> None:
        kind: Any = self.__class__
        kind.__init__ = _compile_init(kind)
        kind.__init__(self, *values, **named)

    def __setattr__(self, name: str, value: object) -> None:
        raise _frozen(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        raise _frozen(f"cannot delete field {name!r}")

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
        told = (f"{each.name}={getattr(self, each.name)!r}" for each in _fields(self) if each.repr)
        return f"{self.__class__.__qualname__}({', '.join(told)})"


_VALUES: dict[type, Callable[[Any], Any]] = {}


def _values(kind: type) -> Callable[[Any], Any]:
    names = [each.name for each in _fields(kind) if each.compare]
    return _VALUES.setdefault(kind, attrgetter(*names) if names else lambda _: ())


def _frozen(words: str) -> AttributeError:
    from dataclasses import FrozenInstanceError

    return FrozenInstanceError(words)


def _compile_init(kind: type) -> Callable[..., None]:
    """A function that takes the fields of a class as its arguments and fills the slots, as the library writes it."""
    known: dict[str, Any] = {"MISSING": _MISSING}
    arguments, body = ["self"], ["pass"]
    for each in _fields(kind):
        name = value = each.name
        known[f"set_{name}"] = getattr(kind, name).__set__
        if each.kw_only and "*" not in arguments:
            arguments.append("*")
        if each.default_factory is not _MISSING:
            known[f"make_{name}"], known[f"default_{name}"] = each.default_factory, _MISSING
            value = f"make_{name}() if {name} is MISSING else {name}"
        elif each.default is not _MISSING:
            known[f"default_{name}"] = each.default
        arguments.append(f"{name}=default_{name}" if f"default_{name}" in known else name)
        body.append(f"set_{name}(self, {value})")
    exec(f"def __init__({', '.join(arguments)}):\n " + "\n ".join(body), known)
    made: Callable[..., None] = known["__init__"]
    made.__qualname__ = f"{kind.__qualname__}.__init__"
    return made


def _dataclass(*, frozen: bool, slots: bool, kw_only: bool = False) -> Callable[[type], type]:
    if not (frozen and slots):
        raise TypeError("a class that is not frozen or has no slots is one for dataclasses.dataclass")

    def made(kind: type) -> type:
        space = {name: value for name, value in vars(kind).items() if name not in ("__dict__", "__weakref__")}
        known = dict(getattr(kind, "__dataclass_fields__", {}))
        names = tuple(space.get("__annotations__", ()))
        for name in names:
            told = space.pop(name, _MISSING)
            each = known[name] = told if isinstance(told, _Field) else _Field(default=told)
            each.name, each.kw_only = name, kw_only
        bases = (_Noun,) if kind.__bases__ == (object,) else kind.__bases__
        space.update(
            __slots__=names, __dataclass_fields__=known, __init__=_Noun.__init__, __qualname__=kind.__qualname__
        )
        return type(kind)(kind.__name__, bases, space)

    return made


if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
    from dataclasses import field as field
    from dataclasses import fields as fields
    from dataclasses import replace as replace
else:
    dataclass, field, fields, replace = _dataclass, _Field, _fields, _replace
