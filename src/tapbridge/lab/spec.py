"""What a lab is to be, and every name and address in it, made from its own name alone.

beyond ── router ──┐
          peer   ──┤ lan (the switch sw0)
          h1 … hN ─┘
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, NamedTuple

from tapbridge.model.errors import UsageError
from tapbridge.model.values import Family, Mac, ip_bits, ip_text, network, parse_ip

Addresses = Literal["static", "leased"]
ADDRESSES: Final = ("static", "leased")
MOST_HOSTS: Final = 32
SWITCH: Final = "sw0"
NIC: Final = "eth0"
MARK: Final = "tapbridge-lab"
LEASE_S: Final = (120, 604_800)  # dnsmasq takes nothing below two minutes
MTU: Final = (1280, 65_535)  # RFC 8200, 5: no link with IPv6 is below 1280
_NAME = re.compile(r"[a-z][a-z0-9]{0,15}\Z")
_NUMBERS: Final = {"router": 1, "lan": 2, "peer": 3, "beyond": 4}
_FIRST_HOST: Final = 10
BEYOND: Final[dict[Family, str]] = {4: "198.51.100.0/24", 6: "2001:db8:ffff::/64"}
BEYOND_GATEWAY: Final[dict[Family, str]] = {4: "198.51.100.1", 6: "2001:db8:ffff::1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """A lab as asked for. `lease_seconds` is the lifetime of leases, `renew_seconds` their T1 (None: half of it).

    With `dad` off the hosts skip duplicate address detection, and the lab is up some seconds sooner.
    """

    name: str = "lab"
    hosts: int = 1
    addresses: Addresses = "leased"
    ipv6: bool = True
    subnet4: str = ""
    subnet6: str = ""
    mtu: int = 1500
    lease_seconds: int = 3600
    renew_seconds: int | None = None
    dad: bool = True

    def __post_init__(self) -> None:
        """Raises UsageError."""
        parse_lab_name(self.name)
        _within("hosts", self.hosts, (1, MOST_HOSTS))
        _within("mtu", self.mtu, MTU)
        _within("lease-seconds", self.lease_seconds, LEASE_S)
        if self.renew_seconds is not None:
            _within("renew-seconds", self.renew_seconds, (1, self.lease_seconds))
        if self.addresses not in ADDRESSES:
            raise UsageError(f"addresses are static or leased, not {self.addresses!r}", code="usage")
        object.__setattr__(self, "subnet4", _parse_subnet(4, self.subnet4 or default_subnet(4, self.name)))
        object.__setattr__(self, "subnet6", _parse_subnet(6, self.subnet6 or default_subnet(6, self.name)))

    @property
    def families(self) -> tuple[Family, ...]:
        """The IP versions that the lab speaks."""
        return (4, 6) if self.ipv6 else (4,)

    @property
    def host_names(self) -> tuple[str, ...]:
        """The hosts: h1, h2 and so on."""
        return tuple(f"h{number}" for number in range(1, self.hosts + 1))

    @property
    def places(self) -> tuple[str, ...]:
        """Every namespace of the lab."""
        return ("lan", "router", "beyond", "peer", *self.host_names)

    def subnet(self, family: Family) -> str:
        """The LAN's subnet, `network/prefix`."""
        return self.subnet4 if family == 4 else self.subnet6

    def ip(self, place: str, family: Family) -> str:
        """The fixed address of a place; of a host, the one that it has if its addresses are static."""
        subnet = BEYOND[family] if place == "beyond" else self.subnet(family)
        number = place_number(place)
        return _nth(family, subnet, number if family == 4 else _same_in_hex(number))

    def lease_range(self, family: Family) -> tuple[str, str]:
        """The first and the last address that DHCP may give away."""
        first, last = (100, 199) if family == 4 else (0x1000, 0x1FFF)
        return _nth(family, self.subnet(family), first), _nth(family, self.subnet(family), last)

    def mac(self, place: str, port: int = 0) -> Mac:
        """The Ethernet address of a place's link number `port`: locally administered, another one in every lab."""
        digest = _digest(self.name)
        return Mac(
            f"02:{digest[0]:02x}:{digest[1]:02x}:{digest[2]:02x}:{port:02x}:{_same_in_hex(place_number(place)):02x}"
        )

    def machine_id(self, place: str) -> str:
        """What a place has as /etc/machine-id, machine-id(5): the MACs of a host's guests are made from it."""
        return _digest(f"{self.name} {place}").hex()[:32]

    def dump(self) -> dict[str, Any]:
        """The spec as JSON."""
        return asdict(self)


