"""What QEMU itself says of its guest's cards, over QMP: which tap each is on, and which MAC it has now. Pure.

`query-rx-filter` tells the MAC of each card that can filter, by the card's name alone; `info network` of the human
monitor tells all cards, and which tap is behind which.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from tapbridge.guests.cmdline import Netdev, find_mac, parse_fds

QUESTION = b"""\
{"execute": "qmp_capabilities"}
{"execute": "query-rx-filter", "id": "filter"}
{"execute": "human-monitor-command", "arguments": {"command-line": "info network"}, "id": "network"}
"""
_CARD = re.compile(r"(?P<name>[^ \\:][^:]*): index=[0-9]+,type=nic,.*macaddr=(?P<mac>[0-9a-fA-F:]{17})")
_TAP = re.compile(r" \\ [^:]*: index=[0-9]+,type=tap,(?:ifname=(?P<ifname>[^,]+)|fd=(?P<fd>[0-9]+))?.*")
_LINES = 1024


def read_cards(answers: Sequence[dict[str, Any]]) -> tuple[Netdev, ...]:
    """The cards that have a tap behind them, or by their MACs alone those that can filter."""
    told = {answer.get("id"): answer.get("return") for answer in answers if isinstance(answer.get("id"), str)}
    filters = _filters(told.get("filter"))
    network = told.get("network")
    if not isinstance(network, str):
        return tuple(Netdev(mac=mac, mac_source="qmp") for mac in map(find_mac, filters.values()) if mac is not None)
    cards: list[tuple[str, list[re.Match[str]]]] = []
    for line in network.split("\n")[:_LINES]:
        card, tap = _CARD.fullmatch(line.rstrip("\r")), _TAP.fullmatch(line.rstrip("\r"))
        if card is not None:
            cards.append((filters.get(card["name"], card["mac"]), []))
        elif tap is not None and cards:
            cards[-1][1].append(tap)  # one for each queue
    return tuple(
        Netdev(
            ifname=next((tap["ifname"] for tap in taps if tap["ifname"]), None),
            fds=tuple(fd for tap in taps for fd in parse_fds(tap["fd"] or "")),
            mac=find_mac(mac),
            mac_source="qmp",
        )
        for mac, taps in cards
        if taps and find_mac(mac) is not None
    )


def _filters(told: object) -> dict[str, str]:
    """The cards that can filter, by name, and their MACs."""
    entries = [entry for entry in told[:_LINES] if isinstance(entry, dict)] if isinstance(told, list) else []
    pairs = ((entry.get("name"), entry.get("main-mac")) for entry in entries)
    return {name: mac for name, mac in pairs if isinstance(name, str) and isinstance(mac, str)}
