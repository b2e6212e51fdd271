"""A Host that is a State and nothing else: what `effect` says happens, happens."""

from __future__ import annotations

from collections.abc import Sequence

from tapbridge.core.compare import kernel_part
from tapbridge.core.effect import effect
from tapbridge.model.errors import HostError
from tapbridge.model.state import File, Scope, State
from tapbridge.model.step import Await, Step, WriteFile


class ModelHost:
    """A host in memory. `fail_at` makes the step of that number, counted over its life, fail, to test the way back."""

    def __init__(self, state: State, *, fail_at: int | None = None) -> None:
        self.state = state.sorted()
        self.files: dict[str, File] = {}
        self._performed = 0
        self._fail_at = fail_at

    def observe(self, scope: Scope = Scope.HOST) -> State:
        """The state, or as much of it as the scope says."""
        if scope is Scope.HOST:
            return self.state
        if scope is Scope.KERNEL:
            return kernel_part(self.state)
        return State(scope=scope, kernel=self.state.kernel, links=self.state.links, addresses=self.state.addresses)

    def perform(self, steps: Sequence[Step]) -> None:
        """Carry the steps out. Raises HostError at `fail_at`, and for an Await that would never end."""
        for index, step in enumerate(steps):
            if self._performed == self._fail_at:
                self._performed += 1
                raise HostError("the model was told to fail here", index=index, errno=5)
            self._performed += 1
            self.state = effect(step, self.state)
            if isinstance(step, WriteFile):
                uid, gid = step.owner or (0, 0)
                file = File(path=step.path, content=step.content, mode=step.mode, uid=uid, gid=gid)
                self.files[step.path] = file
            if isinstance(step, Await):
                link = self.state.link(step.link)
                if link is None or link.operstate != "up":
                    raise HostError(f"{step.link} did not come up within {step.limit_s} s", index=index, errno=110)

    def read_files(self, paths: Sequence[str]) -> tuple[File, ...]:
        """These files; what was never written is not there."""
        return tuple(self.files.get(path, File(path=path)) for path in paths)
