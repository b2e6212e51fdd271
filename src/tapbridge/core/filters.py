"""The allow-list of a guest's port: what the guest may say of itself, as rules of nf_tables. Pure.

Theory of operation. The rules stand before the bridge (prerouting), and those of a port are reached by the port's
number, which the kernel gives to no other link until the next boot: what a dead guest leaves behind is never met again.
What is not allowed is dropped, so a kind of frame that nobody thought of (a VLAN tag, LLC/SNAP, a BPDU) does not pass.

With `ips` the guest may use these addresses, and the link-local one that is made from its Ethernet address. Without, it
may use any but those that are `denied`: the host's and its routers'. Everything is made of numbers and of addresses
that were parsed, so no text of a user's gets into a rule; protocols are numbers too, because nft looks their names up
in /etc/protocols, which is not everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from tapbridge.model.intent import Guard
from tapbridge.model.state import ALIAS, State
from tapbridge.model.values import IfName, Mac, ip_bits, parse_ip

TABLE: Final = ALIAS
HOOK: Final = "pre"
PORTS: Final = "ports"
ALLOWED: Final = ("dhcp", "macs", "router", "vlan")
"""What a guarded guest may be allowed: to serve or relay DHCP, to use other Ethernet addresses, to advertise itself as
an IPv6 router, to tag."""

CHAINS: Final = ("", "arp", "ip", "ip6", "ll", "na", "icmp6")
"""What the names of a port's chains end with."""

_NS: Final = "ip6 saddr :: ip6 nexthdr 58 icmpv6 type 135"


def parse_allowed(text: str) -> tuple[str, ...]:
    """Words of ALLOWED with commas between them. Raises ValueError."""
    words = text.split(",")
    unknown = [word for word in words if word not in ALLOWED]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is not {', '.join(ALLOWED[:-1])} or {ALLOWED[-1]}")
    return tuple(sorted(set(words)))


def link_local(mac: Mac) -> str:
    """The IPv6 address that a guest makes from its Ethernet address (RFC 4291, appendix A)."""
    raw = bytes.fromhex(mac.replace(":", ""))
    half = bytes((raw[0] ^ 2, *raw[1:3], 0xFF, 0xFE, *raw[3:]))
    return parse_ip("fe80::" + ":".join(half[at : at + 2].hex() for at in range(0, 8, 2)))[1]


def host_ips(state: State, bridge: IfName) -> tuple[str, ...]:
    """The addresses that a host has on a bridge, and those of its routers there: no guest may claim them."""
    own = {address.ip for address in state.addresses if address.link == bridge}
    hops = (hop for route in state.routes for hop in route.nexthops if hop.link == bridge)
    return tuple(sorted(own | {hop.gateway for hop in hops if hop.gateway is not None}))


def filter_rules(port: int | str, guard: Guard) -> dict[str, list[str]]:
    """The rules of each chain of a port, by its name. `port` is the number of the link."""
    four, six = _split(guard.ips if guard.ips is not None else guard.denied)
    if guard.ips is not None:
        six = sorted({*six, link_local(guard.mac)})
    name = chain_name(port)
    return {
        name: _frames(name, guard),
        f"{name}arp": _arp(guard, four),
        f"{name}ip": _ip(guard, four),
        f"{name}ip6": _ip6(name, guard, six),
        f"{name}ll": _link_local_rules(name, guard),
        f"{name}na": _advertisements(guard, six),
        f"{name}icmp6": _icmp6(name, guard),
    }


def chain_name(port: int | str) -> str:
    """The first of a port's chains."""
    return f"g{port}"


def dump_filter(port: int | str, guard: Guard) -> str:
    """The commands that set a port's rules, all in one act; what else is in the table stays."""
    rules = filter_rules(port, guard)
    lines = [
        f"add table bridge {TABLE}",
        f"add map bridge {TABLE} {PORTS} {{ type iface_index : verdict; }}",
        f"add chain bridge {TABLE} {HOOK} {{ type filter hook prerouting priority -300; policy accept; }}",
        f"flush chain bridge {TABLE} {HOOK}",
        f"add rule bridge {TABLE} {HOOK} iif vmap @{PORTS}",
    ]
    for chain in rules:
        lines += [f"add chain bridge {TABLE} {chain}", f"flush chain bridge {TABLE} {chain}"]
    lines += [f"add rule bridge {TABLE} {chain} {rule}" for chain, each in rules.items() for rule in each]
    return "\n".join([*lines, f"add element bridge {TABLE} {PORTS} {{ {port} : goto {chain_name(port)} }}", ""])


def dump_removal(ports: Iterable[int]) -> str:
    """The commands that take ports' rules away, also what is left of those that somebody has taken away in part."""
    lines: list[str] = []
    for port in ports:
        chains = [chain_name(port) + end for end in CHAINS]
        element = f"element bridge {TABLE} {PORTS} {{ {port} : goto {chains[0]} }}"
        lines += [f"add chain bridge {TABLE} {chain}" for chain in chains]
        lines += [f"add {element}", f"delete element bridge {TABLE} {PORTS} {{ {port} }}"]
        lines += [f"flush chain bridge {TABLE} {chain}" for chain in chains]
        lines += [f"delete chain bridge {TABLE} {chain}" for chain in chains]
    return "\n".join([*lines, ""])


def _split(ips: Sequence[str]) -> tuple[list[str], list[str]]:
    return sorted({ip for ip in ips if ":" not in ip}), sorted({ip for ip in ips if ":" in ip})


