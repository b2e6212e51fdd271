"""Guests: who holds a tap, their NICs, and what is known of their addresses, with the source of each."""

from __future__ import annotations

from tapbridge.model.noun import dataclass
from tapbridge.model.values import Family, IfName, Mac

HYPERVISORS = ("qemu", "firecracker", "cloud-hypervisor", "crosvm")
"""The programs that are known by name; any other holder of a tap is `other`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """One piece of evidence that the holder of a MAC has an address.

    `source`: dhcp, arp, nd, mdns (heard on the tap), agent (the guest's own), lease (a DHCP server's file), neighbour
    (the host's own table). `age` is the seconds since then, None where the source does not tell. `link` is the link on
    whose segment it holds, None where the source does not say. Lifetimes are seconds that remain; None is unknown.
    `hostname` is what the guest calls itself, `client_id` how it is known to a DHCP server.
    """

    mac: Mac
    family: Family
    ip: str
    source: str
    age: float | None = None
    prefix: int | None = None
    dynamic: bool | None = None
    valid_lft: int | None = None
    preferred_lft: int | None = None
    link: IfName | None = None
    hostname: str | None = None
    client_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestNic:
    """One NIC of a guest, named by the link that it has on the host. Bytes are counted from the guest's side.

    `mac_source`: command-line, qemu-default (QEMU gives it to whoever asks for none), qmp (QEMU says so), forwarding
    (learnt by the bridge), heard (on the tap), link (a macvtap's MAC is its guest's). `vlan` is that of its frames
    without a tag, `rate`, in bits per second, what neither direction exceeds, `guard` mac or ip; None for none.
    """

    link: IfName
    kind: str = "tap"
    bridge: IfName | None = None
    mac: Mac | None = None
    mac_source: str | None = None
    addresses: tuple[Sighting, ...] = ()
    rx_bytes: int | None = None
    tx_bytes: int | None = None
    vlan: int | None = None
    rate: int | None = None
    guard: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """Whoever holds taps. `pid` is None for taps whose holder does not exist or cannot be seen.

    `hypervisor` is one of HYPERVISORS, or `other`; `program` is the process's own name.
    """

    name: str | None
    pid: int | None = None
    uid: int | None = None
    hypervisor: str | None = None
    program: str | None = None
    nics: tuple[GuestNic, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TapUse:
    """A tap: who may open it, where it is attached, and who has it open.

    `owner` and `group` are names, or numbers where there is no name. `queues` is None where nobody wrote it down,
    `saved` (it comes back after a reboot) where that cannot be read. `vlan` is that of its frames without a tag, None
    on a bridge that tells no VLANs apart; `rate` and `guard` are as of a guest's NIC. `in_use` with no `pid`: by a
    process that cannot be seen.
    """

    name: IfName
    owner: str | None = None
    group: str | None = None
    bridge: IfName | None = None
    vlan: int | None = None
    queues: int | None = None
    saved: bool | None = None
    in_use: bool = False
    guest: str | None = None
    pid: int | None = None
    ours: bool = False
    rate: int | None = None
    guard: str | None = None
