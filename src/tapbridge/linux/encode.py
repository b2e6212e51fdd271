"""Steps as requests to rtnetlink. Pure: names become numbers by a function that is given.

The `ip` command that equals a step is in core/describe.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from typing import Final

from tapbridge.linux import uapi
from tapbridge.linux.attributes import U16, U32, encode_ip, nest, pack, pack_ip, pack_mac, pack_name, pack_u8, pack_u32
from tapbridge.linux.channel import Request
from tapbridge.linux.decode_addresses import ADDRESS, FAMILIES, NEIGHBOUR
from tapbridge.linux.decode_links import LINK
from tapbridge.linux.decode_routes import ACTIONS, HOP, ROUTE, RULE, TYPES
from tapbridge.linux.port_flags import PORT_FLAGS
from tapbridge.model import step as steps
from tapbridge.model.port import Port
from tapbridge.model.state import (
    MANAGETEMPADDR,
    NODAD,
    NOPREFIXROUTE,
    Address,
    Neighbour,
    Nexthop,
    Route,
    Rule,
    Vlans,
)
from tapbridge.model.step import Step
from tapbridge.model.values import Family

IndexOf = Callable[[str], int]

_AF: Final = {family: number for number, family in FAMILIES.items()}
_ACTIONS: Final = {word: number for number, word in ACTIONS.items()}
_ABSENT: Final = (errno.ENOENT, errno.ESRCH, errno.ENODEV, errno.EADDRNOTAVAIL)
_NO_IPV6: Final = errno.ENXIO  # what a link without IPv6 says of any address of it
_MAKE: Final = uapi.NLM_F_CREATE | uapi.NLM_F_EXCL
_PUT: Final = uapi.NLM_F_CREATE | uapi.NLM_F_REPLACE
_PROPERTY: Final = uapi.NLM_F_CREATE | uapi.NLM_F_EXCL | uapi.NLM_F_APPEND


def encode_step(step: Step, index_of: IndexOf) -> list[Request]:
    """The requests of one of KERNEL_STEPS. Raises OSError for what cannot be said, and what `index_of` raises."""
    match step:
        case steps.PutAddress(address=address):
            return [Request(uapi.RTM_NEWADDR, _PUT, _address_to_put(address, index_of, dad=step.dad))]
        case steps.DeleteAddress(address=address):
            return [Request(uapi.RTM_DELADDR, 0, _address(address, index_of, 0), (*_ABSENT, _NO_IPV6))]
        case steps.PutRoute(route=route):
            return [Request(uapi.RTM_NEWROUTE, _PUT, _route(route, index_of))]
        case steps.AddRoute(route=route):
            flags = uapi.NLM_F_CREATE if step.first or route.family == 6 else uapi.NLM_F_CREATE | uapi.NLM_F_APPEND
            return [Request(uapi.RTM_NEWROUTE, flags, _route(route, index_of))]
        case steps.DeleteRoute(route=route):
            return [Request(uapi.RTM_DELROUTE, 0, _route(route, index_of), _ABSENT)]
        case steps.PutNeighbour(neighbour=neighbour):
            return [Request(uapi.RTM_NEWNEIGH, _PUT, _neighbour(neighbour, index_of))]
        case steps.DeleteNeighbour(neighbour=neighbour):
            return [Request(uapi.RTM_DELNEIGH, 0, _neighbour_key(neighbour, index_of), _ABSENT)]
        case steps.AddRule(rule=rule):
            return [Request(uapi.RTM_NEWRULE, _MAKE, _rule(rule), (errno.EEXIST,))]
        case steps.DeleteRule(rule=rule):
            return [Request(uapi.RTM_DELRULE, 0, _rule(rule), _ABSENT)]
    return _encode_link_step(step, index_of)


def _encode_link_step(step: Step, index_of: IndexOf) -> list[Request]:
    match step:
        case steps.AddLink():
            return _links_to_add(step, index_of)
        case steps.DeleteLink():
            return [Request(uapi.RTM_DELLINK, 0, LINK.pack(0, 0, index_of(step.link), 0, 0), _ABSENT)]
        case steps.SetUp():
            return [_raised(index_of(step.link), up=step.up)]
        case steps.SetMaster():
            master = 0 if step.master is None else index_of(step.master)
            return [_changed(index_of(step.link), pack_u32(uapi.IFLA_MASTER, master))]
        case steps.SetMtu():
            return [_changed(index_of(step.link), pack_u32(uapi.IFLA_MTU, step.mtu))]
        case steps.SetMac():
            return [_changed(index_of(step.link), pack_mac(uapi.IFLA_ADDRESS, step.mac))]
        case steps.SetAlias():
            alias = (step.alias or "").encode("utf-8", "surrogateescape")
            return [_changed(index_of(step.link), pack(uapi.IFLA_IFALIAS, alias))]
        case steps.RenameLink():
            return [_changed(index_of(step.link), pack_name(uapi.IFLA_IFNAME, step.to))]
        case steps.SetAddressGeneration():
            return _generation(step, index_of(step.link))
        case steps.SetPort():
            header = LINK.pack(uapi.AF_BRIDGE, 0, index_of(step.link), 0, 0)
            return [Request(uapi.RTM_SETLINK, 0, header + _port(step.port))]
        case steps.PutPortAddress():
            state = uapi.NUD_NOARP | uapi.NUD_REACHABLE
            body = NEIGHBOUR.pack(uapi.AF_BRIDGE, index_of(step.link), state, uapi.NTF_MASTER, 0)
            return [Request(uapi.RTM_NEWNEIGH, _MAKE, body + pack_mac(uapi.NDA_LLADDR, step.mac))]
        case steps.SetVlanFiltering():
            return [_changed(index_of(step.link), _bridge_options(pack_u8(uapi.IFLA_BR_VLAN_FILTERING, step.on)))]
        case steps.PutVlans():
            return [Request(uapi.RTM_SETLINK, 0, _vlans(step.vlans, index_of(step.link)))]
        case steps.DeleteVlans():
            return [Request(uapi.RTM_DELLINK, 0, _vlans(step.vlans, index_of(step.link)), _ABSENT)]
    raise TypeError(f"{type(step).__name__} is no message to the kernel")


def _changed(index: int, *attributes: bytes) -> Request:
    return Request(uapi.RTM_NEWLINK, 0, LINK.pack(0, 0, index, 0, 0) + b"".join(attributes))


def _raised(index: int, *attributes: bytes, up: bool = True) -> Request:
    header = LINK.pack(0, 0, index, uapi.IFF_UP if up else 0, uapi.IFF_UP)
    return Request(uapi.RTM_NEWLINK, 0, header + b"".join(attributes))


def _links_to_add(step: steps.AddLink, index_of: IndexOf) -> list[Request]:
    """A veth's far end cannot be made up: veth_open() wants a peer, and it has none yet. It is raised by its name."""
    mtu = b"" if step.mtu is None else pack_u32(uapi.IFLA_MTU, step.mtu)
    options = b""
    if step.bridge is not None:
        options = pack_u32(uapi.IFLA_BR_FORWARD_DELAY, step.bridge.forward_delay)
        options += pack_u32(uapi.IFLA_BR_STP_STATE, step.bridge.stp)
        options += pack_u8(uapi.IFLA_BR_MCAST_SNOOPING, step.bridge.mcast_snooping)
        if step.bridge.vlan_filtering:  # a kernel without VLANs refuses even a 0
            options += pack_u8(uapi.IFLA_BR_VLAN_FILTERING, 1)
    if step.peer is not None:
        options = nest(uapi.VETH_INFO_PEER, LINK.pack(0, 0, 0, 0, 0), pack_name(uapi.IFLA_IFNAME, step.peer), mtu)
    made = _raised(
        0,
        pack_name(uapi.IFLA_IFNAME, step.name),
        pack_mac(uapi.IFLA_ADDRESS, step.mac),
        mtu,
        b"" if step.master is None else pack_u32(uapi.IFLA_MASTER, index_of(step.master)),
        nest(uapi.IFLA_LINKINFO, pack_name(uapi.IFLA_INFO_KIND, step.kind), nest(uapi.IFLA_INFO_DATA, options)),
        up=step.up,
    )
    requests = [Request(made.kind, _MAKE, made.body)]
    return requests if step.peer is None else [*requests, _raised(0, pack_name(uapi.IFLA_IFNAME, step.peer))]


