"""Our dataclasses do what those of the standard library do, for as much of it as we use."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from tapbridge.model import noun


def classes(dataclass: Any, field: Any) -> tuple[Any, Any, Any, Any]:
    """One with defaults of each kind, a positional one, one without a field, and one with more than the first."""

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Some:
        one: int
        two: tuple[str, ...] = ()
        three: list[int] = field(default_factory=list, repr=False)
        beside: int = field(default=0, compare=False)

        @property
        def sum(self) -> int:
            return self.one + len(self.two)

    @dataclass(frozen=True, slots=True)
    class Plain:
        one: int
        two: str = "b"

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Empty:
        pass

    @dataclass(frozen=True, slots=True, kw_only=True)
    class More(Some):
        more: int = 0

    return Some, Plain, Empty, More


OURS = classes(noun.dataclass, noun.field)
THEIRS = classes(dataclasses.dataclass, dataclasses.field)
SOME, PLAIN, EMPTY, MORE = range(4)
VALUES: list[dict[str, Any]] = [
    {"one": one, "two": two, "three": three, "beside": beside}
    for one in (0, 1)
    for two in ((), ("a",))
    for three in ([], [1])
    for beside in (0, 1)
]


def outcome(act: Callable[[], object]) -> str:
    """What it gives, or the error's kind and words."""
    try:
        return repr(act())
    except Exception as error:  # noqa: BLE001
        return f"{type(error).__name__}: {error}"


@pytest.mark.parametrize("first", VALUES)
def test_they_are_equal_where_the_library_s_are(first: dict[str, Any]) -> None:
    for second in VALUES:
        assert (OURS[SOME](**first) == OURS[SOME](**second)) == (THEIRS[SOME](**first) == THEIRS[SOME](**second))


def test_they_are_hashed_by_what_they_are_compared_by() -> None:
    made = [OURS[PLAIN](1), OURS[PLAIN](one=1, two="b"), OURS[PLAIN](2), OURS[EMPTY](), OURS[EMPTY]()]
    assert len(set(made)) == 3
    assert OURS[PLAIN](1) != THEIRS[PLAIN](1)
    assert outcome(lambda: hash(OURS[SOME](one=1))) == outcome(lambda: hash(THEIRS[SOME](one=1)))


ACTS: list[Callable[[tuple[Any, ...], Any], object]] = [
    lambda kinds, _: kinds[SOME](one=1, two=("a",), beside=7),
    lambda kinds, _: kinds[SOME](one=1).three,
    lambda kinds, _: kinds[SOME](one=1, two=("a",)).sum,
    lambda kinds, _: kinds[SOME](one=1).three is kinds[SOME](one=1).three,
    lambda kinds, _: kinds[SOME](1),
    lambda kinds, _: kinds[SOME](),
    lambda kinds, _: kinds[SOME](one=1, four=4),
    lambda kinds, _: kinds[PLAIN](1),
    lambda kinds, _: kinds[PLAIN](1, "c"),
    lambda kinds, _: kinds[PLAIN](1, one=2),
    lambda kinds, _: kinds[PLAIN](),
    lambda kinds, _: kinds[EMPTY](),
    lambda kinds, _: kinds[EMPTY](1),
    lambda kinds, _: (kinds[SOME](one=1), kinds[MORE](one=1, more=2)),
    lambda kinds, _: kinds[MORE](one=1) == kinds[SOME](one=1),
    lambda kinds, of: of.replace(kinds[MORE](one=1, more=2), one=3),
    lambda kinds, _: setattr(kinds[PLAIN](1), "one", 2),
    lambda kinds, _: delattr(kinds[PLAIN](1), "one"),
    lambda kinds, _: hasattr(kinds[PLAIN](1), "__dict__"),
    lambda kinds, of: of.replace(kinds[SOME](one=1, two=("a",)), one=2),
    lambda kinds, of: of.replace(kinds[SOME](one=1), four=2),
    lambda kinds, of: [(field.name, field.compare, field.repr) for field in of.fields(kinds[SOME])],
    lambda kinds, of: [field.name for field in of.fields(kinds[PLAIN](1))],
]


@pytest.mark.parametrize("act", ACTS)
def test_they_do_what_the_library_s_do(act: Callable[[tuple[Any, ...], Any], object]) -> None:
    assert outcome(lambda: act(OURS, noun)) == outcome(lambda: act(THEIRS, dataclasses))


def test_a_class_that_can_be_changed_is_not_made() -> None:
    with pytest.raises(TypeError, match="frozen"):
        noun.dataclass(frozen=False, slots=True)


def test_nothing_is_added_to_an_object() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError, match="'three'"):
        OURS[PLAIN](1).three = 3
