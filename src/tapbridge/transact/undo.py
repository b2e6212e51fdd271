"""The way back of a change, whoever takes it: the command itself, a guard, `rollback`, `recover`.

A manager that the change has to do with is stopped first of all, in limited time, and a client that the change has
started is ended if it acts on what is done to its link. Then comes the kernel's part, by netlink alone: when it is done
the host is reachable as before, and it alone answers for a deadline. Then the owner's: files, DNS, clients; it may take
seconds and may fail. Errors are collected, not obeyed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress

from tapbridge.core.compare import differences, kernel_part
from tapbridge.core.merge import merge
from tapbridge.core.restore import find_spare, restore
from tapbridge.core.restore_owner import restore_owner, stopped_units
from tapbridge.model.errors import HostError, Stuck
from tapbridge.model.journal import Acting, Began, Ended, Undoing, load
from tapbridge.model.noun import dataclass, replace
from tapbridge.model.plan import Plan
from tapbridge.model.state import Client, File, Scope
from tapbridge.model.step import (
    AwaitClient,
    PauseClient,
    ReloadClient,
    ResumeClient,
    StartClient,
    Step,
    StopClient,
    WriteFile,
)
from tapbridge.ports import Host
from tapbridge.transact.batches import batches
from tapbridge.transact.journal import Journal

_ROUNDS = 3
"""How often it is tried: a client that was ended late may have meddled with the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Undone:
    """How an undo ended: what is `left`, empty for nothing, and what is to be `told` although nothing is. `finished`:
    there was no way back, and the change was finished instead."""

    left: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    finished: bool = False

    @property
    def outcome(self) -> str:
        """What became of the change, as its last record says it."""
        return "stuck" if self.left else "done" if self.finished else "rolled-back"


def mend(began: Began, host: Host, journal: Journal) -> tuple[str, Undone]:
    """Bring a change that was cut off to one of its ends, and its journal with it: `finished` or `taken back`.

    It is finished if all of it is there and nobody asked for a confirmation, else taken back.
    """
    if not began.guarded and _is_whole(began, host):
        journal.end(Ended(outcome="done"))
        return "finished", Undone()
    undone = take_back(began, host, journal, f"'{began.command}' was cut off")
    return "finished" if undone.finished else "taken back", undone


def _is_whole(began: Began, host: Host) -> bool:
    """Whether all of a change is there. One of files alone shows in the files, any other in the state of the host."""
    if differences(began.after, host.observe(began.after.scope), began.touched):
        return False
    if not _of_files_alone(began):
        return True
    wanted = [_as_written(file, began.steps) for file in began.files]
    return not _other_files(wanted, host)


def _of_files_alone(began: Began) -> bool:
    return all(isinstance(step, WriteFile | ReloadClient | AwaitClient) for step in began.steps)


def _other_files(wanted: Sequence[File], host: Host) -> tuple[str, ...]:
    """The files whose text is another."""
    pairs = zip(wanted, host.read_files([file.path for file in wanted]), strict=True)
    return tuple(now.path for file, now in pairs if now.content != file.content)


def take_back(began: Began, host: Host, journal: Journal, reason: str) -> Undone:
    """Make the touched links what they were, and end the journal; one with something left stays, for `recover`."""
    undone = Undone()
    for number in range(1, _ROUNDS + 1):
        undone = _one_round(began, host, journal, reason, last=number == _ROUNDS)
        if not undone.left:
            break
    journal.end(Ended(outcome=undone.outcome, reason=reason, left=undone.left, told=undone.told))
    return undone


def _one_round(began: Began, host: Host, journal: Journal, reason: str, *, last: bool) -> Undone:
    """Where the kernel's part failed the owner's waits for the next round: a client that begins while its link leads
    nowhere loses its first question, and asks again after some ten seconds."""
    errors: list[str] = []
    failed: list[str] = []
    _perform_each([(unit,) for unit in _stopped(began, journal)], host, errors)
    try:
        _resume(began, host)
        _perform_each([(end,) for end in _meddlers(began, host)], host, errors)
        now = host.observe(Scope.KERNEL)
        wanted = merge(kernel_part(began.before), kernel_part(began.after), began.steps, now, began.touched)
        _perform(restore(wanted.state, now, began.touched), host, failed)
        errors += failed
        with suppress(OSError):  # the journal's disk does not stop the way back
            journal.note(Undoing(pid=os.getpid(), reason=reason))
        return _owner_round(began, host, errors) if last or not failed else Undone(left=tuple(errors))
    except HostError as error:
        return Undone(left=(*errors, error.message))


