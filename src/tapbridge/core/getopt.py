"""Command lines as getopt_long(3) reads them: where each option's value stands, so that it can be changed in place."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence

from tapbridge.model.noun import dataclass

OPERAND = ""
"""The letter of a word that belongs to no option."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option: its letter, and where its value begins: number of the word (-1: it has none) and offset in it."""

    letter: str
    word: int = -1
    offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Grammar:
    """The options of a program. `valued` take a value, `attached` only one in the same word; `long` are names of
    options, each with its letter (any letter that is not `valued` for one without a value)."""

    valued: frozenset[str]
    attached: frozenset[str] = frozenset()
    long: Mapping[str, str]

    def options(self, argv: Sequence[str]) -> Iterator[Option]:
        """The options and operands in order, behind the program's name."""
        number = 1
        while number < len(argv):
            word = argv[number]
            if word == "--":
                yield from (Option(OPERAND, rest) for rest in range(number + 1, len(argv)))
                return
            if word.startswith("--"):
                number += yield from self._long(argv, number)
            elif word.startswith("-") and word != "-":
                number += yield from self._short(argv, number)
            else:
                yield Option(OPERAND, number)
            number += 1

    def _long(self, argv: Sequence[str], number: int) -> Generator[Option, None, int]:
        name, equals, _ = argv[number][2:].partition("=")
        letter = self.long.get(name) or next((x for long, x in self.long.items() if long.startswith(name)), "?")
        if equals:
            yield Option(letter, number, len(name) + 3)
        elif letter in self.valued and number + 1 < len(argv):
            yield Option(letter, number + 1)
            return 1
        else:
            yield Option(letter)
        return 0

    def _short(self, argv: Sequence[str], number: int) -> Generator[Option, None, int]:
        """The options of one word such as -fqi; the value of the last may be the next word, which is then one more."""
        for offset, letter in enumerate(argv[number][1:], 2):
            rest = argv[number][offset:]
            if letter in self.valued and not rest and number + 1 < len(argv):
                yield Option(letter, number + 1)
                return 1
            if rest and letter in self.valued | self.attached:
                yield Option(letter, number, offset)
                return 0
            yield Option(letter)
        return 0


def values_of(argv: Sequence[str], options: Sequence[Option]) -> dict[str, str]:
    """The value of each option that has one; of an option given twice the last counts."""
    return {option.letter: argv[option.word][option.offset :] for option in options if option.word >= 0}


def with_value(argv: Sequence[str], options: Sequence[Option], letter: str, value: str) -> tuple[str, ...]:
    """The command line with another value of an option, wherever it has one."""
    words = list(argv)
    for option in options:
        if option.letter == letter and option.word >= 0:
            words[option.word] = words[option.word][: option.offset] + value
    return tuple(words)