def encode_tap(step: steps.AddTap, index_of: IndexOf) -> list[Request]:
    """The requests that make a tap what it is to be while its maker has it open, and it has a carrier.

    First it is said to be dormant, and stays so until the kernel's worker has seen that nobody has it open any more: a
    bridge sets a port to work by its operstate (netif_oper_up() in br_device_event()), so the bridge gets no carrier by
    it. Raises what `index_of` raises.
    """
    index = index_of(step.name)
    dormant = pack_u8(uapi.IFLA_OPERSTATE, uapi.IF_OPER_DORMANT)
    requests = [_changed(index, dormant)]
    if step.addr_gen_mode is not None:
        requests = [_of_ipv6(index, pack_u8(uapi.IFLA_INET6_ADDR_GEN_MODE, step.addr_gen_mode), dormant)]
    if step.altnames:
        names = nest(uapi.IFLA_PROP_LIST, *(pack_name(uapi.IFLA_ALT_IFNAME, name) for name in step.altnames))
        requests.append(Request(uapi.RTM_NEWLINKPROP, _PROPERTY, LINK.pack(0, 0, index, 0, 0) + names))
    alias = b"" if step.alias is None else pack(uapi.IFLA_IFALIAS, step.alias.encode("utf-8", "surrogateescape"))
    mtu = b"" if step.mtu is None else pack_u32(uapi.IFLA_MTU, step.mtu)
    master = b"" if step.master is None else pack_u32(uapi.IFLA_MASTER, index_of(step.master))
    return [*requests, _raised(index, alias, mtu, master, up=step.up)]


