"""The machine of kit/machine.py over the real kernel, in a namespace of its own for each of its runs."""

from __future__ import annotations

import os
from contextlib import ExitStack

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize

from kit.lan import host_on_lan
from kit.machine import Machine
from tapbridge.linux.host import LinuxHost

EXAMPLES = 200 if os.environ.get("TAPBRIDGE_TEST_ALL") else 12


class KernelMachine(Machine):
    """The machine over a host on a LAN."""

    @initialize(rich=st.booleans())
    def start(self, rich: bool) -> None:
        """A plain host, or one that carries everything that a host can."""
        self.world = ExitStack()
        self.world.enter_context(host_on_lan(rich=rich))
        self.begin(self.world.enter_context(LinuxHost()))

    def teardown(self) -> None:
        """The namespaces go."""
        super().teardown()
        if hasattr(self, "world"):
            self.world.close()


TestKernelMachine = KernelMachine.TestCase
TestKernelMachine.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=8, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
