"""Guards that stand by a change: whether they live, and their end."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

from tapbridge.model.journal import Armed
from tapbridge.transact.detach import drop_control_group, ended, start_time


def lives(armed: Armed) -> bool:
    """Whether the guardian process of this record is there still."""
    return armed.pid > 0 and start_time(armed.pid) == armed.started


def end_guardian(armed: Armed) -> None:
    """End a guardian whose change has ended; nothing to do where it is gone."""
    with suppress(OSError):
        guardian = os.pidfd_open(armed.pid)
        try:
            if lives(armed):
                signal.pidfd_send_signal(guardian, signal.SIGKILL)
                ended(guardian, 1000)
        finally:
            os.close(guardian)
    drop_control_group(armed.pid)
