"""What DHCP servers on this host wrote down: dnsmasq's lease file, and libvirt's own form of it. Pure.

A lease tells the address and how long it is still good for, not when it was last seen in use; so the age of
such a sighting is unknown.
"""

from __future__ import annotations

from typing import Final

from tapbridge.guests.frames import find_hostname
from tapbridge.model.guest import Sighting
from tapbridge.model.noun import replace
from tapbridge.model.values import IfName, Mac, parse_ip, parse_mac

_FAR: Final = 1 << 53  # beyond it a float is no second exact
LEASES: Final = 4096
"""How many leases of one file are read; dnsmasq itself gives out 1,000 unless told otherwise."""


def parse_dnsmasq(text: str, *, now: float, link: IfName | None = None) -> tuple[Sighting, ...]:
    """Read a lease file of dnsmasq (src/lease.c: `EXPIRY MAC IP NAME CLIENT-ID`, and behind the line `duid` the same
    for IPv6 with an IAID in the MAC's place and a DUID in the client id's). `now` is in seconds since the epoch;
    leases that have ended, and lines that are no leases, are passed over."""
    found = []
    for line in text.split("\n")[:LEASES]:
        words = line.split()
        if len(words) >= 5 and words[0].isascii() and words[0].isdigit():
            mac = _find_mac(words[1]) or _find_duid_mac(words[4])
            sighting = _sighting(mac, words[2], int(words[0][:15]), now, link)
            if sighting is not None:
                found.append(_called(sighting, words[3], words[4]))
    return tuple(found)


def parse_libvirt(text: str, *, now: float, link: IfName | None = None) -> tuple[Sighting, ...]:
    """Read a `*.status` file of libvirt's leaseshelper: a JSON list of `ip-address`, `mac-address`, `expiry-time`."""
    import json

    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return ()
    found = []
    for entry in document[:LEASES] if isinstance(document, list) else ():
        if not isinstance(entry, dict):
            continue
        expiry = entry.get("expiry-time", 0)
        mac = _find_mac(entry.get("mac-address"))
        sighting = _sighting(mac, entry.get("ip-address"), expiry if isinstance(expiry, int) else 0, now, link)
        if sighting is not None:
            found.append(_called(sighting, entry.get("hostname"), entry.get("client-id")))
    return tuple(found)


def _sighting(mac: Mac | None, ip: object, expiry: int, now: float, link: IfName | None) -> Sighting | None:
    """0 is dnsmasq's word for a lease without end."""
    if mac is None or not isinstance(ip, str) or not 0 <= expiry < _FAR or 0 < expiry <= now:
        return None
    try:
        family, canonical = parse_ip(ip)
    except ValueError:
        return None
    left = int(expiry - now) if expiry else None
    return Sighting(mac=mac, family=family, ip=canonical, source="lease", dynamic=True, valid_lft=left, link=link)


def _called(sighting: Sighting, name: object, client_id: object) -> Sighting:
    """With the guest's name and client id, for which `*` stands where there is none. All cards of a guest may have the
    same DUID, which is what identifies a client of DHCPv6."""
    theirs = isinstance(client_id, str) and client_id != "*" and sighting.family == 4
    return replace(
        sighting,
        hostname=find_hostname(name) if isinstance(name, str) else None,
        client_id=str(client_id).lower() if theirs else None,
    )


def find_lease_file(argv: tuple[str, ...]) -> str | None:
    """The lease file that a command line of dnsmasq names (`--dhcp-leasefile=`, `-l`); the last one counts."""
    path = None
    for place, word in enumerate(argv[1:], 1):
        if word.startswith("--dhcp-leasefile="):
            path = word.partition("=")[2]
        elif word in ("-l", "--dhcp-leasefile") and place + 1 < len(argv):
            path = argv[place + 1]
        elif word.startswith("-l") and not word.startswith("--"):
            path = word[2:]
    return path if path is not None and path.startswith("/") else None


def _find_mac(text: object) -> Mac | None:
    try:
        return parse_mac(text) if isinstance(text, str) else None
    except ValueError:
        return None


def _find_duid_mac(text: str) -> Mac | None:
    """The MAC inside a DUID of type LLT or LL of an Ethernet card (RFC 8415, 11.2 and 11.4)."""
    octets = text.lower().split(":")
    sizes = {("00", "01"): 14, ("00", "03"): 10}
    if len(octets) == sizes.get(tuple(octets[:2]), -1) and octets[2:4] == ["00", "01"]:  # type: ignore[arg-type]
        return _find_mac(":".join(octets[-6:]))
    return None
