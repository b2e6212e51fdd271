"""From what was found to who is who: links, holders, command lines and sightings become guests. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from tapbridge.core.macs import is_tap_mac, tap_mac
from tapbridge.core.mark import read_loan_mark
from tapbridge.core.topology import find_guest_name, is_tap
from tapbridge.core.vlans import find_pvid, is_in
from tapbridge.guests.cmdline import Launch, Netdev
from tapbridge.guests.procfs import Holding, Process
from tapbridge.model.guest import HYPERVISORS, Guest, GuestNic, Sighting
from tapbridge.model.hold import Hold
from tapbridge.model.noun import dataclass, replace
from tapbridge.model.state import Link, State
from tapbridge.model.values import IfName, Mac, ip_bits, is_link_local

HEARD: Final = ("dhcp", "arp", "nd", "mdns")
SOURCES: Final = (*HEARD, "agent", "lease", "neighbour")
"""Best first: what is heard on the tap, what the guest's agent says, what a server wrote, what the host remembers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A process, what its command line says, and its descriptors on taps of this network namespace."""

    process: Process
    launch: Launch
    holdings: tuple[Holding, ...]


def join(state: State, holders: Iterable[Holder], counters: Mapping[str, tuple[int, int]]) -> tuple[Guest, ...]:
    """Who holds each tap of the state, sorted by name. Taps without a holder that can be seen come last, as guests
    without a PID. `counters` are bytes received and sent by link, as the host counts them.

    Of several holders of one tap (a launcher and what it started) the hypervisor is the guest, else the youngest.
    """
    names = {link.name: link for link in state.links if link.kind == "tap"}
    numbers = {link.index: link for link in state.links if link.kind == "macvtap"}
    learnt, holds = _learnt(state), {hold.link: hold for hold in state.holds}
    owner: dict[IfName, Holder] = {}
    for holder in sorted(holders, key=_precedence):
        for holding in holder.holdings:
            link = numbers.get(holding.index or 0) if holding.link is None else names.get(IfName(holding.link))
            if link is not None:
                owner.setdefault(link.name, holder)
    links: dict[int, list[Link]] = {}
    for link in state.links:
        if link.name in owner:
            links.setdefault(owner[link.name].process.pid, []).append(link)
    by_pid = {holder.process.pid: holder for holder in owner.values()}
    guests = []
    for pid, mine in links.items():
        netdevs = match_netdevs(by_pid[pid], mine)
        nics = [_nic(link, netdevs.get(link.name), learnt.get(link.name, []), counters, holds) for link in mine]
        guests.append(_guest(by_pid[pid], mine, nics))
    lonely = [
        Guest(name=find_guest_name(link), nics=(_nic(link, None, learnt.get(link.name, []), counters, holds),))
        for link in state.links
        if is_tap(link) and link.name not in owner
    ]
    return (*sorted(guests, key=lambda guest: (guest.name or "", guest.pid or 0)), *lonely)


def match_netdevs(holder: Holder, links: Sequence[Link]) -> dict[IfName, Netdev]:
    """Which tap each NIC of a command line means: by the name, by the descriptor, and the last by elimination,
    since a helper or the kernel may have chosen it. What was plugged in since may have the number of a closed file."""
    fds: dict[str, set[int]] = {}
    for holding in holder.holdings:
        fds.setdefault(holding.link or str(holding.index), set()).add(holding.fd)
    matched: dict[IfName, Netdev] = {}
    left = list(holder.launch.netdevs)
    for link in links:
        mine = fds.get(link.name if link.kind == "tap" else str(link.index), set())
        for netdev in left:
            if (netdev.ifname == link.name or not mine.isdisjoint(netdev.fds)) and _may_be(netdev, link):
                matched[link.name] = netdev
                left.remove(netdev)
                break
    rest = [link for link in links if link.name not in matched]
    if len(rest) == len(left) == 1 and not left[0].fds and _may_be(left[0], rest[0]):
        matched[rest[0].name] = left[0]
    return matched


def _may_be(netdev: Netdev, link: Link) -> bool:
    """Whether a tap that was made for a guest's address, as `run` and `attach` do, was made for this one.

    One that udev has given an address (linux/tun.py) says nothing about that.
    """
    ours = find_guest_name(link) is not None and read_loan_mark(link) is None and is_tap_mac(link.mac)
    return not ours or netdev.mac is None or link.mac == tap_mac(netdev.mac)


def place(guests: Iterable[Guest], sightings: Iterable[Sighting], state: State) -> tuple[Guest, ...]:
    """The guests with their addresses. A sighting belongs to whoever has its MAC, on the segment where it was made;
    a NIC whose MAC is not known has the one that was heard on its tap, if it is only one."""
    by_mac: dict[Mac, list[Sighting]] = {}
    heard: dict[IfName, set[Mac]] = {}
    for sighting in sightings:
        by_mac.setdefault(sighting.mac, []).append(sighting)
        if sighting.source in HEARD and sighting.link is not None:
            heard.setdefault(sighting.link, set()).add(sighting.mac)
    segments = _Segments(state)
    return tuple(
        replace(guest, nics=tuple(_placed(nic, by_mac, heard.get(nic.link, set()), segments) for nic in guest.nics))
        for guest in guests
    )


