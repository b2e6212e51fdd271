"""The whole question at once: who are the guests of this network namespace, and what are their addresses?"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from tapbridge.guests import findings
from tapbridge.guests.cmdline import Launch, parse_launch
from tapbridge.guests.consult import consult, said_by_agents
from tapbridge.guests.counters import parse_counters
from tapbridge.guests.join import Holder, join, place
from tapbridge.guests.names import find_name
from tapbridge.guests.netns import find_tap_netns
from tapbridge.guests.procfs import (
    PROC,
    Census,
    Holding,
    Process,
    find_namespace,
    find_process,
    read,
    read_cgroup,
    take_census,
)
from tapbridge.guests.servers import read_leases
from tapbridge.model.guest import HYPERVISORS, Guest, Sighting
from tapbridge.model.noun import dataclass, replace
from tapbridge.model.state import State
from tapbridge.model.values import IfName
from tapbridge.model.verdict import Finding

_COUNTER_BYTES = 1 << 22


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """The guests, and what is to be said of them or of what could not be seen."""

    guests: tuple[Guest, ...] = ()
    findings: tuple[Finding, ...] = ()


def identify(state: State) -> tuple[Guest, ...]:
    """Who holds which tap, without addresses: what /proc and the state tell."""
    holders, _ = find_holders(take_census())
    return join(state, holders, {})


def survey(state: State, *, now: float, heard: Sequence[Sighting] = (), deaf: Sequence[IfName] = ()) -> Survey:
    """Everything that can be known without waiting. The state must hold links, neighbours and forwarding entries; `now`
    is in seconds since the epoch. `heard` is what was heard on the taps, but for those that are `deaf`."""
    census = take_census()
    holders, away = find_holders(census)
    consulted, agents = consult(holders)
    counters = parse_counters(read(f"{PROC}/thread-self/net/dev", _COUNTER_BYTES))
    guests = join(state, consulted, counters)
    unread: list[str] = []
    bridges = {nic.bridge for guest in guests for nic in guest.nics}
    segments = [link for link in state.links if link.name in bridges]
    leases = [sighting for told in read_leases(census, segments, now, unread) for sighting in told]
    guests = place(guests, [*heard, *said_by_agents(guests, agents), *leases, *_neighbours(state)], state)
    parents = {link.name: link.parent for link in state.links if link.kind == "macvtap" and link.parent is not None}
    said = (
        *findings.duplicates(guests, parents),
        *findings.unguarded(guests, state),
        *findings.hidden_holders(guests, state, root=os.geteuid() == 0),
        *findings.elsewhere(away),
        *findings.unread(unread),
        *findings.unheard(deaf),
    )
    return Survey(guests=guests, findings=said)


def find_holders(census: Census) -> tuple[list[Holder], list[int]]:
    """The processes that hold taps of this network namespace, and the PIDs of hypervisors that only hold others'.

    Of hypervisors only, because every rootless container has a tap of its own, too.
    """
    ours = find_namespace("net")
    claims: dict[str | int | None, set[int]] = {}
    by_pid: dict[int, list[Holding]] = {}
    for holding in census.holdings:
        by_pid.setdefault(holding.pid, []).append(holding)
        claims.setdefault(holding.index if holding.link is None else holding.link, set()).add(holding.pid)
    holders, away = [], []
    for pid, holdings in by_pid.items():
        process = find_process(pid)
        if process is None:
            continue
        mine = []
        for holding in holdings:
            local = process.netns == ours
            # A name that two processes claim may be two taps, of which one was moved to another namespace.
            if holding.link is not None and (not local or len(claims[holding.link]) > 1):
                asked = find_tap_netns(pid, holding.fd)
                local = asked == ours if asked is not None else local
            if local:
                mine.append(holding)
        launch = read_launch(process)
        if mine:
            holders.append(Holder(process=process, launch=launch, holdings=tuple(mine)))
        elif launch.hypervisor in HYPERVISORS:
            away.append(pid)
    return holders, away


def read_launch(process: Process) -> Launch:
    """What a process's command line says of its guest, with the name that the guest's launcher gave it."""
    launch = parse_launch(process.argv, process.program)
    if launch.name is None and launch.hypervisor in HYPERVISORS:
        return replace(launch, name=find_name(launch.hypervisor, process.argv, read_cgroup(process.pid)))
    return launch


def _neighbours(state: State) -> Iterator[Sighting]:
    for entry in state.neighbours:
        if entry.mac is not None:
            yield Sighting(
                mac=entry.mac,
                family=entry.family,
                ip=entry.ip,
                source="neighbour",
                link=entry.link,
                age=entry.confirmed_s,
            )
