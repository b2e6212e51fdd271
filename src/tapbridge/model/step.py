"""Steps: one act on the outside each, as data. They can be described before they happen and journalled as JSON.

Links are named as they are called at the moment of the step. A `Put…` creates or changes; a `Delete…` of
what is not there is no error, so every step may be repeated.
"""

from __future__ import annotations

from typing import Literal

from tapbridge.model.intent import Guard
from tapbridge.model.noun import dataclass
from tapbridge.model.owner_step import AwaitClient as AwaitClient
from tapbridge.model.owner_step import PauseClient as PauseClient
from tapbridge.model.owner_step import ReloadClient as ReloadClient
from tapbridge.model.owner_step import ResumeClient as ResumeClient
from tapbridge.model.owner_step import StartClient as StartClient
from tapbridge.model.owner_step import StartUnit as StartUnit
from tapbridge.model.owner_step import StopClient as StopClient
from tapbridge.model.owner_step import StopUnit as StopUnit
from tapbridge.model.owner_step import WriteFile as WriteFile
from tapbridge.model.owner_step import WriteLinkFile as WriteLinkFile
from tapbridge.model.port import Port
from tapbridge.model.state import (
    Address,
    Bridge,
    LinkDns,
    Neighbour,
    Route,
    Rule,
    Sysctl,
    Tap,
)
from tapbridge.model.values import IfName, Mac
from tapbridge.model.vlan_step import DeleteVlans as DeleteVlans
from tapbridge.model.vlan_step import PutVlans as PutVlans
from tapbridge.model.vlan_step import SetVlanFiltering as SetVlanFiltering
from tapbridge.model.wireless_step import SetFourAddress as SetFourAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class AddLink:
    """Create a bridge, or a veth pair whose end `peer` is up. RTM_NEWLINK with NLM_F_CREATE | NLM_F_EXCL."""

    name: IfName
    kind: Literal["bridge", "veth"]
    mac: Mac | None = None
    mtu: int | None = None
    up: bool = False
    master: IfName | None = None
    peer: IfName | None = None
    bridge: Bridge | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteLink:
    """Delete a link; the kernel takes its addresses and routes with it."""

    link: IfName


