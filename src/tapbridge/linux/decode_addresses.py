"""RTM_NEWADDR and RTM_NEWNEIGH: addresses, neighbours, and the entries of bridges' forwarding databases. Pure.

Links go by the names that are given; what is on a link without one, because the link has gone meanwhile, is left out.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Final

from tapbridge.linux import uapi
from tapbridge.linux.attributes import (
    careful,
    decode_ip,
    decode_mac,
    decode_name,
    decode_u8,
    decode_u32,
    walk,
)
from tapbridge.model.state import (
    DADFAILED,
    DEPRECATED,
    MANAGETEMPADDR,
    NODAD,
    NOPREFIXROUTE,
    PERMANENT,
    SECONDARY,
    STABLE_PRIVACY,
    TENTATIVE,
    Address,
    ForwardingEntry,
    Neighbour,
)
from tapbridge.model.values import Family, IfName

ADDRESS: Final = struct.Struct("=BBBBi")  # struct ifaddrmsg: family, prefix, flags, scope, index
NEIGHBOUR: Final = struct.Struct("=B3xiHBB")  # struct ndmsg: family, index, state, flags, type
_LIFETIMES: Final = struct.Struct("=II8x")  # struct ifa_cacheinfo: preferred, valid, two times
FAMILIES: Final[dict[int, Family]] = {uapi.AF_INET: 4, uapi.AF_INET6: 6}
_FOREVER: Final = uapi.INFINITY_LIFE_TIME
_USER_HZ: Final = 100  # asm-generic/param.h
_FOREVER_BOTH: Final = _LIFETIMES.pack(_FOREVER, _FOREVER)
_FLAGS: Final = (
    SECONDARY | NODAD | DADFAILED | DEPRECATED | TENTATIVE | PERMANENT | MANAGETEMPADDR | NOPREFIXROUTE | STABLE_PRIVACY
)


@careful
def decode_addresses(bodies: Iterable[bytes], names: Mapping[int, IfName]) -> tuple[Address, ...]:
    """The addresses of a dump in its order. Raises Malformed."""
    addresses = []
    for body in bodies:
        number, prefix, flags, scope, index = ADDRESS.unpack_from(body)
        family, link = FAMILIES.get(number), names.get(index)
        if family is None or link is None:
            continue
        found = walk(body, ADDRESS.size)
        other = found[uapi.IFA_ADDRESS]
        local = found.get(uapi.IFA_LOCAL, other)
        preferred, valid = _LIFETIMES.unpack(found.get(uapi.IFA_CACHEINFO, _FOREVER_BOTH))
        addresses.append(
            Address(
                link=link,
                family=family,
                ip=decode_ip(local),
                prefix=prefix,
                peer=decode_ip(other) if other != local else None,
                broadcast=decode_ip(found[uapi.IFA_BROADCAST]) if uapi.IFA_BROADCAST in found else None,
                label=decode_name(found[uapi.IFA_LABEL]) if uapi.IFA_LABEL in found else None,
                scope=scope,
                flags=decode_u32(found.get(uapi.IFA_FLAGS), flags) & _FLAGS,
                valid_lft=None if valid == _FOREVER else valid,
                preferred_lft=None if preferred == _FOREVER else preferred,
                metric=decode_u32(found.get(uapi.IFA_RT_PRIORITY)),
                proto=decode_u8(found.get(uapi.IFA_PROTO)),
            )
        )
    return tuple(addresses)


@careful
def decode_neighbours(bodies: Iterable[bytes], names: Mapping[int, IfName]) -> tuple[Neighbour, ...]:
    """The neighbours of a dump but what the kernel makes for itself. Raises Malformed."""
    neighbours = []
    for body in bodies:
        number, index, state, flags, _ = NEIGHBOUR.unpack_from(body)
        family, link = FAMILIES.get(number), names.get(index)
        found = walk(body, NEIGHBOUR.size)
        mac = found.get(uapi.NDA_LLADDR, b"")
        if family is None or link is None or uapi.NDA_DST not in found or _is_the_kernels_own(state, flags, mac):
            continue
        neighbours.append(
            Neighbour(
                link=link,
                family=family,
                ip=decode_ip(found[uapi.NDA_DST]),
                mac=decode_mac(mac),
                state=state,
                flags=flags | decode_u32(found.get(uapi.NDA_FLAGS_EXT)) << 8,
                protocol=decode_u8(found.get(uapi.NDA_PROTOCOL)),
                confirmed_s=_decode_confirmed(state, found.get(uapi.NDA_CACHEINFO)),
            )
        )
    return tuple(neighbours)


def _decode_confirmed(state: int, cache: bytes | None) -> float | None:
    """The first number of struct nda_cacheinfo, for an entry that was learnt."""
    if cache is None or state & (uapi.NUD_PERMANENT | uapi.NUD_NOARP):
        return None
    return decode_u32(cache[:4]) / _USER_HZ


def _is_the_kernels_own(state: int, flags: int, mac: bytes) -> bool:
    """Entries that are there because somebody sent: of multicast and broadcast, of links without ARP, or empty."""
    if flags & uapi.NTF_PROXY:
        return False
    return state == 0 or (bool(state & uapi.NUD_NOARP) and (not any(mac) or bool(mac[0] & 1)))


@careful
def decode_forwarding(bodies: Iterable[bytes], names: Mapping[int, IfName]) -> tuple[ForwardingEntry, ...]:
    """What bridges know of a dump of AF_BRIDGE; what cards filter for themselves has no master. Raises Malformed."""
    entries = []
    for body in bodies:
        _, index, state, _, _ = NEIGHBOUR.unpack_from(body)
        found = walk(body, NEIGHBOUR.size)
        mac = decode_mac(found.get(uapi.NDA_LLADDR))
        bridge, port = names.get(decode_u32(found.get(uapi.NDA_MASTER))), names.get(index)
        if bridge is not None and port is not None and mac is not None:
            local, static = bool(state & uapi.NUD_PERMANENT), bool(state & uapi.NUD_NOARP)
            entries.append(ForwardingEntry(bridge=bridge, port=port, mac=mac, local=local, static=static))
    return tuple(dict.fromkeys(entries))  # a VLAN-aware bridge tells an entry once per VLAN