def _resume(began: Began, host: Host) -> None:
    """A client that stands still goes on, or to its end if it was to be ended, whatever else will be possible. One that
    the change has started was to be ended by a way back before this one."""
    for step in began.steps:
        if isinstance(step, PauseClient | StopClient | StartClient):
            with suppress(HostError):
                host.perform((ResumeClient(client=step.client),))


def _meddlers(began: Began, host: Host) -> tuple[Step, ...]:
    """The ends of clients that the change has started, where they would put back what the way back takes away."""
    told = [_told(step.client) for step in began.steps if isinstance(step, StartClient) and step.client.meddles]
    if not told:
        return ()
    try:
        now = host.observe(began.before.scope)
    except HostError:  # it may be the owner's part that cannot be read
        return ()
    had = [_told(client) for client in began.before.clients]
    return tuple(StopClient(client=c) for c in now.clients if _told(c) in told and _told(c) not in had)


def _told(client: Client) -> tuple[object, ...]:
    return client.program, client.argv, client.link


def _owner_round(began: Began, host: Host, errors: list[str]) -> Undone:
    scope = began.before.scope
    now = host.observe(scope)
    wanted = merge(began.before, began.after, began.steps, now, began.touched)
    unwritten: tuple[str, ...] = ()
    if scope is Scope.HOST:
        files = host.read_files([file.path for file in began.files])
        pairs = tuple(zip(began.files, files, strict=True))
        if wanted.finished:
            pairs = tuple((_as_left(before, file, began.steps), file) for before, file in pairs)
        owner = restore_owner(wanted.state, now, began.touched, pairs, began.steps)
        if owner.steps:
            unwritten = _perform_owner(owner, host, errors)
            now = host.observe(scope)
    links = (*began.touched, *find_spare(began.before, now))
    left = (*differences(wanted.state, now, links), *unwritten)
    if _of_files_alone(began):
        left += tuple(f"{path} is not as it was" for path in _other_files(began.files, host))
    return Undone(left=(*dict.fromkeys(left), *errors) if left else (), told=wanted.told, finished=wanted.finished)


def _as_written(file: File, steps: Sequence[Step]) -> File:
    """A file as the change writes it."""
    written = [step.content for step in steps if isinstance(step, WriteFile) and step.path == file.path]
    return replace(file, content=written[-1]) if written else file


def _as_left(before: File, now: File, steps: Sequence[Step]) -> File:
    """A file as a change leaves it that is all done. One that it took away, and that is there again with something new
    in it, is of the client that was started since: its PID."""
    written = _as_written(before, steps)
    return now if written.content is None and now != before else written


def _stopped(began: Began, journal: Journal) -> tuple[Step, ...]:
    """The managers that the change has stopped or was about to: running again, they would meddle with the way back."""
    units = stopped_units(began.steps)
    if not units:
        return ()
    try:
        acts = [record.step for text in journal.read()[1][1:] if isinstance(record := load(text), Acting)]
    except (OSError, Stuck, ValueError):
        return units
    return tuple(unit for unit in units if unit in acts)


def _perform(plan: Plan, host: Host, errors: list[str]) -> None:
    _perform_each(batches(plan.stages), host, errors)


def _perform_owner(plan: Plan, host: Host, errors: list[str]) -> tuple[str, ...]:
    """Give the links back to their clients; the files that could not be put back, which no State shows. Each is tried
    again at once: in the next round its client may have it open."""
    unwritten: list[str] = []
    for steps in batches(plan.stages):
        failed: list[str] = []
        _perform_each((steps,), host, failed)
        if failed and isinstance(steps[0], WriteFile):
            failed.clear()
            _perform_each((steps,), host, failed)
            unwritten += [f"{steps[0].path} is not as it was" for _ in failed]
        errors += failed
    return tuple(unwritten)


def _perform_each(acts: Iterable[Sequence[Step]], host: Host, errors: list[str]) -> None:
    for steps in acts:
        try:
            host.perform(steps)
        except HostError as error:
            errors.append(error.message)