@dataclass(frozen=True, slots=True, kw_only=True)
class AddTap:
    """Create a tap that nobody has open, and that is there until it is deleted or the machine is rebooted.

    It gets its address, its user, its marks and its place before it is made persistent, so it is never there for good
    without them. Its bridge sees no carrier come and go.
    """

    name: IfName
    mac: Mac
    tap: Tap
    alias: str | None = None
    altnames: tuple[str, ...] = ()
    mtu: int | None = None
    addr_gen_mode: int | None = None
    master: IfName | None = None
    up: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteTaps:
    """Delete taps of ours, all in one act. Looked at again when it happens: what is no tap of ours then stays."""

    taps: tuple[IfName, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SetUp:
    """Set a link administratively up or down."""

    link: IfName
    up: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SetMaster:
    """Make a link a port of a bridge, or (None) take it out."""

    link: IfName
    master: IfName | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SetMtu:
    """Set a link's MTU in bytes. On a bridge a real change also pins it against its ports' (br_change_mtu)."""

    link: IfName
    mtu: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SetMac:
    """Set a link's Ethernet address. A bridge whose address was set never takes another from its ports."""

    link: IfName
    mac: Mac


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAlias:
    """Set a link's alias, the mark by which what is ours is known; None takes it away."""

    link: IfName
    alias: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAddressGeneration:
    """Set how IPv6 addresses are made: IN6_ADDR_GEN_MODE_* (0 EUI-64, 1 none, 2 stable privacy, 3 random) and token."""

    link: IfName
    mode: int
    token: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RenameLink:
    """Give a link another name; a link that is up can be renamed since Linux 6.2."""

    link: IfName
    to: IfName


@dataclass(frozen=True, slots=True, kw_only=True)
class SetPort:
    """Set the flags of a bridge port."""

    link: IfName
    port: Port


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitRate:
    """Limit a tap, in each direction for itself, to `rate` bits per second. The limit ends with the tap; no State
    knows of it. No step behind it happens where the kernel cannot."""

    link: IfName
    rate: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SetFilter:
    """Drop what a guest says beyond its guard, before the bridge sees it. The rules are for the number that the tap has
    now, which no other link gets; no State knows of them. No step behind it happens where they cannot be set."""

    link: IfName
    guard: Guard


@dataclass(frozen=True, slots=True, kw_only=True)
class PutPortAddress:
    """Tell a bridge that an Ethernet address is behind this port, for good, and only if nobody has it (NLM_F_EXCL)."""

    link: IfName
    mac: Mac


@dataclass(frozen=True, slots=True, kw_only=True)
class PutAddress:
    """Add an address, or change its lifetimes, metric and (IPv6) flags.

    Without `dad` an IPv6 address is put with IFA_F_NODAD, because the host owns it already: the kernel does not probe
    for a duplicate. With `dad` its flags are those of `address`, and one that is new is probed for.
    """

    address: Address
    dad: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteAddress:
    """Take an address from a link."""

    address: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class PutRoute:
    """Replace the first route of the slot, in one act, or create it. NLM_F_CREATE | NLM_F_REPLACE."""

    route: Route


@dataclass(frozen=True, slots=True, kw_only=True)
class AddRoute:
    """Add a route behind those of its slot: NLM_F_CREATE | NLM_F_APPEND in IPv4, NLM_F_CREATE in IPv6.

    With `first`, before them: NLM_F_CREATE alone, which only IPv4 understands so.
    """

    route: Route
    first: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteRoute:
    """Take exactly this route away."""

    route: Route


@dataclass(frozen=True, slots=True, kw_only=True)
class DropRouterRoutes:
    """Take every route away that routers have advertised on a link, also those that nobody knew of when it was planned:
    those that are there when the batch is put together."""

    link: IfName


@dataclass(frozen=True, slots=True, kw_only=True)
class PutNeighbour:
    """Create or replace a neighbour entry."""

    neighbour: Neighbour


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteNeighbour:
    """Take a neighbour entry away."""

    neighbour: Neighbour


@dataclass(frozen=True, slots=True, kw_only=True)
class AddRule:
    """Add a policy routing rule."""

    rule: Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteRule:
    """Take a policy routing rule away."""

    rule: Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class SetSysctl:
    """Write a per-link switch."""

    sysctl: Sysctl


@dataclass(frozen=True, slots=True, kw_only=True)
class SetDns:
    """Give systemd-resolved the DNS servers and domains of a link; empty tuples revert it."""

    dns: LinkDns


@dataclass(frozen=True, slots=True, kw_only=True)
class Await:
    """Wait until a link's operstate is `up`, driven by the kernel's own notifications; `limit_s` seconds at most."""

    link: IfName
    limit_s: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitLocal:
    """Wait until the kernel takes packets for these IPv6 addresses on the link; `limit_s` seconds at most.

    RTM_NEWADDR is acknowledged before the address has its local route, which a worker adds (addrconf_dad_work). Until
    then a packet for it is dropped, if no other link has the address any more.
    """

    link: IfName
    ips: tuple[str, ...]
    limit_s: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shield:
    """Hand every frame that arrives on `link` straight to `to`'s IP stack, until Unshield or our death.

    A tcx program (Linux 6.6) at the ingress of the NIC. It covers the hole of br_add_if() and del_nbp(), in which
    the port already takes frames and is not yet (no longer) forwarding them. A kernel or a user that cannot: nothing
    happens, and the hole (0.05 to 1 ms) stays.
    """

    link: IfName
    to: IfName


@dataclass(frozen=True, slots=True, kw_only=True)
class Unshield:
    """End a Shield."""

    link: IfName


Step = (
    AddLink
    | DeleteLink
    | AddTap
    | DeleteTaps
    | SetUp
    | SetMaster
    | SetMtu
    | SetMac
    | SetAlias
    | SetAddressGeneration
    | RenameLink
    | SetPort
    | LimitRate
    | SetFilter
    | PutPortAddress
    | SetVlanFiltering
    | PutVlans
    | DeleteVlans
    | SetFourAddress
    | PutAddress
    | DeleteAddress
    | PutRoute
    | AddRoute
    | DeleteRoute
    | DropRouterRoutes
    | PutNeighbour
    | DeleteNeighbour
    | AddRule
    | DeleteRule
    | SetSysctl
    | SetDns
    | Await
    | AwaitLocal
    | Shield
    | Unshield
    | StopClient
    | StartClient
    | PauseClient
    | ResumeClient
    | ReloadClient
    | AwaitClient
    | StopUnit
    | StartUnit
    | WriteFile
    | WriteLinkFile
)

KERNEL_STEPS = (
    AddLink,
    DeleteLink,
    SetUp,
    SetMaster,
    SetMtu,
    SetMac,
    SetAlias,
    SetAddressGeneration,
    RenameLink,
    SetPort,
    PutPortAddress,
    SetVlanFiltering,
    PutVlans,
    DeleteVlans,
    PutAddress,
    DeleteAddress,
    PutRoute,
    AddRoute,
    DeleteRoute,
    DropRouterRoutes,
    PutNeighbour,
    DeleteNeighbour,
    AddRule,
    DeleteRule,
)
"""The steps that are rtnetlink messages: those beside one another go to the kernel in one sendmsg(2)."""
