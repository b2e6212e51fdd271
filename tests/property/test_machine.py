"""Verbs, faults, crashes, a clock and somebody else, in any order, on the model of the kernel (kit/machine.py)."""

from __future__ import annotations

from hypothesis import settings
from hypothesis.stateful import initialize

from kit.machine import Machine
from kit.worlds import hosts
from tapbridge.model.noun import replace
from tapbridge.model.state import State
from tapbridge.modelhost.host import ModelHost


class ModelMachine(Machine):
    """The machine over a random host in memory."""

    @initialize(state=hosts())
    def start(self, state: State) -> None:
        """Its clients are the owners' matter."""
        self.begin(ModelHost(replace(state, clients=())))


TestModelMachine = ModelMachine.TestCase
TestModelMachine.settings = settings(max_examples=300, stateful_step_count=12, deadline=None)
