"""Which cards are wireless. Rtnetlink does not say."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress

from tapbridge.model.state import Link

_WEXT = "/proc/thread-self/net/wireless"
_CARDS = "/sys/class/net"


def find_wireless(cards: Iterable[Link], *, wext: str = _WEXT, folder: str = _CARDS) -> frozenset[str]:
    """The names of those cards that are wireless.

    /proc/net/wireless has every wireless link of our network namespace, but is not in every kernel (WEXT_PROC);
    /sys/class/net is in every kernel, but shows the network namespace of whoever mounted it, so an entry counts only
    with the number and the address of our card.
    """
    found: set[str] = set()
    with suppress(OSError), open(wext, encoding="utf-8", errors="surrogateescape") as table:
        found = {line.rpartition(":")[0].strip() for line in list(table)[2:]}
    return frozenset(card.name for card in cards if card.name in found or _has_radio(card, f"{folder}/{card.name}"))


def _has_radio(card: Link, entry: str) -> bool:
    if not os.path.exists(f"{entry}/phy80211") and not os.path.exists(f"{entry}/wireless"):
        return False
    try:
        with open(f"{entry}/ifindex", encoding="ascii") as index, open(f"{entry}/address", encoding="ascii") as mac:
            return int(index.read()) == card.index and mac.read().strip() == card.mac
    except (OSError, ValueError):
        return False
