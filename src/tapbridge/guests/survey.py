"""The whole question at once: who are the guests of this network namespace, and what are their addresses?"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tapbridge.guests import findings
from tapbridge.guests.cmdline import Launch, parse_launch
from tapbridge.guests.consult import consult, said_by_agents
from tapbridge.guests.counters import parse_counters
from tapbridge.guests.join import Holder, join, place
from tapbridge.guests.leases import find_lease_file, parse_dnsmasq, parse_libvirt
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
from tapbridge.model.guest import HYPERVISORS, Guest, Sighting
from tapbridge.model.state import State
from tapbridge.model.values import IfName
from tapbridge.model.verdict import Finding

DNSMASQ_LEASES = "/var/lib/misc/dnsmasq.leases"
LIBVIRT_LEASES = "/var/lib/libvirt/dnsmasq"
_FILE_BYTES = 1 << 20
_FILES = 256
_COUNTER_BYTES = 1 << 22
_ORDINARY_USERS = range(1000, 65534)  # UID_MIN of login.defs up to nobody


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
    leases = [sighting for sightings in _leases(census, now, unread) for sighting in sightings]
    guests = place(guests, [*heard, *said_by_agents(guests, agents), *leases, *_neighbours(state)], state)
    said = (
        *findings.duplicates(guests),
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


def _leases(census: Census, now: float, unread: list[str]) -> Iterator[tuple[Sighting, ...]]:
    """What the DHCP servers of this network namespace wrote down."""
    for path in dict.fromkeys((DNSMASQ_LEASES, *_lease_files(census))):
        text = _read_file(path, unread)
        if text:
            yield parse_dnsmasq(text, now=now)
    try:
        names = sorted(name for name in os.listdir(LIBVIRT_LEASES) if name.endswith(".status"))
    except OSError:
        return
    for name in names[:_FILES]:
        text = _read_file(f"{LIBVIRT_LEASES}/{name}", unread)
        if text:
            yield parse_libvirt(text, now=now, link=IfName(name.removesuffix(".status")))


def _lease_files(census: Census) -> Iterator[str]:
    """The files that running dnsmasqs name. Anybody can call a process so: an ordinary user's is believed by that user
    alone. A server in a mount namespace of its own, whose path means another file here, is asked through its root."""
    ours, mounts = find_namespace("net"), find_namespace("mnt")
    for pid in census.dnsmasq[:_FILES]:
        process = find_process(pid)
        if process is None or process.netns not in (ours, None) or not is_trusted(process.uid):
            continue
        path = find_lease_file(process.argv)
        if path is None:
            continue
        theirs = find_namespace("mnt", f"{PROC}/{pid}")
        yield path if theirs in (mounts, None) else f"{PROC}/{pid}/root{path}"


def is_trusted(uid: int) -> bool:
    """Whether what a user's process says of itself is believed by us. An ordinary user's is believed by that user."""
    return uid not in _ORDINARY_USERS or uid == os.geteuid()


def _read_file(path: str, unread: list[str]) -> str:
    """A regular file, without waiting for it, whatever else stands there; "" if there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except PermissionError:
        unread.append(path)
        return ""
    except OSError:
        return ""
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return ""
        return os.read(fd, _FILE_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
    finally:
        os.close(fd)
