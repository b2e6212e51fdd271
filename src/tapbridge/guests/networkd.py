"""The leases that systemd-networkd's DHCP server has given: its file for a link (from version 256 on), or its property
`Leases` on D-Bus (from version 249 on), through busctl(1)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from tapbridge.guests.frames import find_hostname, mac_text
from tapbridge.guests.leases import LEASES
from tapbridge.guests.procfs import PROC, read
from tapbridge.model.guest import Sighting
from tapbridge.model.state import Link
from tapbridge.model.values import IfName, ip_text

PATIENCE_S = 0.2
_ENDLESS_US = 1 << 62  # USEC_INFINITY is all ones
_BUSCTL = "/usr/bin/busctl"
_UDP_BYTES = 1 << 20
_END = "ExpirationRealtimeUSec"


def parse_file(text: str, *, now: float, link: IfName) -> tuple[Sighting, ...]:
    """Read a lease file: `Leases`, each with `Address`, `ClientId`, perhaps `HardwareAddress` as numbers, `Hostname`,
    and its end. `now` is in seconds since the epoch; leases that have ended are passed over."""
    document = _load(text)
    leases, prefix = document.get("Leases"), document.get("PrefixLength")
    entries = [entry for entry in leases[:LEASES] if isinstance(entry, dict)] if isinstance(leases, list) else []
    return tuple(_sightings(entries, now, link, prefix if isinstance(prefix, int) and 0 <= prefix <= 32 else None))


def parse_property(text: str, *, now: float, link: IfName) -> tuple[Sighting, ...]:
    """Read a(uayayayayt) as busctl prints it: family, client id, address, gateway, hardware address in 16 octets, end.
    `now` is in seconds of CLOCK_BOOTTIME."""
    leases = _load(text).get("data")
    entries = [
        {"ClientId": entry[1], "Address": entry[2], "HardwareAddress": entry[4][:6], _END: entry[5]}
        for entry in (leases[:LEASES] if isinstance(leases, list) else ())
        if isinstance(entry, list) and len(entry) == 6 and isinstance(entry[4], list)
    ]
    return tuple(_sightings(entries, now, link, None))


def ask_leases(link: Link) -> tuple[Sighting, ...]:
    """Ask networkd by D-Bus, if anybody listens on the port of DHCP servers; () where it does not answer at once."""
    import subprocess
    import time

    if b":0043 " not in read(f"{PROC}/thread-self/net/udp", _UDP_BYTES):
        return ()
    path = f"/org/freedesktop/network1/link/_3{link.index}"  # sd_bus_path_encode() escapes a digit that comes first
    command = [_BUSCTL, "--system", "--auto-start=no", "--json=short", f"--timeout={PATIENCE_S}", "get-property"]
    command += ["org.freedesktop.network1", path, "org.freedesktop.network1.DHCPServer", "Leases"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    return parse_property(done.stdout.decode("utf-8", "replace"), now=now, link=link.name)


def _sightings(entries: Iterable[dict[str, Any]], now: float, link: IfName, prefix: int | None) -> Iterator[Sighting]:
    for entry in entries:
        client_id, address, end = _octets(entry.get("ClientId")), _octets(entry.get("Address")), entry.get(_END)
        mac = _octets(entry.get("HardwareAddress"))
        if len(mac) != 6 and client_id[:1] == b"\1":  # an id of type 1 is the MAC (RFC 2132, 9.14)
            mac = client_id[1:]
        if len(mac) != 6 or len(address) != 4 or not isinstance(end, int) or end <= now * 1e6:
            continue
        name = entry.get("Hostname")
        yield Sighting(
            mac=mac_text(mac),
            family=4,
            ip=ip_text(4, int.from_bytes(address, "big")),
            source="lease",
            prefix=prefix,
            dynamic=True,
            valid_lft=int(end / 1e6 - now) if end < _ENDLESS_US else None,
            link=link,
            hostname=find_hostname(name) if isinstance(name, str) else None,
            client_id=client_id.hex(":") or None,
        )


def _octets(numbers: object) -> bytes:
    """What JSON has as a list of numbers; b"" for anything else."""
    if not isinstance(numbers, list) or not all(type(number) is int and 0 <= number < 256 for number in numbers):
        return b""
    return bytes(numbers[:255])


def _load(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
