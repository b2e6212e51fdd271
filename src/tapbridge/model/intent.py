"""What is asked for. Silence is KEEP."""

from __future__ import annotations

from tapbridge.model.noun import dataclass
from tapbridge.model.values import IfName, Mac


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopt:
    """Make `nic` a port of `bridge`. With `take_name` the bridge ends up with the NIC's name, and the NIC is called
    `port_name` (default: r + its name, cut at 15 bytes). With `vlan_aware` the bridge tells VLANs apart; with
    `four_address` a wireless station is let send frames that have room for a guest's address."""

    nic: IfName
    bridge: IfName = IfName("br0")
    take_name: bool = False
    port_name: IfName | None = None
    vlan_aware: bool = False
    four_address: bool = False
    force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Give the bridge's uplink its place back. `force` leaves guests' taps without a master."""

    bridge: IfName
    force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeTap:
    """Make a tap that outlives its makers. At most one of `owner` and `group` is set."""

    name: IfName
    owner: int | None = None
    group: int | None = None
    bridge: IfName | None = None
    queues: int = 1
    vlan: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DropTaps:
    """Delete the tap `name`, or (None) all of ours that nobody has open. `force` also takes what is in use, and a tap
    that is not ours if it is named."""

    name: IfName | None = None
    force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What a guest may say of itself: that it has the address `mac`, and one of `ips`. With None instead of these, it
    may have any IP address but those that are `denied`. What is `allowed` it may do all the same: `dhcp`, `macs`,
    `router`, `vlan`."""

    mac: Mac
    ips: tuple[str, ...] | None = None
    denied: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """What the guest is held to: mac or ip."""
        return "mac" if self.ips is None else "ip"


@dataclass(frozen=True, slots=True, kw_only=True)
class LendTap:
    """Make a tap, a port of `bridge`, for a user who gets its open files and nothing else. `mac` is the tap's own.

    With `only` its guest is held to that address: the bridge drops what comes from another.
    `rate` is in bits per second. With
    a `guard` without addresses those of the host and its routers are denied.
    """

    bridge: IfName
    mac: Mac
    owner: int
    alias: str
    only: Mac | None = None
    queues: int = 1
    vnet_hdr: bool = True
    isolated: bool = False
    rate: int | None = None
    guard: Guard | None = None
    vlan: int | None = None
