"""What a noun has from its base is what `dataclass` would have written."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from dataclasses import dataclass, field

import pytest

import tapbridge.model
from tapbridge.model.noun import Noun
from tapbridge.model.step import SetUp
from tapbridge.model.values import IfName

NAMES = [found.name for found in pkgutil.iter_modules(tapbridge.model.__path__, "tapbridge.model.")]
FOUND = [noun for name in NAMES for noun in vars(importlib.import_module(name)).values()]
NOUNS = sorted({noun for noun in FOUND if dataclasses.is_dataclass(noun)}, key=lambda noun: noun.__name__)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Ours(Noun):
    one: int
    two: tuple[str, ...] = ()
    beside: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Theirs:
    one: int
    two: tuple[str, ...] = ()
    beside: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Empty(Noun):
    pass


VALUES = [{"one": one, "two": two, "beside": beside} for one in (0, 1) for two in ((), ("a",)) for beside in (0, 1)]


@pytest.mark.parametrize("first", VALUES)
@pytest.mark.parametrize("second", VALUES)
def test_it_is_equal_where_a_dataclass_is(first: dict[str, object], second: dict[str, object]) -> None:
    assert (Ours(**first) == Ours(**second)) == (Theirs(**first) == Theirs(**second))  # type: ignore[arg-type]
    assert (hash(Ours(**first)) == hash(Ours(**second))) == (hash(Theirs(**first)) == hash(Theirs(**second)))  # type: ignore[arg-type]


def test_nothing_else_is_equal_to_it() -> None:
    assert Ours(one=0) != Theirs(one=0)
    assert Empty() == Empty()
    assert hash(Empty()) == hash(Empty())
    assert SetUp(link=IfName("eth0"), up=True) != SetUp(link=IfName("eth0"), up=False)


def test_it_is_shown_as_a_dataclass_is() -> None:
    assert repr(Ours(one=1, two=("a",))) == repr(Theirs(one=1, two=("a",))).replace("Theirs", "Ours")


@pytest.mark.parametrize("noun", NOUNS, ids=lambda noun: noun.__name__)
def test_every_dataclass_of_the_model_is_one(noun: type) -> None:
    assert issubclass(noun, Noun)
    assert not {"__eq__", "__hash__", "__repr__"} & vars(noun).keys()
    assert vars(noun)["__dataclass_params__"].frozen
