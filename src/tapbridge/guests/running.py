"""The QEMUs that run and can be named, those without a tap as well."""

from __future__ import annotations

import os
from collections.abc import Mapping

from tapbridge.core.mark import read_loan_mark
from tapbridge.core.topology import find_guest_name
from tapbridge.guests.join import match_netdevs
from tapbridge.guests.procfs import PROC, Process, find_namespace, find_process, take_census
from tapbridge.guests.servers import is_trusted
from tapbridge.guests.survey import find_holders, read_launch
from tapbridge.model.errors import Refused
from tapbridge.model.noun import dataclass, field
from tapbridge.model.state import Link, State


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A QEMU that runs, by the name that `ps` shows; the taps of this network namespace that it has open; and those of
    them that its command line names, by the id of their netdev. `believed`: no ordinary user has given it that name.
    """

    name: str
    believed: bool
    process: Process
    held: tuple[Link, ...] = ()
    named: Mapping[str, Link] = field(default_factory=dict)


def find_running(guest: str, state: State) -> Running:
    """The guest of that name, or of that PID, in this network namespace. Raises Refused if it is none, or several.

    Anybody can call a process of his own as another guest is called, so that is not enough to be given a tap by root.
    """
    everybody = _running(state)
    by_pid = [one for one in everybody if guest == str(one.process.pid)]
    found = by_pid or [one for one in everybody if guest == one.name]
    believed = by_pid or [one for one in found if one.believed]
    if len(believed) == 1:
        return believed[0]
    if len(found) == 1:
        raise Refused(
            f"the guest {guest!r} is one of user {found[0].process.uid}, who has called it so",
            hint=f"if it is the one that you mean, say its PID: {found[0].process.pid}",
            code="guest-of-another",
            subject=guest,
        )
    if not found:
        names = ", ".join(sorted({one.name for one in everybody})[:8])
        raise Refused(
            f"no QEMU is running for a guest {guest!r}" + (f"; running are {names}" if names else ""),
            hint="tapbridge ps shows who has which tap",
            code="no-such-guest",
            subject=guest,
        )
    who = ", ".join(f"PID {one.process.pid} of user {one.process.uid}" for one in found[:8])
    raise Refused(
        f"several guests are called {guest!r}: {who}",
        hint=f"say which by its PID: {found[0].process.pid}",
        code="several-guests",
        subject=guest,
    )


def _running(state: State) -> list[Running]:
    holders, _ = find_holders(take_census())
    found = []
    for holder in holders:
        if holder.launch.hypervisor != "qemu":
            continue
        open_links = {holding.link for holding in holder.holdings}
        held = tuple(link for link in state.links if link.name in open_links)
        given = next((name for name in map(find_guest_name, held) if name is not None), None)
        marked = any(find_guest_name(link) is not None and read_loan_mark(link) is None for link in held)
        netdevs = match_netdevs(holder, held)
        found.append(
            Running(
                name=given or holder.launch.name or holder.process.program,
                believed=marked or is_trusted(holder.process.uid),
                process=holder.process,
                held=held,
                named={netdevs[link.name].id or "": link for link in held if link.name in netdevs},
            )
        )
    known = {one.process.pid for one in found}
    ours = find_namespace("net")
    for pid in os.listdir(PROC):
        process = find_process(int(pid)) if pid.isdigit() and int(pid) not in known else None
        if process is None or not process.argv or process.netns not in (ours, None):  # a dead one has no words
            continue
        launch = read_launch(process)
        if launch.hypervisor == "qemu":
            name, believed = launch.name or process.program, is_trusted(process.uid)
            found.append(Running(name=name, believed=believed, process=process))
    return found
