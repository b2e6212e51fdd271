"""Files that say who made them: whoever finds one knows whether somebody has changed it since."""

from __future__ import annotations

from typing import Final

_MARK: Final = "# Made by tapbridge "
_SUM: Final = "; sum "


def sign(text: str, maker: str) -> str:
    """The text with a line that says which command made it. A script's #! stays first."""
    first, _, rest = text.partition("\n")
    return f"{first}\n{_MARK}{maker}{_SUM}{_sum(text)}\n{rest}"


def is_as_made(text: str) -> bool:
    """Whether some version of this program made a file, and nobody has changed it since."""
    lines = text.splitlines(keepends=True)
    marks = [line for line in lines if line.startswith(_MARK) and _SUM in line]
    rest = "".join(line for line in lines if line not in marks)
    return len(marks) == 1 and marks[0].rpartition(_SUM)[2].strip() == _sum(rest)


def is_made_by(text: str, maker: str) -> bool:
    """Whether a command made a file, whoever has changed it since."""
    return any(line.startswith(f"{_MARK}{maker}{_SUM}") for line in text.splitlines())


def _sum(text: str) -> str:
    import hashlib

    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]