def _generation(step: steps.SetAddressGeneration, index: int) -> list[Request]:
    """A link without IPv6 makes no addresses anyway; one that heeds no advertisements refuses any token, which would
    mean nothing there."""
    mode, token = pack_u8(uapi.IFLA_INET6_ADDR_GEN_MODE, step.mode), pack_ip(uapi.IFLA_INET6_TOKEN, step.token or "::")
    return [_of_ipv6(index, mode), _of_ipv6(index, token, forgiven=errno.EINVAL)]


def _of_ipv6(index: int, attribute: bytes, *others: bytes, forgiven: int = errno.EAFNOSUPPORT) -> Request:
    request = _changed(index, nest(uapi.IFLA_AF_SPEC, nest(uapi.AF_INET6, attribute)), *others)
    return Request(request.kind, 0, request.body, (forgiven, errno.EAFNOSUPPORT))


def _port(port: Port) -> bytes:
    """All but the port's STP state, which is the kernel's to decide."""
    return nest(
        uapi.IFLA_PROTINFO,
        pack(uapi.IFLA_BRPORT_PRIORITY, U16.pack(port.priority)),
        *(pack_u8(attribute, getattr(port, field)) for field, attribute in PORT_FLAGS.items()),
    )


def _bridge_options(*options: bytes) -> bytes:
    kind = pack_name(uapi.IFLA_INFO_KIND, "bridge")
    return nest(uapi.IFLA_LINKINFO, kind, nest(uapi.IFLA_INFO_DATA, *options))


