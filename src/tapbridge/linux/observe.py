"""Reading the host by rtnetlink: a State of either scope, less what processes, files and D-Bus know."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import Final

from tapbridge.linux import uapi
from tapbridge.linux.attributes import decode_ip, decode_u32, pack_name, pack_u32, walk
from tapbridge.linux.channel import Channel
from tapbridge.linux.decode_addresses import NEIGHBOUR, decode_addresses, decode_forwarding, decode_neighbours
from tapbridge.linux.decode_links import decode_links, decode_sysctls, decode_vlans
from tapbridge.linux.decode_routes import ROUTE, decode_routes, decode_rules
from tapbridge.linux.holds import observe_holds
from tapbridge.linux.sysctls import read_sysctls
from tapbridge.linux.wireless import find_wireless
from tapbridge.model.noun import replace
from tapbridge.model.state import PROTO_RA, Link, Rule, Scope, State
from tapbridge.model.values import Family

_PROXIES: Final = NEIGHBOUR.pack(0, 0, 0, uapi.NTF_PROXY, 0)
_SMALL: Final = (Scope.LINKS, Scope.GUESTS)
_AF: Final = {4: uapi.AF_INET, 6: uapi.AF_INET6}
_LINK_HEADER: Final = bytes(16)
_LEAN: Final = pack_u32(uapi.IFLA_EXT_MASK, uapi.RTEXT_FILTER_SKIP_STATS)
_FEW: Final = 8  # links that are asked for one by one


def observe_kernel(channel: Channel, scope: Scope) -> State:
    """What the kernel says of itself. Raises OSError and Malformed.

    The links are read last: what came with a link later is not there yet, what went with a link before is left out.
    """
    told_addresses = channel.dump(uapi.RTM_GETADDR, bytes(8))
    neighbours, forwarding = ([], []) if scope is Scope.LINKS else _read_neighbours(channel)
    routes, rules = ([], []) if scope in _SMALL else _read_routing(channel)
    told_links = channel.dump(uapi.RTM_GETLINK, _LINK_HEADER + _LEAN)
    links = with_vlans(channel, _with_wireless(decode_links(told_links), scope))
    names = {link.index: link.name for link in links}
    return State(
        scope=scope,
        kernel=kernel_version(),
        links=links,
        addresses=decode_addresses(told_addresses, names),
        routes=decode_routes(routes, names),
        rules=decode_rules(rules),
        neighbours=decode_neighbours(neighbours, names),
        sysctls=() if scope in _SMALL else decode_sysctls(told_links, links) + read_sysctls(),
        forwarding=decode_forwarding(forwarding, names),
        holds=observe_holds(channel, told_links, links) if scope in _SMALL else (),
    ).sorted()


def _read_neighbours(channel: Channel) -> tuple[list[bytes], list[bytes]]:
    neighbours = channel.dump(uapi.RTM_GETNEIGH, bytes(12)) + channel.dump(uapi.RTM_GETNEIGH, _PROXIES)
    return neighbours, channel.dump(uapi.RTM_GETNEIGH, bytes((uapi.AF_BRIDGE,)) + bytes(11))


def _read_routing(channel: Channel) -> tuple[list[bytes], list[bytes]]:
    routes = _of_family(channel, uapi.RTM_GETROUTE, 4) + _of_family(channel, uapi.RTM_GETROUTE, 6)
    return routes, _of_family(channel, uapi.RTM_GETRULE, 4) + _of_family(channel, uapi.RTM_GETRULE, 6)


def kernel_version() -> tuple[int, int]:
    """Major and minor number of the running kernel."""
    major, _, rest = os.uname().release.partition(".")
    minor = rest.split(".")[0].split("-")[0].rstrip("+")
    return int(major), int(minor)


def _of_family(channel: Channel, kind: int, family: Family, rest: bytes = bytes(11)) -> list[bytes]:
    """A kernel without IPv6 knows no rules of it, and answers with the routes of all families that it has."""
    number = _AF[family]
    try:
        return [body for body in channel.dump(kind, bytes((number,)) + rest) if body[0] == number]
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT:
            return []
        raise


def _with_wireless(links: tuple[Link, ...], scope: Scope) -> tuple[Link, ...]:
    """How many addresses the frames of a station have matters to plans alone."""
    cards = [link for link in links if link.kind == "" and link.ethernet]
    stations = find_wireless(cards) if cards else frozenset()
    if not stations:
        return links
    links = tuple(replace(link, kind="wifi") if link.name in stations else link for link in links)
    if scope in _SMALL:
        return links
    from tapbridge.linux.four_address import has_four_addresses

    return tuple(replace(x, four_address=x.kind == "wifi" and has_four_addresses(x.index)) for x in links)


def with_vlans(channel: Channel, links: tuple[Link, ...]) -> tuple[Link, ...]:
    """Asked only where a bridge tells VLANs apart: what a port is in means nothing elsewhere."""
    filtering = {link.name for link in links if link.bridge is not None and link.bridge.vlan_filtering}
    if not filtering:
        return links
    compressed = pack_u32(uapi.IFLA_EXT_MASK, uapi.RTEXT_FILTER_BRVLAN_COMPRESSED)
    found = decode_vlans(channel.dump(uapi.RTM_GETLINK, bytes((uapi.AF_BRIDGE,)) + bytes(15) + compressed))
    return tuple(
        replace(link, vlans=found.get(link.index, ())) if {link.name, link.master} & filtering else link
        for link in links
    )


def find_link(channel: Channel, name: str) -> Link | None:
    """The link of that name; an altname is not one. Raises OSError and Malformed."""
    try:
        body = channel.ask(uapi.RTM_GETLINK, _LINK_HEADER + pack_name(uapi.IFLA_IFNAME, name) + _LEAN)
    except OSError as error:
        if error.errno == errno.ENODEV:
            return None
        raise
    link = decode_links((body,))[0]
    return link if link.name == name else None


def find_links(channel: Channel, names: Sequence[str]) -> tuple[Link, ...]:
    """Those of these names that there are. Raises OSError and Malformed.

    Of one dump where there are many: of the 390 ms that the deletion of 500 taps took, 30 went into asking for each.
    """
    if len(names) <= _FEW:
        return tuple(link for name in names if (link := find_link(channel, name)) is not None)
    told, wanted = channel.dump(uapi.RTM_GETLINK, _LINK_HEADER + _LEAN), frozenset(names)
    return tuple(link for link in decode_links(told) if link.name in wanted)


def observe_rules(channel: Channel, family: Family) -> tuple[Rule, ...]:
    """The rules of a family in the kernel's order. Raises OSError and Malformed."""
    return decode_rules(_of_family(channel, uapi.RTM_GETRULE, family))


