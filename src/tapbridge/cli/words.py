"""How argparse reads the words of options that several commands have."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from tapbridge.model.errors import InvalidName


def typed(read: Callable[[str], object]) -> Callable[[str], object]:
    """A type of argparse. Argparse shows the words of no error but an ArgumentTypeError."""

    def typed(text: str) -> object:
        try:
            return read(text)
        except (ValueError, InvalidName) as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return typed


def number_in(allowed: range, what: str) -> Callable[[str], int]:
    """Reads a number of a range; `what` says of what."""

    def read(text: str) -> int:
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 8 else -1
        if number not in allowed:
            raise ValueError(f"{text!r} is not {what} between {allowed[0]} and {allowed[-1]}")
        return number

    return read