def _vlans(vlans: Vlans, index: int) -> bytes:
    """A port and its VLANs; more than one are told by the first and the last."""
    flags = uapi.BRIDGE_VLAN_INFO_PVID * vlans.pvid | uapi.BRIDGE_VLAN_INFO_UNTAGGED * vlans.untagged
    told = [(flags, vlans.first)]
    if vlans.first != vlans.last:
        begin, end = uapi.BRIDGE_VLAN_INFO_RANGE_BEGIN, uapi.BRIDGE_VLAN_INFO_RANGE_END
        told = [(flags | begin, vlans.first), (flags | end, vlans.last)]
    each = (pack(uapi.IFLA_BRIDGE_VLAN_INFO, struct.pack("=HH", *one)) for one in told)
    return LINK.pack(uapi.AF_BRIDGE, 0, index, 0, 0) + nest(uapi.IFLA_AF_SPEC, *each)


def _address(address: Address, index_of: IndexOf, flags: int) -> bytes:
    header = ADDRESS.pack(_AF[address.family], address.prefix, flags & 0xFF, address.scope, index_of(address.link))
    return header + pack_ip(uapi.IFA_LOCAL, address.ip) + pack_ip(uapi.IFA_ADDRESS, address.peer or address.ip)


def _metric_to_put(address: Address) -> bytes:
    """In IPv6 silence keeps the metric that an address has; saying 256 would be shown for ever (`ip -6 addr`)."""
    if address.family == 6 and not address.metric:
        return b""
    return pack_u32(uapi.IFA_RT_PRIORITY, address.metric)


def _address_to_put(address: Address, index_of: IndexOf, *, dad: bool) -> bytes:
    flags = address.flags & (NODAD | NOPREFIXROUTE | MANAGETEMPADDR) | (0 if dad else NODAD)
    forever = uapi.INFINITY_LIFE_TIME
    valid = forever if address.valid_lft is None else max(address.valid_lft, 1)
    preferred = min(valid, forever if address.preferred_lft is None else address.preferred_lft)
    return b"".join(
        (
            _address(address, index_of, flags),
            pack_u32(uapi.IFA_FLAGS, flags),
            pack(uapi.IFA_CACHEINFO, struct.pack("=IIII", preferred, valid, 0, 0)),
            pack_name(uapi.IFA_LABEL, address.label),
            pack_ip(uapi.IFA_BROADCAST, address.broadcast),
            _metric_to_put(address),
            pack_u8(uapi.IFA_PROTO, address.proto) if address.proto else b"",
        )
    )


def _route(route: Route, index_of: IndexOf) -> bytes:
    dst_bits, dst = _prefix(uapi.RTA_DST, route.dst)
    src_bits, src = _prefix(uapi.RTA_SRC, route.src)
    flags, ways = _ways(route.nexthops, route.family, index_of)
    if route.nexthop_object:
        flags, ways = 0, pack_u32(uapi.RTA_NH_ID, route.nexthop_object)
    table = uapi.RT_TABLE_COMPAT if route.table > 255 else route.table
    kind = TYPES.index(route.type)
    return b"".join(
        (
            ROUTE.pack(
                _AF[route.family], dst_bits, src_bits, route.tos, table, route.protocol, route.scope, kind, flags
            ),
            dst,
            src,
            pack_u32(uapi.RTA_TABLE, route.table),
            pack_u32(uapi.RTA_PRIORITY, route.metric) if route.metric else b"",
            pack_ip(uapi.RTA_PREFSRC, route.prefsrc),
            nest(uapi.RTA_METRICS, *(_metric(*metric) for metric in route.metrics)) if route.metrics else b"",
            pack_u32(uapi.RTA_FLOW, route.realm) if route.realm else b"",
            pack_u8(uapi.RTA_PREF, route.pref) if route.pref else b"",
            pack_u32(uapi.RTA_EXPIRES, max(route.expires, 1)) if route.expires is not None else b"",
            ways,
        )
    )


def _prefix(number: int, prefix: str | None) -> tuple[int, bytes]:
    if prefix is None:
        return 0, b""
    network, _, bits = prefix.partition("/")
    return int(bits), pack_ip(number, network) if bits != "0" else b""


