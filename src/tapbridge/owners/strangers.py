"""Managers that we know by name only: connman, wicked, netifd."""

from __future__ import annotations

from typing import Final

from tapbridge.owners.owner import Unbuilt

_HINT: Final = "tell it to leave {link} alone, or stop it"

CONNMAN: Final = Unbuilt(name="connman", programs=("connman",), does="manages", hint=_HINT)
WICKED: Final = Unbuilt(name="wicked", programs=("wicked",), does="manages", hint=_HINT)
NETIFD: Final = Unbuilt(name="netifd", programs=("netifd",), does="manages", hint=_HINT)