def _frames(name: str, guard: Guard) -> list[str]:
    return [
        *([] if "macs" in guard.allowed else [f"ether saddr != {guard.mac} counter drop"]),
        "ether daddr & ff:ff:ff:ff:ff:f0 == 01:80:c2:00:00:00 counter drop",
        f"ether type vmap {{ arp : goto {name}arp, ip : goto {name}ip, ip6 : goto {name}ip6 }}",
        *(["vlan id != 0 accept"] if "vlan" in guard.allowed else []),  # what has VLAN 0 is taken for untagged
        "counter drop",
    ]


def _arp(guard: Guard, ips: Sequence[str]) -> list[str]:
    both, probe = "arp operation { request, reply }", "arp operation request arp saddr ip 0.0.0.0 arp daddr ip"
    rules = [
        "arp htype != 1 counter drop",
        "arp ptype != 0x0800 counter drop",
        "arp hlen != 6 counter drop",
        "arp plen != 4 counter drop",
        *([] if "macs" in guard.allowed else [f"arp saddr ether != {guard.mac} counter drop"]),
    ]
    if ips:
        rules += [f"{both} arp saddr ip {_set(ips)} {_verdict(guard)}", f"{probe} {_set(ips)} {_verdict(guard)}"]
    return [*rules, *([] if guard.ips is not None else [f"{both} accept"]), "counter drop"]


def _ip(guard: Guard, ips: Sequence[str]) -> list[str]:
    chaddr = "" if "macs" in guard.allowed else f"@th,288,48 {_raw(guard.mac)} "
    first = "ip saddr 0.0.0.0 ip daddr 255.255.255.255 ip frag-off & 0x3fff == 0"
    rules = [f"{first} udp sport 68 udp dport 67 {chaddr}accept"]
    if guard.ips is not None and not ips:
        return [*rules, "counter drop"]
    rules += [f"ip saddr {_other(guard)}{_set(ips)} counter drop"] if ips else []
    if "dhcp" not in guard.allowed:
        rules.append("udp sport 67 counter drop")
        rules += [f"udp dport 67 @th,288,48 != {_raw(guard.mac)} counter drop"] if chaddr else []
    return [*rules, "ip protocol 2 @th,0,8 0x11 counter drop", "accept"]


def _ip6(name: str, guard: Guard, ips: Sequence[str]) -> list[str]:
    rules = [f"{_NS} {_target(ip)} {_verdict(guard)}" for ip in ips]
    rules += [] if guard.ips is not None else [f"{_NS} accept", "ip6 saddr :: counter drop"]
    rules += [f"ip6 saddr {_other(guard)}{_set(ips)} counter drop"] if ips else []
    return [
        *rules,
        f"ip6 saddr fe80::/10 goto {name}ll",
        f"ip6 nexthdr 58 goto {name}icmp6",
        *([] if "dhcp" in guard.allowed else ["ip6 nexthdr 17 udp sport 547 counter drop"]),
        "ip6 nexthdr { 4, 6, 17, 41, 44, 47, 50, 51, 132 } accept",
        "counter drop",
    ]


def _link_local_rules(name: str, guard: Guard) -> list[str]:
    """From a link-local address there are no fragments, and no extension headers but MLD's."""
    return [
        f"ip6 nexthdr 58 goto {name}icmp6",
        "ip6 nexthdr 17 udp sport 546 udp dport 547 ip6 daddr ff02::1:2 accept",
        *(["ip6 nexthdr 17 udp sport 547 accept"] if "dhcp" in guard.allowed else []),
        "ip6 nexthdr 0 icmpv6 type { 131, 132, 143 } accept",
        "ip6 nexthdr 17 udp dport { 5353, 5355 } accept",
        "counter drop",
    ]


def _advertisements(guard: Guard, ips: Sequence[str]) -> list[str]:
    option = "ip6 length > 24 @nh,512,16 != 0x0201 counter drop"
    card = f"ip6 length > 24 @nh,528,48 != {_raw(guard.mac)} counter drop"
    return [
        *([] if "macs" in guard.allowed else [option, card]),
        *(f"{_target(ip)} {_verdict(guard)}" for ip in ips),
        "counter drop" if guard.ips is not None else "accept",
    ]


def _icmp6(name: str, guard: Guard) -> list[str]:
    """Router advertisements (134), redirects (137) and queries of MLD (130) are no guest's."""
    card = f"icmpv6 type 135 @nh,512,16 0x0101 @nh,528,48 {_raw(guard.mac)} accept"
    solicitations = [card, "icmpv6 type 135 ip6 length 24 accept"]
    return [
        "icmpv6 type 133 ip6 daddr ff02::2 accept",
        *(["icmpv6 type 135 accept"] if "macs" in guard.allowed else solicitations),
        f"icmpv6 type 136 jump {name}na",
        *(["icmpv6 type { 134, 137 } accept"] if "router" in guard.allowed else []),
        "icmpv6 type { 1, 2, 3, 4, 128, 129 } accept",
        "counter drop",
    ]


def _verdict(guard: Guard) -> str:
    """What becomes of a message about one of the addresses that are named."""
    return "accept" if guard.ips is not None else "counter drop"


def _other(guard: Guard) -> str:
    """Before a set of addresses: which sources are dropped, those in it or all others."""
    return "!= " if guard.ips is not None else ""


def _set(ips: Sequence[str]) -> str:
    return f"{{ {', '.join(ips)} }}"


def _raw(mac: Mac) -> str:
    return f"0x{mac.replace(':', '')}"


def _target(ip: str) -> str:
    """The address that a message of ND is about; a field of no name takes a number and no set."""
    return f"@nh,384,128 0x{ip_bits(6, ip):032x}"