def load_spec(document: dict[str, Any]) -> Spec:
    """The inverse of `Spec.dump`. Raises TypeError, UsageError."""
    return Spec(**document)


def parse_lab_name(text: str) -> str:
    """Check a lab's name. Raises UsageError."""
    if not _NAME.match(text):
        raise UsageError(
            f"{text!r} cannot be the name of a lab",
            hint="a lab's name has 1 to 16 letters a-z and digits and begins with a letter, for example lab2",
            code="invalid-lab-name",
            subject=text,
        )
    return text


def place_number(place: str) -> int:
    """The number of a place: the last part of its addresses. Raises ValueError."""
    return _NUMBERS.get(place) or _FIRST_HOST + int(place.removeprefix("h"))


def netns_name(lab: str, place: str) -> str:
    """The name of a place in /run/netns."""
    return f"tb-{lab}-{place}"


class Mark(NamedTuple):
    """What a place is known by: the alias of its loopback link, and argv[0] of its keeper.

    `shelf` tells whose it is: labs of other users, and of other run folders, are not ours.
    """

    shelf: str
    lab: str
    place: str

    def __str__(self) -> str:
        return f"{MARK} {self.shelf} {self.lab} {self.place}"


def find_mark(text: str) -> Mark | None:
    """The inverse of `str(mark)`; None if the text is no mark."""
    words = text.split(" ")
    return Mark(*words[1:]) if len(words) == 4 and words[0] == MARK and _NAME.match(words[2]) else None


def default_subnet(family: Family, name: str) -> str:
    """The LAN of a lab: the lab named lab has TEST-NET-1 (RFC 5737), every other its own in 198.18.0.0/15 (RFC 2544).

    Labs do not see one another; different subnets are for the reader.
    """
    digest = _digest(name)
    if family == 6:
        return f"2001:db8:{digest[0] << 8 | digest[1]:x}::/64" if name != "lab" else "2001:db8:1::/64"
    return f"198.{18 + digest[0] % 2}.{digest[1]}.0/24" if name != "lab" else "192.0.2.0/24"


def _digest(name: str) -> bytes:
    import hashlib

    return hashlib.sha256(name.encode()).digest()


def _same_in_hex(number: int) -> int:
    """A number whose hexadecimal digits look like the decimal ones of another: 192.0.2.11 goes with 2001:db8:1::11."""
    return int(str(number), 16)


def _nth(family: Family, subnet: str, number: int) -> str:
    return ip_text(family, ip_bits(family, subnet.partition("/")[0]) + number)


def _within(what: str, value: int, limits: tuple[int, int]) -> None:
    if not limits[0] <= value <= limits[1]:
        raise UsageError(
            f"--{what} is {limits[0]} to {limits[1]}, not {value}", hint="tapbridge lab --help", code="usage"
        )


def _parse_subnet(family: Family, text: str) -> str:
    """Raises UsageError. The range of leases needs a /24 at least, and SLAAC needs a /64 (RFC 4862, 5.5.3)."""
    ip, _, prefix = text.partition("/")
    allowed = range(8, 25) if family == 4 else range(64, 65)
    hint = "one looks like 192.0.2.0/24, prefix 8 to 24" if family == 4 else "one looks like 2001:db8:1::/64, prefix 64"
    try:
        found, address = parse_ip(ip)
        if found == family and prefix.isascii() and prefix.isdigit() and int(prefix) in allowed:
            canonical = f"{address}/{int(prefix)}"
            if network(family, address, int(prefix)) == canonical:
                return canonical
    except ValueError:
        pass
    raise UsageError(f"{text!r} is no IPv{family} subnet for a lab", hint=hint, code="invalid-subnet", subject=text)