def _placed(nic: GuestNic, by_mac: Mapping[Mac, Sequence[Sighting]], heard: set[Mac], segments: _Segments) -> GuestNic:
    if nic.mac is None and len(heard) == 1:
        nic = replace(nic, mac=next(iter(heard)), mac_source="heard")
    if nic.mac is None or nic.mac not in by_mac:
        return nic
    segment = segments.of(nic)
    found: dict[str, list[Sighting]] = {}
    for sighting in by_mac[nic.mac]:
        # What was heard on another tap, or from another agent, was said by another guest, whatever MAC it used.
        where = {nic.link} if sighting.source in (*HEARD, "agent") else segment
        if sighting.link is None or sighting.link in where:
            found.setdefault(sighting.ip, []).append(sighting)
    merged = [_merge(same) for same in found.values()]
    merged.sort(key=lambda x: (x.family, is_link_local(x.family, x.ip), ip_bits(x.family, x.ip)))
    return replace(nic, addresses=tuple(merged))


def _merge(sightings: list[Sighting]) -> Sighting:
    """One address, from the best source, completed by the others."""
    first, *others = sorted(sightings, key=lambda x: (SOURCES.index(x.source), x.age or 0.0))
    for other in others:
        first = replace(
            first,
            prefix=first.prefix if first.prefix is not None else other.prefix,
            dynamic=first.dynamic if first.dynamic is not None else other.dynamic,
            valid_lft=first.valid_lft if first.valid_lft is not None else other.valid_lft,
            hostname=first.hostname if first.hostname is not None else other.hostname,
            client_id=first.client_id if first.client_id is not None else other.client_id,
        )
    return first


class _Segments:
    """The links whose neighbours are on the same wire as a guest's NIC: its bridge or its macvtap's parent, and what
    stands on that (a VLAN of the bridge); of a bridge that tells VLANs apart, those in which the NIC's port is."""

    def __init__(self, state: State) -> None:
        self.links = {link.name: link for link in state.links}
        self.children: dict[IfName, set[IfName]] = {}
        for link in state.links:
            if link.parent is not None:
                self.children.setdefault(link.parent, set()).add(link.name)

    def of(self, nic: GuestNic) -> set[IfName]:
        port = self.links.get(nic.link)
        bridge = nic.bridge if nic.kind == "tap" or port is None else port.parent
        if bridge is None:
            return {nic.link}
        around = {bridge, *self.children.get(bridge, ())}
        if port is not None and port.vlans:
            around = {name for name in around if self._is_heard(port, name, bridge)}
        return {nic.link, *around}

    def _is_heard(self, port: Link, name: IfName, bridge: IfName) -> bool:
        """Whether what a port says comes to the host by the bridge itself, or by what stands on it."""
        vlan = self.links[name].vlan_id if name != bridge else None
        number = find_pvid(self.links[bridge]) if vlan is None else vlan
        return number is not None and is_in(port, number)


def _learnt(state: State) -> dict[IfName, list[Mac]]:
    learnt: dict[IfName, list[Mac]] = {}
    for entry in state.forwarding:
        if not entry.local:
            macs = learnt.setdefault(entry.port, [])
            if entry.mac not in macs:
                macs.append(entry.mac)
    return learnt


def _precedence(holder: Holder) -> tuple[bool, int]:
    return holder.launch.hypervisor not in HYPERVISORS, -holder.process.started


def _guest(holder: Holder, links: Sequence[Link], nics: Sequence[GuestNic]) -> Guest:
    process, launch = holder.process, holder.launch
    program = process.program if launch.hypervisor in HYPERVISORS else process.comm
    given = next((name for name in map(find_guest_name, links) if name is not None), None)
    return Guest(
        name=given or launch.name or program,
        pid=process.pid,
        uid=process.uid,
        hypervisor=launch.hypervisor,
        program=program,
        nics=tuple(nics),
    )


def _nic(
    link: Link,
    netdev: Netdev | None,
    learnt: Sequence[Mac],
    counters: Mapping[str, tuple[int, int]],
    holds: Mapping[IfName, Hold],
) -> GuestNic:
    mac, source = (netdev.mac, netdev.mac_source) if netdev is not None else (None, None)
    if mac is None and link.kind == "macvtap":
        mac, source = link.mac, "link"
    if mac is None and len(learnt) == 1:
        mac, source = learnt[0], "forwarding"
    received, sent = counters.get(link.name, (None, None))
    # What the host sends into a tap the guest receives; a macvtap receives from the wire on behalf of its guest.
    rx, tx = (sent, received) if link.kind == "tap" else (received, sent)
    hold = holds.get(link.name)
    return GuestNic(
        link=link.name,
        kind=link.kind,
        bridge=link.master if link.master_kind == "bridge" else None,
        mac=mac,
        mac_source=source,
        rx_bytes=rx,
        tx_bytes=tx,
        vlan=find_pvid(link),
        rate=hold.rate if hold is not None else None,
        guard=hold.guard if hold is not None else None,
    )
