"""What a host is: a State and the nouns in it. Observed, never wished.

Links are named, not numbered: an ifindex dies with a reboot and means nothing to a reader. `Link.index` is
kept beside the name for those who must talk to the kernel, and is left out of every comparison.

Every tuple of a State is sorted (`State.sorted`), but two keep the kernel's own order where it has a meaning:
the addresses of one link (the first primary is the preferred source) and the routes of one slot (the first
is used).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from tapbridge.model.hold import Hold
from tapbridge.model.noun import dataclass, field, replace
from tapbridge.model.port import Port
from tapbridge.model.values import Family, IfName, Mac

# Address flags, include/uapi/linux/if_addr.h
SECONDARY: Final = 0x01  # of an IPv6 address the same bit means: temporary (RFC 8981)
NODAD: Final = 0x02
DADFAILED: Final = 0x08
DEPRECATED: Final = 0x20
TENTATIVE: Final = 0x40
PERMANENT: Final = 0x80
MANAGETEMPADDR: Final = 0x100
NOPREFIXROUTE: Final = 0x200
STABLE_PRIVACY: Final = 0x800

# Route protocols, include/uapi/linux/rtnetlink.h; tables and scopes likewise
PROTO_KERNEL: Final = 2
PROTO_BOOT: Final = 3
PROTO_STATIC: Final = 4
PROTO_RA: Final = 9
PROTO_DHCP: Final = 16
TABLE_MAIN: Final = 254
TABLE_LOCAL: Final = 255
SCOPE_GLOBAL: Final = 0
SCOPE_LINK: Final = 253
SCOPE_HOST: Final = 254

COPY_PROTO: Final = 0x74
"""IFA_PROTO (Linux 5.18) of our plain copies of temporary addresses: the kernel takes no copy of that flag."""

ALIAS: Final = "tapbridge"
"""Every link that we make has an alias (IFLA_IFALIAS) that begins with this word; nothing else is ever deleted."""

TAP_GROUP: Final = 0x7462
"""The link group (`ip link set … group`) in which taps of ours are deleted: "tb" as a number."""


class Scope(StrEnum):
    """How much of a host a State holds. States of two scopes cannot be compared."""

    LINKS = "links"  # links, addresses, what holds guests: cheap, also on a host with a full routing table
    GUESTS = "guests"  # and who is known on them: cheap on such a host, too
    KERNEL = "kernel"  # everything that rtnetlink tells
    HOST = "host"  # everything that a plan may move


@dataclass(frozen=True, slots=True, kw_only=True)
class Bridge:
    """What only a bridge has. Times are in hundredths of a second (USER_HZ), as in the kernel's attributes."""

    stp: bool = False
    forward_delay: int = 1500
    mcast_snooping: bool = True
    vlan_filtering: bool = False
    default_pvid: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Vlans:
    """VLANs of a port, or of the host by a bridge. What has no tag is in the `pvid`; `untagged` ones lose theirs."""

    first: int
    last: int
    pvid: bool = False
    untagged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Tap:
    """What only a tap has."""

    owner: int | None = None
    group: int | None = None
    persist: bool = False
    multi_queue: bool = False
    vnet_hdr: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """Any network object of the kernel.

    `kind` is the kernel's own word (bridge, veth, tun, macvlan, …), "" for a NIC without one, "loopback" for lo, "wifi"
    for a wireless station, "tap" for a tun device in tap mode. Only a bridge that filters, and its ports, have `vlans`.
    `four_address`: a wireless station puts four addresses into its frames, and can be a port.
    """

    index: int = 0
    name: IfName
    kind: str = ""
    mac: Mac | None = None
    permanent_mac: Mac | None = None
    mtu: int = 1500
    up: bool = False
    carrier: bool = False
    operstate: str = "down"
    master: IfName | None = None
    master_kind: str | None = None
    parent: IfName | None = None
    altnames: tuple[str, ...] = ()
    alias: str | None = None
    addr_gen_mode: int = 0
    token: str | None = None
    ethernet: bool = True
    bridge: Bridge | None = None
    port: Port | None = None
    tap: Tap | None = None
    vlan_id: int | None = None
    vlans: tuple[Vlans, ...] = ()
    four_address: bool = False

    @property
    def ours(self) -> bool:
        """Whether this program made the link."""
        return self.alias is not None and self.alias.split(" ", 1)[0] == ALIAS


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """An IP address on a link. Lifetimes are seconds that remain; None is forever. `metric` is that of its
    connected route, 0 for the kernel's default (0 in IPv4, 256 in IPv6)."""

    link: IfName
    family: Family
    ip: str
    prefix: int
    peer: str | None = None
    broadcast: str | None = None
    label: str | None = None
    scope: int = SCOPE_GLOBAL
    flags: int = PERMANENT
    valid_lft: int | None = None
    preferred_lft: int | None = None
    metric: int = 0
    proto: int = 0

    @property
    def temporary(self) -> bool:
        """Whether the kernel made this address for privacy (RFC 8981)."""
        return self.family == 6 and bool(self.flags & SECONDARY)

    @property
    def secondary(self) -> bool:
        """Whether an IPv4 address stands behind another of its subnet."""
        return self.family == 4 and bool(self.flags & SECONDARY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Nexthop:
    """One way of a route. `gateway` may be of the other family (RFC 5549, RTA_VIA)."""

    link: IfName | None = None
    gateway: str | None = None
    weight: int = 1
    onlink: bool = False
    encap: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A route of any table. `dst` is `network/prefix`. `metrics` are the RTAX_* attributes by number, of which the
    congestion control alone (16) is a word; `pref` is the router preference of RFC 4191; `expires` the seconds that
    remain. `nexthop_object` is the id of a nexthop object (`ip nexthop`), which we do not move."""

    family: Family
    dst: str
    table: int = TABLE_MAIN
    type: str = "unicast"
    tos: int = 0
    scope: int = SCOPE_GLOBAL
    protocol: int = PROTO_BOOT
    metric: int = 0
    prefsrc: str | None = None
    src: str | None = None
    nexthops: tuple[Nexthop, ...] = ()
    metrics: tuple[tuple[int, int | str], ...] = ()
    pref: int = 0
    expires: int | None = None
    realm: int = 0
    nexthop_object: int = 0

    @property
    def slot(self) -> tuple[int, int, str, str, int, int]:
        """Routes of one slot stand behind one another in the kernel; NLM_F_REPLACE replaces the slot's first."""
        return self.family, self.table, self.dst, self.src or "", self.tos, self.metric

    def uses(self, link: str) -> bool:
        """Whether any of the route's ways leads through the link."""
        return any(hop.link == link for hop in self.nexthops)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A policy routing rule (`ip rule`). Selectors that we do not know are kept raw in `rest`, as (attribute, hex)."""

    family: Family
    priority: int
    table: int = 0
    action: str = "lookup"
    src: str | None = None
    dst: str | None = None
    iif: str | None = None
    oif: str | None = None
    fwmark: int | None = None
    fwmask: int | None = None
    tos: int = 0
    invert: bool = False
    protocol: int = 0
    rest: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """An entry of the ARP or ND table. `state` is NUD_* (0x80 permanent); `flags` is NTF_*. `confirmed_s`, which makes
    no entry another one, is how long ago the kernel had proof of it; None for what was configured."""

    link: IfName
    family: Family
    ip: str
    mac: Mac | None = None
    state: int = 0x04
    flags: int = 0
    protocol: int = 0
    confirmed_s: float | None = field(default=None, compare=False)

    @property
    def configured(self) -> bool:
        """Whether somebody put it there, as opposed to learnt: permanent, noarp or proxy."""
        return bool(self.state & 0xC0) or bool(self.flags & 0x08)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sysctl:
    """A per-link switch of the kernel: `net.<stack>.conf.<link>.<name>`. `stack` is ipv4 or ipv6."""

    link: IfName
    stack: str
    name: str
    value: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardingEntry:
    """An entry of a bridge's forwarding database. `local` is an address of the host's own."""

    bridge: IfName
    port: IfName
    mac: Mac
    local: bool = False
    static: bool = False


SERVING_MANY: Final = ("systemd-networkd", "NetworkManager", "connman", "wicked", "netifd")


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseFile:
    """A file in which a client keeps what it was given. Compared by hash."""

    path: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file that a plan writes: its text (None: there is none), and whose it is."""

    path: str
    content: str | None = None
    mode: int = 0o644
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A process that configures a link: a DHCP client or a manager. Its PID and its start (field 22 of /proc/PID/stat)
    are not compared. `profile` is the UUID of the connection by which NetworkManager holds the link."""

    link: IfName | None
    program: str
    pid: int
    started: int = 0
    argv: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    cwd: str = "/"
    cgroup: str = ""
    files: tuple[LeaseFile, ...] = ()
    profile: str = ""

    @property
    def serves_many(self) -> bool:
        """Whether it looks after many links by its files, and is never ended for the sake of one."""
        return self.program in SERVING_MANY

    @property
    def meddles(self) -> bool:
        """Whether it acts at once on what others do to its link: on an address that goes, it begins anew."""
        return self.program == "dhcpcd"


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkDns:
    """The DNS servers and domains that systemd-resolved keeps for one link."""

    link: IfName
    servers: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """Something that names or holds a link and cannot be moved with it.

    `kind`: socket, membership, packet-socket, nft-rule, iptables-rule, input-drop, tc, xdp, lro, vf-spoofchk.
    """

    link: IfName
    kind: str
    detail: str
    program: str | None = None
    pid: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A host, or as much of it as `scope` says."""

    scope: Scope = Scope.HOST
    kernel: tuple[int, int] = (6, 2)
    links: tuple[Link, ...] = ()
    addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    rules: tuple[Rule, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    sysctls: tuple[Sysctl, ...] = ()
    forwarding: tuple[ForwardingEntry, ...] = ()
    clients: tuple[Client, ...] = ()
    dns: tuple[LinkDns, ...] = ()
    attachments: tuple[Attachment, ...] = field(default=(), compare=False)
    holds: tuple[Hold, ...] = field(default=(), compare=False)

    def link(self, name: str) -> Link | None:
        """The link of that name or altname."""
        for link in self.links:
            if link.name == name:
                return link
        return next((link for link in self.links if name in link.altnames), None)

    def ports(self, bridge: str) -> tuple[Link, ...]:
        """The ports of a bridge."""
        return tuple(link for link in self.links if link.master == bridge)

    def addresses_of(self, link: str, family: Family | None = None) -> tuple[Address, ...]:
        """The addresses of a link in the kernel's order."""
        return tuple(a for a in self.addresses if a.link == link and family in (None, a.family))

    def routes_of(self, link: str) -> tuple[Route, ...]:
        """The routes of every table that lead through a link."""
        return tuple(route for route in self.routes if route.uses(link))

    def sysctl(self, link: str, stack: str, name: str) -> int | None:
        """The value of a switch of a link."""
        for item in self.sysctls:
            if item.link == link and item.stack == stack and item.name == name:
                return item.value
        return None

    def sorted(self) -> State:
        """The same state with every tuple in its canonical order."""
        return replace(
            self,
            links=tuple(sorted(self.links, key=lambda x: x.name)),
            addresses=tuple(sorted(self.addresses, key=lambda x: (x.link, x.family))),
            routes=tuple(sorted(self.routes, key=lambda x: x.slot)),
            rules=tuple(sorted(self.rules, key=lambda x: (x.family, x.priority))),
            neighbours=tuple(sorted(self.neighbours, key=lambda x: (x.link, x.family, x.ip, x.flags))),
            sysctls=tuple(sorted(self.sysctls, key=lambda x: (x.link, x.stack, x.name))),
            forwarding=tuple(sorted(self.forwarding, key=lambda x: (x.bridge, x.mac, x.port))),
            clients=tuple(sorted(self.clients, key=lambda x: (x.program, x.link or "", x.argv))),
            dns=tuple(sorted(self.dns, key=lambda x: x.link)),
        )
