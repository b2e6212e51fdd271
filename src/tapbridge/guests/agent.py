"""What a guest's own agent says (QEMU guest agent): its addresses and its name. Pure.

It is the guest's word, as what is heard on its tap is. A late answer to somebody else's question may stand before
ours, so only what comes behind the number that we gave to `guest-sync` is an answer to us.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tapbridge.guests.cmdline import find_mac
from tapbridge.guests.frames import find_hostname
from tapbridge.model.guest import Sighting
from tapbridge.model.values import parse_ip

ADDRESSES = 64
_CARDS = 256


def question(number: int) -> bytes:
    """What to ask."""
    sync = f'{{"execute": "guest-sync", "arguments": {{"id": {number}}}}}\n'
    return (sync + '{"execute": "guest-network-get-interfaces"}\n{"execute": "guest-get-host-name"}\n').encode()


def read_agent(answers: Sequence[dict[str, Any]], number: int) -> tuple[Sighting, ...]:
    """The addresses of a guest's cards, as it says them now."""
    told = [answer.get("return") for answer in answers]
    if number not in told:
        return ()
    cards, name = [*told[told.index(number) + 1 :], None, None][:2]
    called = name.get("host-name") if isinstance(name, dict) else None
    hostname = find_hostname(called) if isinstance(called, str) else None
    found = []
    for card in cards[:_CARDS] if isinstance(cards, list) else ():
        if isinstance(card, dict):
            found += list(_addresses(card, hostname))
    return tuple(found)


def _addresses(card: dict[str, Any], hostname: str | None) -> Iterator[Sighting]:
    called, addresses = card.get("hardware-address"), card.get("ip-addresses")
    mac = find_mac(called) if isinstance(called, str) else None
    for entry in addresses[:ADDRESSES] if mac is not None and isinstance(addresses, list) else ():
        ip, prefix = (entry.get("ip-address"), entry.get("prefix")) if isinstance(entry, dict) else (None, None)
        try:
            family, canonical = parse_ip(ip) if isinstance(ip, str) else (4, "")
        except ValueError:
            continue
        if canonical and mac is not None:
            yield Sighting(
                mac=mac,
                family=family,
                ip=canonical,
                source="agent",
                age=0.0,
                prefix=prefix if isinstance(prefix, int) and 0 <= prefix <= 128 else None,
                hostname=hostname,
            )
