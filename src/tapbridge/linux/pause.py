"""A process that stands still for a moment, by SIGSTOP, and goes on."""

from __future__ import annotations

import os
import signal
import time

from tapbridge.linux import dhcpcd_processes, processes
from tapbridge.linux.clients import end_halted
from tapbridge.model.errors import HostError
from tapbridge.model.state import Client


def pause_client(client: Client, limit_s: float = 1.0) -> None:
    """Stop the very process that was observed, and wait until it stands still. Raises HostError."""
    held = _held(client)
    if held is None:
        raise HostError(f"{client.program} (PID {client.pid}) is not there any more", hint="run the command again")
    try:
        signal.pidfd_send_signal(held, signal.SIGSTOP)
        deadline = time.monotonic() + limit_s
        while processes.state(client.pid) not in ("T", "t", ""):
            if time.monotonic() > deadline:
                raise HostError(f"{client.program} (PID {client.pid}) did not stop within {limit_s:g} s")
            time.sleep(0.001)
    finally:
        os.close(held)


def resume_client(client: Client) -> None:
    """Let a process that was stopped go on. One that is gone needs nothing; a dhcpcd stands still only to be ended."""
    if client.program == dhcpcd_processes.NAME:
        end_halted(client)
        return
    held = _held(client)
    if held is not None:
        try:
            signal.pidfd_send_signal(held, signal.SIGCONT)
        except ProcessLookupError:
            pass
        finally:
            os.close(held)


def _held(client: Client) -> int | None:
    """A descriptor of the process, if it is the one that was observed."""
    held = processes.hold([client.pid], lambda pid: processes.start_time(pid) == client.started != 0)
    return held.get(client.pid)
