"""What outlives a reboot: the taps that are to come back, as the text of a file. Pure.

`{"schema": 1, "taps": {NETWORK: [what was asked for, …]}}`; a network is "" for the machine's own, else its name in
/run/netns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from tapbridge.model.errors import HostError
from tapbridge.model.intent import MakeTap
from tapbridge.model.journal import decode_noun, encode_noun

FILE: Final = "taps"


def load_saved(text: str | None, network: str) -> tuple[MakeTap, ...]:
    """The taps that were written down for a network. Raises HostError if the text is not what we write."""
    return () if text is None else _networks(text).get(network, ())


def dump_saved(text: str | None, network: str, taps: Sequence[MakeTap]) -> str:
    """The text with these taps for a network, whatever it had."""
    import json

    networks = {} if text is None else _networks(text)
    networks[network] = tuple(sorted(taps, key=lambda tap: tap.name))
    encoded = {name: encode_noun(found) for name, found in networks.items() if found}
    return json.dumps({"schema": 1, "taps": encoded}, indent=1, sort_keys=True) + "\n"


def _networks(text: str) -> dict[str, tuple[MakeTap, ...]]:
    import json

    try:
        found: dict[str, Any] = {name: decode_noun(taps) for name, taps in json.loads(text)["taps"].items()}
        if all(isinstance(tap, MakeTap) for taps in found.values() for tap in taps):
            return found
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise HostError(
        f"the file {FILE}, in which the taps that come back are written down, is damaged",
        hint=f"remove var/lib/tapbridge/{FILE}, and save the taps again: tapbridge tap add NAME --persist",
    )
