"""Which Ethernet address a guest gets, which one its tap gets, and who holds an address already.

A guest's address is a function of the host and of the guest's name, so it is the same at every start, and two
guests never meet with the one address that QEMU gives to the first NIC of every machine.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from typing import Final

from tapbridge.core.topology import is_tap
from tapbridge.model.errors import Refused
from tapbridge.model.noun import dataclass
from tapbridge.model.state import Link, Neighbour, State
from tapbridge.model.values import Mac

PREFIX: Final = "52:54:00"
"""The space that QEMU and libvirt use: locally administered (bit 1 of 0x52), unicast (bit 0 clear)."""

QEMU_OWN: Final = "52:54:00:12:34:"
"""qemu_macaddr_default_if_unset() of QEMU's net/net.c counts from 52:54:00:12:34:56 upwards, in every QEMU alike."""

_TAPS: Final = "fe", "fa"
_PREFIX_FORM: Final = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){0,4}\Z")
_PURPOSE: Final = b"tapbridge-mac-v1"
_NUD_FAILED: Final = 0x20


@dataclass(frozen=True, slots=True, kw_only=True)
class Seed:
    """What makes the addresses of one host differ from another's.

    `machine_id` alone would not do: clones of one disk image often share it. `uplink` is the permanent address of
    the NIC that carried the first guest; it is kept, so that a new NIC does not give every guest a new address.
    `user` tells guests of one name apart that different users start; None for root's.
    """

    machine_id: str
    uplink: Mac | None
    user: int | None = None


def parse_prefix(text: str) -> str:
    """Read what guests' addresses begin with: one to five bytes. Raises ValueError for what no guest may have."""
    prefix = text.strip().lower().replace("-", ":")
    if not _PREFIX_FORM.match(prefix):
        raise ValueError(f"{text!r} is not the beginning of an Ethernet address: one to five bytes, such as {PREFIX}")
    first = int(prefix[:2], 16)
    if first & 0b11 != 0b10:
        why = "group addresses" if first & 1 else "addresses that makers of cards have been given"
        raise ValueError(f"{text!r} begins {why}; the second digit has to be 2, 6, a or e")
    if prefix[:2] in _TAPS:
        raise ValueError(f"{text!r} begins as the addresses of taps do, which must differ from every guest's")
    if f"{prefix}:" == QEMU_OWN:
        raise ValueError(f"{text!r} begins the addresses that every QEMU gives to its guests by itself")
    return prefix


def guest_mac(seed: Seed, guest: str, number: int, taken: Container[Mac] = (), prefix: str = PREFIX) -> Mac:
    """The address of NIC `number` (from 0) of a guest: always the same, never one of `taken` or of QEMU's own.

    The hash is keyed with the machine-id, which machine-id(5) asks not to be shown to the network.
    """
    import hashlib
    import hmac

    whose = () if seed.user is None else (str(seed.user),)
    for attempt in range(1000):
        words = (_PURPOSE.decode(), seed.uplink or "", guest, str(number), str(attempt), *whose)
        digest = hmac.digest(seed.machine_id.encode(), "\0".join(words).encode(), hashlib.sha256)
        mac = Mac(f"{prefix}:{digest[: 5 - prefix.count(':')].hex(':')}")
        if not mac.startswith(QEMU_OWN) and mac not in taken:
            return mac
    raise Refused(
        f"no Ethernet address is left for the guest {guest!r}",
        hint="give it one with --mac",
        code="mac-exhausted",
        subject=guest,
    )


def tap_mac(guest: Mac) -> Mac:
    """The address of the tap behind a guest's NIC: the guest's with fe as first byte, or fa where the guest's is fe.

    fe is the highest first byte of a unicast, locally administered address: a bridge without an address of its own
    takes the lowest of its ports, and never the tap's. The two must differ, or the kernel takes the guest's frames
    for its own.
    """
    usual, other = _TAPS
    return Mac((other if guest.startswith(usual) else usual) + guest[2:])


def is_tap_mac(mac: Mac | None) -> bool:
    """Whether an address could be that of a tap which we have made, unless somebody has changed it."""
    return mac is not None and mac.startswith(_TAPS)


def lone_tap_mac(name: str) -> Mac:
    """The address of a tap that waits for a guest whose address nobody knows yet: always the same for its name."""
    import hashlib

    return Mac("fe:" + hashlib.sha256(f"tap {name}".encode()).digest()[:5].hex(":"))


def check_mac(mac: Mac, own: Mapping[Mac, str]) -> None:
    """Raises Refused for an address that no guest may have; `own` is this host's: address to link's name."""
    if int(mac[:2], 16) & 1:
        why = "is a group address, which no NIC can have"
    elif mac == "00:00:00:00:00:00":
        why = "is no address at all"
    elif mac.startswith(QEMU_OWN):
        why = "is what every QEMU gives to its guests unless it is told otherwise, so it is soon there twice"
    elif mac in own:
        why = f"is that of {own[mac]} on this host, which would take the guest's frames for its own"
    else:
        return
    raise Refused(
        f"the address {mac} {why}",
        hint="leave --mac out: the guest then gets an address of its own that stays the same",
        code="mac-unusable",
        subject=mac,
    )


def own_macs(state: State) -> dict[Mac, str]:
    """The addresses of this host's own links, with the link's name."""
    found: dict[Mac, str] = {}
    for link in state.links:
        for mac in (link.permanent_mac, link.mac):
            if mac is not None and mac != "00:00:00:00:00:00":
                found[mac] = link.name
    return found


def find_holder(state: State, bridge: str, mac: Mac) -> Link | None:
    """The living port of a bridge behind which an address is: it was seen there, or its tap has the tap's address
    that belongs to it (ours and libvirt's do). An entry of a dead port is a guest's own ghost."""
    behind = {
        entry.port for entry in state.forwarding if (entry.bridge, entry.mac, entry.local) == (bridge, mac, False)
    }
    return next(
        (
            port
            for port in state.ports(bridge)
            if port.up and port.carrier and (port.name in behind or (is_tap(port) and port.mac == tap_mac(mac)))
        ),
        None,
    )


def suspects(state: State, bridge: str, mac: Mac) -> tuple[Neighbour, ...]:
    """The neighbours that had the address when last heard of. Only a fresh answer makes one of them its holder;
    an entry that somebody configured is most often the guest's own."""
    return tuple(
        neighbour
        for neighbour in state.neighbours
        if neighbour.link == bridge
        and neighbour.mac == mac
        and not neighbour.configured
        and not neighbour.state & _NUD_FAILED
    )


def refuse_taken(mac: Mac, guest: str, holder: str) -> Refused:
    """The refusal of an address that somebody else has."""
    return Refused(
        f"the address {mac} of the guest {guest!r} is in use: {holder}",
        hint="start the guest under another --name, or give it another address with --mac",
        code="mac-taken",
        subject=mac,
    )
