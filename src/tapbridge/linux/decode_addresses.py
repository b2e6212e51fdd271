"""RTM_NEWADDR and RTM_NEWNEIGH: addresses, neighbours, and the entries of bridges' forwarding databases. Pure.

Numbers are those of include/uapi/linux/if_addr.h and neighbour.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Final

from tapbridge.linux.attributes import U32, UnknownLink, careful, decode_ip, decode_mac, decode_name, walk
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

_ADDRESS: Final = struct.Struct("=BBBBi")  # struct ifaddrmsg: family, prefix, flags, scope, index
_NEIGHBOUR: Final = struct.Struct("=B3xiHBB")  # struct ndmsg: family, index, state, flags, type
_LIFETIMES: Final = struct.Struct("=II")  # struct ifa_cacheinfo begins with: preferred, valid
_FOREVER: Final = 0xFFFFFFFF
_FLAGS: Final = (
    SECONDARY | NODAD | DADFAILED | DEPRECATED | TENTATIVE | PERMANENT | MANAGETEMPADDR | NOPREFIXROUTE | STABLE_PRIVACY
)
_NOARP: Final = 0x40  # NUD_NOARP
_PERMANENT: Final = 0x80  # NUD_PERMANENT
FAMILIES: Final[dict[int, Family]] = {2: 4, 10: 6}


def named(names: Mapping[int, IfName], index: int) -> IfName:
    """The name of a link. Raises UnknownLink."""
    name = names.get(index)
    if name is None:
        raise UnknownLink(f"link {index} came while the host was read")
    return name


@careful
def decode_addresses(bodies: Iterable[bytes], names: Mapping[int, IfName]) -> tuple[Address, ...]:
    """The addresses of a dump in its order. Raises Malformed, UnknownLink."""
    addresses = []
    for body in bodies:
        number, prefix, flags, scope, index = _ADDRESS.unpack_from(body)
        family = FAMILIES.get(number)
        if family is None:
            continue
        found = walk(body, _ADDRESS.size)
        local = found.get(2) or found[1]  # IFA_LOCAL, else IFA_ADDRESS
        other = found.get(1, local)
        preferred, valid = _LIFETIMES.unpack_from(found[6]) if 6 in found else (_FOREVER, _FOREVER)
        addresses.append(
            Address(
                link=named(names, index),
                family=family,
                ip=decode_ip(local),
                prefix=prefix,
                peer=decode_ip(other) if other != local else None,
                broadcast=decode_ip(found[4]) if 4 in found else None,
                label=decode_name(found[3]) if 3 in found else None,
                scope=scope,
                flags=(U32.unpack(found[8])[0] if 8 in found else flags) & _FLAGS,
                valid_lft=None if valid == _FOREVER else valid,
                preferred_lft=None if preferred == _FOREVER else preferred,
                metric=U32.unpack(found[9])[0] if 9 in found else 0,
                proto=found[11][0] if 11 in found else 0,
            )
        )
    return tuple(addresses)


@careful
def decode_neighbours(bodies: Iterable[bytes], names: Mapping[int, IfName]) -> tuple[Neighbour, ...]:
    """The neighbours of a dump but what the kernel makes for itself. Raises Malformed, UnknownLink."""
    neighbours = []
    for body in bodies:
        number, index, state, flags, _ = _NEIGHBOUR.unpack_from(body)
        family = FAMILIES.get(number)
        found = walk(body, _NEIGHBOUR.size)
        if family is None or 1 not in found or _is_the_kernels_own(state, flags, found.get(2, b"")):
            continue
        extended = U32.unpack(found[15])[0] if 15 in found else 0  # NDA_FLAGS_EXT
        neighbours.append(
            Neighbour(
                link=named(names, index),
                family=family,
                ip=decode_ip(found[1]),
                mac=decode_mac(found.get(2)),
                state=state,
                flags=flags | extended << 8,
                protocol=found[12][0] if 12 in found else 0,
            )
        )
    return tuple(neighbours)


def _is_the_kernels_own(state: int, flags: int, mac: bytes) -> bool:
    """Entries that are there because somebody sent: of multicast and broadcast, of links without ARP, or empty."""
    if flags & 0x08:  # NTF_PROXY
        return False
    return state == 0 or (bool(state & _NOARP) and (not any(mac) or bool(mac[0] & 1)))


@careful
def decode_forwarding(bodies: Iterable[bytes], names: Mapping[int, IfName]) -> tuple[ForwardingEntry, ...]:
    """What bridges know of a dump of AF_BRIDGE; what cards filter for themselves has no master. Raises the same."""
    entries = []
    for body in bodies:
        _, index, state, _, _ = _NEIGHBOUR.unpack_from(body)
        found = walk(body, _NEIGHBOUR.size)
        mac = decode_mac(found.get(2))
        if 9 not in found or mac is None:
            continue
        entries.append(
            ForwardingEntry(
                bridge=named(names, U32.unpack(found[9])[0]),
                port=named(names, index),
                mac=mac,
                local=bool(state & _PERMANENT),
                static=bool(state & _NOARP),
            )
        )
    return tuple(dict.fromkeys(entries))  # a VLAN-aware bridge tells an entry once per VLAN
