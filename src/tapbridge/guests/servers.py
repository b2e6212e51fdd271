"""Which DHCP servers serve this network namespace, and what they have given to whom."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence

from tapbridge.guests.leases import find_lease_file, parse_dnsmasq, parse_libvirt
from tapbridge.guests.procfs import PROC, Census, find_namespace, find_process
from tapbridge.model.guest import Sighting
from tapbridge.model.state import Link
from tapbridge.model.values import IfName

DNSMASQ_LEASES = "/var/lib/misc/dnsmasq.leases"
LIBVIRT_LEASES = "/var/lib/libvirt/dnsmasq"
NETWORKD_LEASES = ("/var/lib/systemd/network/dhcp-server-lease", "/run/systemd/netif/dhcp-server-lease")
_FILE_BYTES = 1 << 20
_FILES = 256
_ORDINARY_USERS = range(1000, 65534)  # UID_MIN of login.defs up to nobody


def read_leases(
    census: Census, segments: Sequence[Link], now: float, unread: list[str]
) -> Iterator[tuple[Sighting, ...]]:
    """What the DHCP servers of this network namespace know. `segments` are the links where guests are; files that may
    not be read are added to `unread`."""
    for path in dict.fromkeys((DNSMASQ_LEASES, *_lease_files(census))):
        text = _read_file(path, unread)
        if text:
            yield parse_dnsmasq(text, now=now)
    try:
        names = sorted(name for name in os.listdir(LIBVIRT_LEASES) if name.endswith(".status"))
    except OSError as error:
        names = []
        if isinstance(error, PermissionError):
            unread.append(LIBVIRT_LEASES)
    for name in names[:_FILES]:
        text = _read_file(f"{LIBVIRT_LEASES}/{name}", unread)
        if text:
            yield parse_libvirt(text, now=now, link=IfName(name.removesuffix(".status")))
    if any(_is_here(pid) for pid in census.networkd):
        yield from _networkd(segments, now, unread)


def _networkd(segments: Sequence[Link], now: float, unread: list[str]) -> Iterator[tuple[Sighting, ...]]:
    """The leases of systemd-networkd's own server: a file from version 256 on, before that they are asked for, as long
    as it answers."""
    import time

    from tapbridge.guests.networkd import PATIENCE_S, ask_leases, parse_file

    deadline = time.monotonic() + PATIENCE_S
    for link in segments:
        texts = [_read_file(f"{folder}/{link.name}", unread) for folder in NETWORKD_LEASES]
        found = [parse_file(text, now=now, link=link.name) for text in texts if text]
        if not found and time.monotonic() < deadline:
            found = [ask_leases(link)]
        yield from found


def _is_here(pid: int) -> bool:
    """Whether a process serves this network namespace, and is to be believed: anybody can call one as servers are
    called, and an ordinary user's is believed by that user alone."""
    process = find_process(pid)
    return process is not None and process.netns in (find_namespace("net"), None) and is_trusted(process.uid)


def _lease_files(census: Census) -> Iterator[str]:
    """The files that running dnsmasqs name. One in a mount namespace of its own, where the path means another file than
    here, is read through its root."""
    mounts = find_namespace("mnt")
    for pid in census.dnsmasq[:_FILES]:
        process = find_process(pid) if _is_here(pid) else None
        path = find_lease_file(process.argv) if process is not None else None
        if path is None:
            continue
        theirs = find_namespace("mnt", f"{PROC}/{pid}")
        yield path if theirs in (mounts, None) else f"{PROC}/{pid}/root{path}"


def is_trusted(uid: int) -> bool:
    """Whether what a user's process says of itself is believed by us. An ordinary user's is believed by that user."""
    return uid not in _ORDINARY_USERS or uid == os.geteuid()


def _read_file(path: str, unread: list[str]) -> str:
    """A regular file, without waiting for it, whatever else stands there; "" if there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except PermissionError:
        unread.append(path)
        return ""
    except OSError:
        return ""
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return ""
        return os.read(fd, _FILE_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
    finally:
        os.close(fd)
