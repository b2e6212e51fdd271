"""How much went over each link, from /proc/net/dev. Pure."""

from __future__ import annotations


def parse_counters(text: bytes) -> dict[str, tuple[int, int]]:
    """Bytes received and sent by name of link, as the host counts them. Lines that are no link are passed over.

    The format is dev_seq_printf_stats() of net/core/net-procfs.c: `NAME:` and sixteen numbers, the first bytes
    received, the ninth bytes sent. A link's name has no ':' and no white space in it.
    """
    counters = {}
    for line in text.split(b"\n"):
        name, colon, rest = line.partition(b":")
        numbers = rest.split()
        if colon and len(numbers) >= 16 and numbers[0].isdigit() and numbers[8].isdigit():
            counters[name.strip().decode("utf-8", "surrogateescape")] = int(numbers[0]), int(numbers[8])
    return counters
