"""A Host that is a State and nothing else: what `effect` says happens, happens."""

from __future__ import annotations

import errno
from collections.abc import Sequence

from tapbridge.core.compare import kernel_part
from tapbridge.core.effect import effect
from tapbridge.model.errors import HostError
from tapbridge.model.noun import replace
from tapbridge.model.state import File, Scope, State
from tapbridge.model.step import (
    AddRoute,
    AddTap,
    Await,
    AwaitLocal,
    LimitRate,
    PutAddress,
    PutNeighbour,
    PutPortAddress,
    PutRoute,
    RenameLink,
    SetAddressGeneration,
    SetAlias,
    SetFilter,
    SetFourAddress,
    SetMac,
    SetMaster,
    SetMtu,
    SetSysctl,
    SetUp,
    Shield,
    Step,
    WriteFile,
)


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
        small = State(scope=scope, kernel=self.state.kernel, links=self.state.links, addresses=self.state.addresses)
        if scope is Scope.LINKS:
            return small
        return replace(small, neighbours=self.state.neighbours, forwarding=self.state.forwarding)

    def perform(self, steps: Sequence[Step]) -> None:
        """Carry the steps out. Raises HostError at `fail_at`, and for an Await that would never end."""
        for index, step in enumerate(steps):
            if self._performed == self._fail_at:
                self._performed += 1
                raise HostError("the model was told to fail here", index=index, errno=5)
            self._performed += 1
            self._require_links(step, index)
            self.state = effect(step, self.state)
            if isinstance(step, WriteFile):
                uid, gid = step.owner or (0, 0)
                file = File(path=step.path, content=step.content, mode=step.mode, uid=uid, gid=gid)
                self.files[step.path] = file
            if isinstance(step, Await):
                link = self.state.link(step.link)
                if link is None or link.operstate != "up":
                    raise HostError(f"{step.link} did not come up within {step.limit_s} s", index=index, errno=110)

    def _require_links(self, step: Step, index: int) -> None:
        """As the kernel does: what is to be made or changed on a link that is not there fails."""
        names = {link.name for link in self.state.links}
        if isinstance(step, RenameLink) and step.link not in names and step.to in names:
            return  # done already
        for name in _links_of(step):
            if name not in names:
                raise HostError(f"there is no link '{name}'", index=index, errno=errno.ENODEV)

    def read_files(self, paths: Sequence[str]) -> tuple[File, ...]:
        """These files; what was never written is not there."""
        return tuple(self.files.get(path, File(path=path)) for path in paths)


def _links_of(step: Step) -> tuple[str, ...]:
    """The links that must be there for a step."""
    match step:
        case AddTap(master=master):
            return () if master is None else (master,)
        case SetMaster():
            return (step.link, *([step.master] if step.master is not None else []))
        case Shield():
            return (step.link, step.to)
        case (
            SetUp()
            | SetMtu()
            | SetMac()
            | SetAlias()
            | SetAddressGeneration()
            | RenameLink()
            | LimitRate()
            | SetFilter()
            | SetFourAddress()
            | PutPortAddress()
            | Await()
            | AwaitLocal()
        ):
            return (step.link,)
        case PutAddress():
            return (step.address.link,)
        case PutNeighbour():
            return (step.neighbour.link,)
        case PutRoute() | AddRoute():
            return tuple(hop.link for hop in step.route.nexthops if hop.link is not None)
        case SetSysctl():
            return (step.sysctl.link,) if step.sysctl.link not in ("all", "default") else ()
    return ()
