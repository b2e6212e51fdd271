"""The units of network managers: one is up when it holds its links, not when it runs."""

from __future__ import annotations

import time
from typing import Final

from tapbridge.linux import systemd
from tapbridge.linux.programs import ask
from tapbridge.model.errors import HostError
from tapbridge.model.state import Client
from tapbridge.model.step import StartUnit

_PAUSE_S: Final = 0.05
_HELD: Final = "connected"  # `connected (externally)`: it looks on, and renews nothing


def start_unit(step: StartUnit) -> None:
    """Start the unit of a manager, and wait until it holds each of the links by its profile. Raises HostError."""
    systemd.start(step.unit, step.limit_s)
    deadline = time.monotonic() + step.limit_s
    held = [client for client in step.clients if client.profile]
    while held:
        # one that is busy with its start answers late, and has the whole time for it
        told = ask("nmcli", "-t", "-f", "DEVICE,STATE,CON-UUID", "device", limit_s=deadline - time.monotonic())
        missing = [sentence for client in held if (sentence := _missing(client, told))]
        if not missing:
            return
        time.sleep(_PAUSE_S)
        if time.monotonic() > deadline:
            raise HostError(
                f"{missing[0]} {step.limit_s:g} s after its start", hint=f"see: journalctl -b -u {step.unit}"
            )


def _missing(client: Client, told: str) -> str:
    """What is not so yet, for a reader; "" where NetworkManager tells that it holds the link."""
    for line in told.splitlines():
        link, _, rest = line.partition(":")
        if link == client.link:
            state, _, profile = rest.partition(":")
            if (state, profile) == (_HELD, client.profile):
                return ""
            return f"{client.program} does not hold {link} by the profile {client.profile}: it is {state!r}"
    return f"{client.program} does not know {client.link}"
