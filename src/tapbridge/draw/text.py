"""Strangers' texts made harmless, and how wide a text is on a terminal. Pure."""

from __future__ import annotations


def visible(text: str) -> str:
    """A text on one line, with nothing in it that a terminal would act upon: the rest becomes `\\x1b`, `\\u202e`.

    Half a surrogate pair is how a byte that is no UTF-8 travels through Python; it becomes that byte's number.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if char.isprintable() else _number(char) for char in text)


def word(text: str) -> str:
    """The same without blanks, for columns that a program takes apart; `-` for nothing."""
    return visible(text).replace(" ", "\\x20") or "-"


def _number(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def width(text: str) -> int:
    """How many columns of a terminal a visible text takes: two for the wide characters of East Asia, none for marks
    that stand on the character before (Unicode Standard Annex 11)."""
    if text.isascii():
        return len(text)
    import unicodedata

    columns = 0
    for char in text:
        if not unicodedata.combining(char):
            columns += 2 if unicodedata.east_asian_width(char) in "WF" else 1
    return columns


def in_place(text: str, *, above: int, rows: int) -> tuple[str, int]:
    """A text that takes the place of the `above` lines over the cursor, cut to a terminal of so many rows, and how many
    lines it has. Long lines are cut at the edge (DECAWM), or nobody could say how many lines there are (ECMA-48)."""
    lines = text.split("\n")
    if len(lines) >= rows:
        kept = max(rows - 2, 0)
        lines = [*lines[:kept], f"and {len(lines) - kept} more lines"]
    up = f"\x1b[{above}A" if above else ""
    return f"{up}\r\x1b[J\x1b[?7l" + "\n".join(lines) + "\x1b[?7h", len(lines)


def speaks_unicode(encoding: str | None) -> bool:
    """Whether lines can be drawn on a stream of that encoding."""
    try:
        "├─└│…".encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def short_size(count: int) -> str:
    """A number of bytes in at most four characters: 999, 1.2k, 34M; k is 1000."""
    if count < 1000:
        return str(count)
    value = float(count)
    for unit in "kMGTPE":
        value /= 1000
        if value < 9.95:
            return f"{value:.1f}{unit}"
        if value < 999.5:
            return f"{value:.0f}{unit}"
    return f"{value:.0f}E"


def short_time(seconds: float) -> str:
    """A span of time, to the unit that matters."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
