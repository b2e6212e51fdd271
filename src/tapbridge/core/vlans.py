"""VLANs of a bridge that tells them apart, and of its ports."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tapbridge.model.noun import replace
from tapbridge.model.state import Bridge, Link, Vlans

VLAN: Final = range(1, 4095)
"""The numbers that a VLAN can have: 0 and 4095 are reserved (IEEE 802.1Q)."""


def first_vlans(bridge: Link | None) -> tuple[Vlans, ...]:
    """Where a port of the bridge is when it has just joined, and the host by the bridge itself."""
    own = bridge.bridge if bridge is not None else None
    return own_vlans(own) if own is not None else ()


def own_vlans(bridge: Bridge) -> tuple[Vlans, ...]:
    """The VLANs with which a bridge of these options begins."""
    if not (bridge.vlan_filtering and bridge.default_pvid):
        return ()
    return (one_vlan(bridge.default_pvid, access=True),)


def one_vlan(number: int, *, access: bool = False) -> Vlans:
    """One VLAN: with the tag, or as `access`, without."""
    return Vlans(first=number, last=number, pvid=access, untagged=access)


def put_vlans(there: tuple[Vlans, ...], added: Vlans) -> tuple[Vlans, ...]:
    """What a port is in, with more; what was the PVID is none any more if there is a new one."""
    found = each_vlan(there)
    if added.pvid:
        found = {number: replace(one, pvid=False) for number, one in found.items()}
    return ranges(found | each_vlan((added,)))


def drop_vlans(there: tuple[Vlans, ...], dropped: Vlans) -> tuple[Vlans, ...]:
    """What a port is in, less some."""
    return ranges({number: one for number, one in each_vlan(there).items() if number not in numbers(dropped)})


def is_in(link: Link, number: int) -> bool:
    """Whether a port is in a VLAN, however."""
    return any(number in numbers(vlans) for vlans in link.vlans)


def find_pvid(link: Link) -> int | None:
    """The VLAN of what arrives at a port without a tag."""
    return next((vlans.first for vlans in link.vlans if vlans.pvid), None)


def tells_vlans_apart(bridge: Link) -> bool:
    """Whether a link is a bridge that looks at the tags of frames."""
    return bridge.bridge is not None and bridge.bridge.vlan_filtering


def numbers(vlans: Vlans) -> range:
    """The numbers of VLANs."""
    return range(vlans.first, vlans.last + 1)


def each_vlan(several: Iterable[Vlans]) -> dict[int, Vlans]:
    """Every VLAN by its number, by itself."""
    return {number: replace(vlans, first=number, last=number) for vlans in several for number in numbers(vlans)}


def ranges(each: dict[int, Vlans]) -> tuple[Vlans, ...]:
    """VLANs of which those that follow one another and are alike are told together, as the kernel does."""
    found: list[Vlans] = []
    for number, one in sorted(each.items()):
        if found and replace(found[-1], first=number, last=number) == one and found[-1].last == number - 1:
            found[-1] = replace(found[-1], last=number)
        else:
            found.append(one)
    return tuple(found)