def _metric(number: int, value: int | str) -> bytes:
    return pack_name(number, value) if isinstance(value, str) else pack(number, U32.pack(value))


def _ways(hops: tuple[Nexthop, ...], family: Family, index_of: IndexOf) -> tuple[int, bytes]:
    """The flags of a route's header, and the attributes that say where it leads."""
    ways = [_way(hop, family, index_of) for hop in hops]
    if len(ways) == 1:
        index, flags, gateway = ways[0]
        return flags, gateway + (pack_u32(uapi.RTA_OIF, index) if index else b"")
    several = b"".join(
        HOP.pack(HOP.size + len(gateway), flags, hop.weight - 1, index) + gateway
        for hop, (index, flags, gateway) in zip(hops, ways, strict=True)
    )
    return 0, nest(uapi.RTA_MULTIPATH, several) if several else b""


def _way(hop: Nexthop, family: Family, index_of: IndexOf) -> tuple[int, int, bytes]:
    if hop.encap is not None:
        raise OSError(errno.EOPNOTSUPP, f"a route with {hop.encap} encapsulation cannot be made again")
    gateway = pack_ip(uapi.RTA_GATEWAY, hop.gateway)
    if hop.gateway is not None and (":" in hop.gateway) != (family == 6):
        gateway = pack(uapi.RTA_VIA, U16.pack(_AF[4 if family == 6 else 6]) + encode_ip(hop.gateway))
    return 0 if hop.link is None else index_of(hop.link), uapi.RTNH_F_ONLINK if hop.onlink else 0, gateway


def _neighbour_key(one: Neighbour, index_of: IndexOf) -> bytes:
    header = NEIGHBOUR.pack(_AF[one.family], index_of(one.link), 0, one.flags & uapi.NTF_PROXY, 0)
    return header + pack_ip(uapi.NDA_DST, one.ip)


def _neighbour(one: Neighbour, index_of: IndexOf) -> bytes:
    return b"".join(
        (
            NEIGHBOUR.pack(_AF[one.family], index_of(one.link), one.state, one.flags & 0xFF, 0),
            pack_ip(uapi.NDA_DST, one.ip),
            pack_mac(uapi.NDA_LLADDR, one.mac),
            pack_u32(uapi.NDA_FLAGS_EXT, one.flags >> 8) if one.flags >> 8 else b"",
            pack_u8(uapi.NDA_PROTOCOL, one.protocol) if one.protocol else b"",
        )
    )


def _rule(rule: Rule) -> bytes:
    dst_bits, dst = _prefix(uapi.FRA_DST, rule.dst)
    src_bits, src = _prefix(uapi.FRA_SRC, rule.src)
    action = _ACTIONS[rule.action] if rule.action in _ACTIONS else int(rule.action)
    table = uapi.RT_TABLE_COMPAT if rule.table > 255 else rule.table
    flags = uapi.FIB_RULE_INVERT if rule.invert else 0
    return b"".join(
        (
            RULE.pack(_AF[rule.family], dst_bits, src_bits, rule.tos, table, 0, 0, action, flags),
            dst,
            src,
            pack_name(uapi.FRA_IIFNAME, rule.iif),
            pack_name(uapi.FRA_OIFNAME, rule.oif),
            pack_u32(uapi.FRA_PRIORITY, rule.priority),
            pack_u32(uapi.FRA_TABLE, rule.table) if rule.table else b"",
            pack_u32(uapi.FRA_FWMARK, rule.fwmark) if rule.fwmark is not None else b"",
            pack_u32(uapi.FRA_FWMASK, rule.fwmask) if rule.fwmask is not None else b"",
            pack_u8(uapi.FRA_PROTOCOL, rule.protocol) if rule.protocol else b"",
            *(pack(number, bytes.fromhex(value)) for number, value in rule.rest),
        )
    )
