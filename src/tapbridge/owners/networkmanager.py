"""NetworkManager: it holds the links whose state file under /run/NetworkManager/devices says `managed=true`.

Theory of operation. Stopped by SIGTERM it leaves addresses, routes and leases as they are. Started again it reads the
state file of each link that is there: where that names a profile, it takes the link as it is by that profile
(`assume`), without a moment of deconfiguring, and goes on with the lease that is in the file of that profile, by
INIT-REBOOT. So what the hand-over writes while NetworkManager is stopped is a profile for the bridge, with the settings
of the NIC's and the same DHCP identity, one for the NIC as its port, the lease, and the two state files. All of them
are below /run, but for the lease; the profile of the NIC itself is not touched, and is what counts after a reboot.

Of a bridge that is saved the profiles are below /etc as well. Once it is taken down, tombstones below /run hide them
until the next boot.

Its checkpoints are not for us: a rollback puts the NIC's address back while a bridge that NetworkManager did not make
keeps the port.

A dhclient that it has started (its script is nm-dhcp-helper) is its own and not somebody else's client.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Final

from tapbridge.core.adopt import HandOver
from tapbridge.core.dhclient import read_invocation
from tapbridge.model.errors import HostError, Refused
from tapbridge.model.noun import dataclass, replace
from tapbridge.model.state import Client, LeaseFile, Link, State
from tapbridge.model.step import StartUnit, Step, StopUnit, WriteFile, WriteLinkFile
from tapbridge.model.values import IfName
from tapbridge.model.verdict import Finding, Severity
from tapbridge.owners.netplan_files import STATES, let_back
from tapbridge.owners.networkmanager_files import (
    NIC_PROFILE,
    Keyfile,
    bridge_profile,
    last_half,
    link_state,
    port_profile,
    read_keyfile,
    tombstone,
    write_keyfile,
)
from tapbridge.owners.owner import Move, Owner, clients_of, find_among, left_alone, refusal, warn

_NAME: Final = "NetworkManager"
_VERSIONS: Final = ("1.42", "1.52")
"""Of Debian 12 and 13. The state files are private to NetworkManager, and these two have the same."""

PROFILES: Final = "/run/NetworkManager/system-connections"
SAVED: Final = "/etc/NetworkManager/system-connections"
_LEASES: Final = "/var/lib/NetworkManager"
_HALF: Final = 64
_ETHERNET: Final = ("ethernet", "802-3-ethernet")
_UNHARMED: Final = (*_ETHERNET, "bridge", "loopback")  # kinds of links that a restart leaves as they are
_UNMANAGED: Final = "if the address of {link} is static: nmcli device set {link} managed no, then run the command again"


@dataclass(frozen=True, slots=True)
class NetworkManager:
    """NetworkManager itself, or a dhclient that works for it."""

    name: str = _NAME

    def find(self, state: State, link: IfName) -> Owner | None:
        """The owner, by its own state file or by its helper."""
        clients = clients_of(state, link, self.name)
        clients += tuple(c for c in clients_of(state, link, "dhclient") if works_for_networkmanager(c))
        return find_among(clients, link, self, self.name, "manages")

    def hand_over(self, owner: Owner, move: Move) -> HandOver:
        """Stop it before the move; after it the files, and a start. Raises Refused."""
        if move.back:
            return _give_back(owner, move)
        unit, profile = _require_unit(owner), _require_profile(owner, move)
        _require_version(owner, move)
        return _hand_over(owner.clients[0], unit, profile, move)


NETWORKMANAGER: Final = NetworkManager()


def works_for_networkmanager(client: Client) -> bool:
    """Whether a dhclient reports to NetworkManager."""
    script = read_invocation(client.argv, client.environment).script_path
    return script is not None and "nm-dhcp" in script


def _require_unit(owner: Owner) -> str:
    """The systemd unit of the one process that holds the link."""
    client, *others = owner.clients
    if others or client.program != _NAME:
        hint = "let its own DHCP client do it: dhcp=internal in NetworkManager.conf"
        raise refusal(owner, "a dhclient does its DHCP", hint)
    unit = _unit(client)
    if unit is None:
        raise refusal(owner, "it is not run by systemd, so that it could not be started again", "start it by systemd")
    return unit


def _unit(client: Client) -> str | None:
    name = client.cgroup.rpartition("/")[2]
    return name if name.endswith(".service") else None


def _require_profile(owner: Owner, move: Move) -> Keyfile:
    """The profile by which the link is held, if a bridge can be what the link is by it."""
    client, hint = owner.clients[0], _UNMANAGED.format(link=move.source)
    if any(file.path.startswith("/proc/") for file in client.files):
        raise refusal(owner, "its files are in a file system of its own", "start it outside of its container")
    if not client.profile:
        raise refusal(owner, "it has not connected it by a profile yet", "see: nmcli device")
    profile = read_keyfile(move.read(client.files[0].path) or "") if client.files else {}
    connection = {"uuid": client.profile, **profile.get("connection", {})}  # without one it is made of the file's name
    if not client.files or connection["uuid"] != client.profile:
        raise refusal(owner, f"its profile {client.profile} is in no keyfile", hint)
    if _looks_on(profile):
        raise refusal(owner, "it only looks on while somebody else configures the link", hint)
    if connection.get("type") not in _ETHERNET:
        raise refusal(owner, f"its profile is one of the type {connection.get('type')}", hint)
    if "802-1x" in profile:
        raise refusal(owner, "the port of the switch wants a login (802.1X)", "such a NIC has to stay as it is")
    if "shared" in (profile.get(family, {}).get("method") for family in ("ipv4", "ipv6")):
        raise refusal(owner, "it shares the host's connection on this link (method=shared)", hint)
    for vlan in _children(move, client.profile):
        hint = f"let it name the link: nmcli connection modify {vlan.profile} vlan.parent {move.source}"
        raise refusal(owner, f"the profile of {vlan.link} names this one as its parent, and would lose it", hint)
    for vlan in _children(move, move.source) if move.renames else ():
        why = f"the profile of {vlan.link} names the NIC as its parent, which would be the bridge"
        raise refusal(owner, why, "go without --take-name")
    for other in clients_of(move.state, move.target, _NAME) if not move.renames else ():
        there = read_keyfile(move.read(other.files[0].path) or "") if other.files else {}
        if other.profile not in ("", _uuid(client.profile, f"bridge {move.target}")) and not _looks_on(there):
            hint = f"take another name for the bridge, or: nmcli connection down {other.profile}"
            raise refusal(owner, f"it holds {move.target} as well, by a profile of its own", hint)
    return {**profile, "connection": connection}


def _children(move: Move, parent: str) -> tuple[Client, ...]:
    """The VLANs on the link whose profiles name their parent so: a profile, which will not be active any more, or the
    link."""
    links = [link.name for link in move.state.links if link.kind == "vlan" and link.parent == move.source]
    held = [one for link in links for one in clients_of(move.state, link, _NAME) if one.files]
    return tuple(
        one for one in held if read_keyfile(move.read(one.files[0].path) or "").get("vlan", {}).get("parent") == parent
    )


def _looks_on(profile: Keyfile) -> bool:
    """Whether it made the profile of what somebody else configures: `connected (externally)`."""
    return profile.get(".nmmeta", {}).get("external") == "true"


def _require_version(owner: Owner, move: Move) -> None:
    """A version whose private files are known; with `--force` any."""
    if move.force:
        return
    try:
        version = move.ask("nmcli", "-t", "-f", "VERSION", "general").strip()
    except HostError as error:
        raise refusal(owner, f"it does not say which version it is ({error.message})", "is it running?") from None
    if ".".join(version.split(".")[:2]) not in _VERSIONS:
        message = (
            f"{owner.link} is held by {_NAME} {version}, whose private files may differ from those of "
            + " and ".join(_VERSIONS)
        )
        raise Refused(
            f"{message}: {owner.proof}",
            hint=f"try it with --force: it is taken back if {_NAME} does not take the bridge",
            code="owner-holds-nic",
            subject=owner.link,
        )


def _hand_over(client: Client, unit: str, nic: Keyfile, move: Move) -> HandOver:
    link, bridge = move.state.link(move.source), move.target
    assert link is not None and link.mac is not None, "a NIC that can be adopted has an address"
    told, made = read_keyfile(move.read(_state_file(link)) or ""), _made_of_a_secret(nic, move)
    ours = _uuid(client.profile, f"bridge {bridge}"), _uuid(client.profile, f"port {move.port}")
    profiles = (
        bridge_profile(nic, told, bridge=bridge, mac=link.mac, uuid=ours[0], token=made[0] if len(made) == 1 else None),
        port_profile(nic, port=move.port, bridge=bridge, uuid=ours[1], master=ours[0]),
    )
    files = [_lease_file(client.profile, link.name, ours[0], bridge, move)]
    held = []
    for name, number, profile in zip((bridge, move.port), ours, profiles, strict=True):
        path = profile_path(bridge, "" if name == bridge else "-port")
        files.append(WriteFile(path=path, content=write_keyfile(profile), mode=0o600))
        held.append(replace(client, link=name, profile=number, files=(LeaseFile(path=path, sha256=""),)))
    states: tuple[Step, ...] = (
        WriteLinkFile(folder=STATES, link=bridge, content=link_state(ours[0], made=True)),
        WriteFile(path=_state_file(link), content=link_state(ours[1], made=False)),
        *(WriteFile(path=path, content=None) for path in map(tombstone_path, ours) if move.read(path) is not None),
    )
    return HandOver(
        before=(StopUnit(unit=unit, clients=(client,)),),
        after=(*files, *states, StartUnit(unit=unit, clients=tuple(held))),
        risks=(*_restarts(move), *_other_addresses(made, move)),
    )


def _give_back(owner: Owner, move: Move) -> HandOver:
    """The way back of a bridge whose profile is of our making; any other is left alone."""
    client, unit = owner.clients[0], _unit(owner.clients[0])
    profile = read_keyfile(move.read(client.files[0].path) or "") if client.files else {}
    before = profile.get("user", {}).get(NIC_PROFILE)
    bridge, nic = move.state.link(move.source), move.state.link(move.port)
    if before is None or unit is None or bridge is None or nic is None:
        return left_alone(owner, move)
    port = clients_of(move.state, move.port, _NAME)
    metric = profile.get("ipv4", {}).get("route-metric")
    lease = _lease_file(client.profile, bridge.name, before, move.target, move)
    held = [file.path for one in (client, *port) for file in one.files if one.profile != before]
    ours = [path for path in held if not path.startswith(f"{SAVED}/")]
    files: list[Step] = [
        lease,
        WriteFile(path=_lease_path(client.profile, bridge.name), content=None),
        *(WriteFile(path=path, content=None) for path in ours),
        WriteFile(path=_state_file(bridge), content=None),
        WriteFile(path=_state_file(nic), content=link_state(before, made=False, metric=metric)),
        *hold_back(move),
        *let_back(move),
    ]
    on_nic = replace(client, link=move.target, profile=before, files=())
    return HandOver(
        before=(StopUnit(unit=unit, clients=(client, *port)),),
        after=(*files, StartUnit(unit=unit, clients=(on_nic,))),
        risks=_restarts(move),
    )


def hold_back(move: Move) -> tuple[Step, ...]:
    """NetworkManager sees no profile of a saved bridge that is taken down, whenever it looks before the next boot."""
    texts = [move.read(saved_path(profile_path(move.source, port))) for port in ("", "-port")]
    found = [read_keyfile(text or "").get("connection", {}).get("uuid", "") for text in texts]
    return tuple(
        WriteFile(path=tombstone_path(profile), content=tombstone(profile), mode=0o600) for profile in found if profile
    )


def _restarts(move: Move) -> tuple[Finding, ...]:
    """What else NetworkManager holds, and has to connect anew when it is started again."""
    try:
        links = move.ask("nmcli", "-t", "-f", "DEVICE,STATE", "device").splitlines()
        told = move.ask("nmcli", "-t", "-f", "TYPE,DEVICE,NAME", "connection", "show", "--active").splitlines()
    except HostError:
        return ()
    looked_on = {line.partition(":")[0] for line in links if line.endswith(":connected (externally)")}
    rows = [line.split(":", 2) for line in told if line.count(":") > 1]
    held = [(kind, name) for kind, link, name in rows if kind == "vpn" or link not in looked_on]
    others = [f"{kind} {name!r}" for kind, name in held if kind not in _UNHARMED]
    if not others:
        return ()
    message = f"NetworkManager is restarted, and with it what else it holds: {', '.join(others)}"
    return (warn("manager-restarts", move.source, message, fix="they are connected again, some seconds later"),)


def _made_of_a_secret(nic: Keyfile, move: Move) -> tuple[str, ...]:
    """The last halves of the addresses that it made of router advertisements, its secret and the link's name.

    On another link they would be others (RFC 7217); one of them can be told.
    """
    ipv6 = nic.get("ipv6", {})
    if ipv6.get("method") != "auto" or ipv6.get("addr-gen-mode", "eui64") == "eui64":
        return ()
    passing = [a for a in move.state.addresses_of(move.source, 6) if a.valid_lft is not None and a.prefix == _HALF]
    return tuple(dict.fromkeys(last_half(a.ip) for a in passing if not a.temporary))


def _other_addresses(made: Sequence[str], move: Move) -> tuple[Finding, ...]:
    if len(made) < 2:
        return ()
    message = f"{move.target} gets other IPv6 addresses by router advertisements beside those of {move.source}, "
    message += "which stay until their lifetimes end"
    return (Finding(code="stable-privacy", severity=Severity.INFO, subject=move.source, message=message),)


def _lease_file(profile: str, link: IfName, other: str, other_link: IfName, move: Move) -> WriteFile:
    """The lease of one profile and link as that of the other; without one, none."""
    return WriteFile(path=_lease_path(other, other_link), content=move.read(_lease_path(profile, link)))


def _lease_path(profile: str, link: IfName) -> str:
    return f"{_LEASES}/internal-{profile}-{link}.lease"


def profile_path(bridge: str, port: str = "") -> str:
    """Our profile for a bridge, or (`-port`) for its port, until the next boot."""
    return f"{PROFILES}/tapbridge-{bridge}{port}.nmconnection"


def saved_path(path: str) -> str:
    """Where a file of ours is as well while the bridge is saved."""
    return path.replace("/run/", "/etc/", 1)


def tombstone_path(profile: str) -> str:
    """Where a file hides the profile of that UUID, if it is in a folder that counts less."""
    return f"{PROFILES}/{profile}.nmmeta"


def _state_file(link: Link) -> str:
    return f"{STATES}/{link.index}"


def _uuid(profile: str, what: str) -> str:
    """The UUID of a profile of ours: the same every time, so that nothing of it is ever there twice."""
    return str(uuid.uuid5(uuid.UUID(profile), f"tapbridge {what}"))
