"""What is worth saying of a machine's guests: addresses that two of them have, and what could not be seen. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tapbridge.model.guest import Guest, GuestNic
from tapbridge.model.state import State
from tapbridge.model.values import IfName
from tapbridge.model.verdict import Finding, Severity

_NAMES = 8


def duplicates(guests: Sequence[Guest], parents: Mapping[IfName, IfName]) -> tuple[Finding, ...]:
    """MACs and IPs that two NICs on one bridge have, and client ids that two guests there have. On two bridges, or in
    two VLANs of one, they may be right: networks behind NAT repeat. `parents` are the links on which macvtaps stand,
    which are as bridges to them.
    """
    macs: dict[tuple[str, str], list[str]] = {}
    ips: dict[tuple[str, str], dict[str, str]] = {}
    clients: dict[tuple[str, str], dict[str, str]] = {}
    for guest in guests:
        for nic in guest.nics:
            bridge = nic.bridge or parents.get(nic.link)
            if bridge is None or nic.mac is None:
                continue
            segment = bridge if nic.vlan is None else f"{bridge} in VLAN {nic.vlan}"
            who = describe_nic(guest, nic)
            macs.setdefault((segment, nic.mac), []).append(who)
            for address in nic.addresses:
                ips.setdefault((segment, address.ip), {}).setdefault(nic.mac, who)
                if address.client_id is not None:
                    same = clients.setdefault((segment, address.client_id), {})
                    same.setdefault(str(guest.pid or nic.link), who)
    found = [
        _warning(
            "duplicate-mac",
            mac,
            f"{len(who)} guests on {bridge} have the MAC {mac}: each loses the other's packets",
            who,
            "give each guest a MAC of its own; tapbridge run does so by itself",
        )
        for (bridge, mac), who in macs.items()
        if len(who) > 1
    ]
    found += [
        _warning(
            "duplicate-ip",
            ip,
            f"{len(who)} guests on {bridge} are seen with the address {ip}",
            [f"{name}, {mac}" for mac, name in who.items()],
            "change the address of one; after cloning a guest also its machine-id, which DHCP clients send",
        )
        for (bridge, ip), who in ips.items()
        if len(who) > 1
    ]
    found += [
        _warning(
            "duplicate-client-id",
            client_id,
            f"{len(who)} guests on {bridge} have the DHCP client id {client_id}: a server takes them for one",
            list(who.values()),
            "after cloning a guest change its machine-id, of which DHCP clients make their id",
        )
        for (bridge, client_id), who in clients.items()
        if len(who) > 1
    ]
    return tuple(found)


def _warning(code: str, subject: str, message: str, evidence: Sequence[str], fix: str) -> Finding:
    return Finding(
        code=code,
        severity=Severity.WARNING,
        subject=subject,
        message=message,
        evidence=tuple(evidence[:_NAMES]),
        fix=fix,
    )


def describe_nic(guest: Guest, nic: GuestNic) -> str:
    """A guest's NIC in a sentence."""
    pid = f", PID {guest.pid}" if guest.pid is not None else ""
    return f"{guest.name or 'a guest without a name'} ({nic.link}{pid})"


def hidden_holders(guests: Iterable[Guest], state: State, *, root: bool) -> tuple[Finding, ...]:
    """Taps that somebody holds, but nobody whom we can see. A tap that is up has carrier while it is held. Root sees
    all but the processes outside of its own PID namespace."""
    carrier = {link.name for link in state.links if link.carrier}
    hidden = [nic.link for guest in guests if guest.pid is None for nic in guest.nics if nic.link in carrier]
    if not hidden:
        return ()
    return (
        Finding(
            code="holders-hidden",
            severity=Severity.INFO,
            subject=hidden[0] if len(hidden) == 1 else "",
            message=f"{_count(hidden, 'tap is', 'taps are')} held by processes that cannot be seen from here",
            evidence=(", ".join(hidden[:_NAMES]) + (", …" if len(hidden) > _NAMES else ""),),
            fix="run it where the guests were started, outside of the container" if root else "sudo tapbridge ps",
        ),
    )


def unguarded(guests: Iterable[Guest], state: State) -> tuple[Finding, ...]:
    """Guests of which somebody has taken the filters away, and that nobody may look. Without a bridge there is nothing
    that they could say."""
    lost = {hold.link: hold.lost for hold in state.holds if hold.lost is not False}
    missed = [(guest, nic) for guest in guests for nic in guest.nics if nic.link in lost and nic.bridge is not None]
    found = [(nic.link, describe_nic(guest, nic)) for guest, nic in missed if lost[nic.link]]
    if not found:
        return _hidden_guards([nic.link for _, nic in missed])
    who = f"{found[0][1]} is" if len(found) == 1 else f"{len(found)} guests' NICs are"
    return (
        _warning(
            "guard-lost",
            found[0][0] if len(found) == 1 else "",
            f"{who} not guarded any more: somebody has taken the rules away, as nft flush ruleset does",
            [name for _, name in found] if len(found) > 1 else [],
            "start the guest again, which sets them; the broker sets those of its guests by itself",
        ),
    )


def _hidden_guards(links: Sequence[str]) -> tuple[Finding, ...]:
    if not links:
        return ()
    return (
        Finding(
            code="guards-hidden",
            severity=Severity.INFO,
            subject=links[0] if len(links) == 1 else "",
            message=f"whether the guards of {_count(links, 'tap', 'taps')} are still there cannot be seen by you",
            fix="sudo tapbridge ps",
        ),
    )


def elsewhere(pids: Sequence[int]) -> tuple[Finding, ...]:
    """Guests whose taps lie in another network namespace."""
    if not pids:
        return ()
    return (
        Finding(
            code="other-netns",
            severity=Severity.INFO,
            subject="",
            message=f"{_count(pids, 'guest has its taps', 'guests have their taps')} in another network namespace",
            evidence=(", ".join(f"PID {pid}" for pid in pids[:_NAMES]) + (", …" if len(pids) > _NAMES else ""),),
            fix=f"sudo nsenter --net=/proc/{pids[0]}/ns/net tapbridge ps",
        ),
    )


def unheard(links: Sequence[str]) -> tuple[Finding, ...]:
    """Taps that could not be listened to, or not to the end."""
    if not links:
        return ()
    return (
        Finding(
            code="tap-not-heard",
            severity=Severity.WARNING,
            subject=links[0] if len(links) == 1 else "",
            message=f"{_count(links, 'tap was', 'taps were')} not heard to the end: more was said than is listened to",
            evidence=(", ".join(links[:_NAMES]) + (", …" if len(links) > _NAMES else ""),),
        ),
    )


def unlistened() -> tuple[Finding, ...]:
    """Without the right to open packet sockets only others' word counts."""
    return (
        Finding(
            code="not-listening",
            severity=Severity.INFO,
            subject="",
            message="what guests say on their taps cannot be heard without CAP_NET_RAW",
            fix="sudo tapbridge ps --watch",
        ),
    )


def unread(paths: Sequence[str]) -> tuple[Finding, ...]:
    """Lease files, or folders of them, that exist and may not be read."""
    if not paths:
        return ()
    return (
        Finding(
            code="leases-hidden",
            severity=Severity.INFO,
            subject=paths[0],
            message=f"{_count(paths, 'lease file', 'lease files')} may not be read by you",
            evidence=tuple(paths[:_NAMES]),
            fix="sudo tapbridge ps",
        ),
    )


def _count(things: Sequence[object], one: str, many: str) -> str:
    return f"{len(things)} {one if len(things) == 1 else many}"
