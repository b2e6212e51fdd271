"""The tree of errors and the exit codes. Every error that a user can meet is one of these.

An error's text is one sentence: what is wrong and where. Its hint says what to do.
"""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """The exit codes of every command; docs/exit-codes.md explains them."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3
    STUCK = 4
    FORBIDDEN = 5


class TapbridgeError(Exception):
    """The root of the tree. `code` is kebab-case and names the finding that the error becomes."""

    exit = Exit.FAILED

    def __init__(self, message: str, *, hint: str | None = None, code: str = "failed", subject: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code
        self.subject = subject


class UsageError(TapbridgeError):
    """The command line does not make sense."""

    exit = Exit.USAGE


class Refused(TapbridgeError):
    """Nothing was touched, because the request cannot or should not be carried out on this host."""

    exit = Exit.REFUSED


class InvalidName(Refused):
    """A link's name that cannot be."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(
            f"the name {name!r} {why}",
            hint="a link's name has 1 to 15 bytes out of a-z, 0-9, '.', '_' and '-', for example br0",
            code="invalid-name",
            subject=name,
        )


class Forbidden(TapbridgeError):
    """The user lacks the right."""

    exit = Exit.FORBIDDEN


class Stuck(TapbridgeError):
    """Neither before nor after: what is left is in the message, and the journal is kept."""

    exit = Exit.STUCK


class HostError(TapbridgeError):
    """The outside refused an act. `index` is the place of the step in the sequence that was performed."""

    def __init__(self, message: str, *, index: int = 0, errno: int = 0, hint: str | None = None) -> None:
        super().__init__(message, hint=hint, code="host-error")
        self.index = index
        self.errno = errno