def read_table(channel: Channel, family: Family, table: int) -> list[bytes]:
    """The routes of one table, not yet decoded. Raises OSError and Malformed."""
    try:
        return _of_family(channel, uapi.RTM_GETROUTE, family, bytes(11) + pack_u32(uapi.RTA_TABLE, table))
    except FileNotFoundError:  # no such table
        return []


def read_router_routes(channel: Channel, index: int) -> list[bytes]:
    """The IPv6 routes that routers have advertised on the link of that number, not yet decoded; an older kernel tells
    others with them. Raises OSError and Malformed."""
    wanted = bytes((0, 0, 0, 0, PROTO_RA)) + bytes(6) + pack_u32(uapi.RTA_OIF, index)
    return _of_family(channel, uapi.RTM_GETROUTE, 6, wanted)


def find_local_v6(channel: Channel, index: int) -> frozenset[str]:
    """The IPv6 addresses for which the link takes packets: those with a local route. Raises OSError and Malformed."""
    local = [
        body for body in read_table(channel, 6, uapi.RT_TABLE_LOCAL) if ROUTE.unpack_from(body)[7] == uapi.RTN_LOCAL
    ]
    told = [walk(body, ROUTE.size) for body in local]
    return frozenset(
        decode_ip(found[uapi.RTA_DST])
        for found in told
        if uapi.RTA_DST in found and decode_u32(found.get(uapi.RTA_OIF)) == index
    )
