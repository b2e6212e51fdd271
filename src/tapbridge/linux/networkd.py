"""systemd-networkd: what it reads, told to read it anew, and waited for.

What it has in hand it says in a file for each link under /run/systemd/netif, each of which it replaces
in one act; a lease has a file of its own.
"""

from __future__ import annotations

import errno
import os
import time
from typing import Final

from tapbridge.core.transfer import LAST_METRIC
from tapbridge.linux import processes
from tapbridge.linux.channel import Channel
from tapbridge.linux.observe import observe_kernel
from tapbridge.model.errors import HostError
from tapbridge.model.state import TENTATIVE, Client, Route, Scope
from tapbridge.model.step import AwaitClient

_LIMIT_S: Final = 5
_LOOK_S: Final = 0.01
_FOLDERS: Final = tuple(f"{root}/systemd/network" for root in ("/etc", "/run", "/usr/local/lib", "/usr/lib"))
_LINKS: Final = "/run/systemd/netif/links"
_LEASES: Final = "/run/systemd/netif/leases"
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_FAILED: Final = "failed"


def read_anew(client: Client) -> None:
    """Let networkd read its files anew; it answers when it has, and acts on them afterwards. Raises HostError.

    A link that it has given up (version 252 does so where an address goes while it begins with DHCPv6) it begins anew
    only when it is told to.
    """
    _networkctl("reload")
    if client.link is not None and _setup(client.link) == _FAILED:
        _networkctl("reconfigure", client.link)


def _networkctl(*words: str) -> None:
    import subprocess

    line = ("networkctl", *words)
    try:
        done = subprocess.run(
            line,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=False,
            env={"PATH": _PATH},
        )
    except subprocess.TimeoutExpired:
        raise HostError(f"systemd-networkd does not answer within {_LIMIT_S} s") from None
    except OSError as error:
        raise HostError(f"networkctl cannot be started: {error.strerror}", errno=error.errno or 0) from None
    if done.returncode != 0:
        said = " ".join(done.stderr.split())[-300:] or f"networkctl ended with {done.returncode}"
        raise HostError(f"systemd-networkd does not do what it is asked: {said}", hint=f"try: {' '.join(line)}")


def _setup(link: str) -> str:
    """What networkd says of a link; "" where there is none."""
    import socket

    try:
        index = socket.if_nametoindex(link)
    except OSError:
        return ""
    return read_words(f"{_LINKS}/{index}").get("ADMIN_STATE", "unmanaged")


def await_networkd(channel: Channel, step: AwaitClient) -> None:
    """Look at what networkd says of a link, and at what is on it, until nothing is missing. Raises OSError."""
    deadline = time.monotonic() + step.limit_s
    while (what := _missing(step)) or _is_incomplete(channel, step):
        if time.monotonic() > deadline:
            if what:
                raise OSError(errno.ETIMEDOUT, f"{what} after {step.limit_s:g} s")
            return
        time.sleep(_LOOK_S)


def read_words(path: str) -> dict[str, str]:
    """A file of KEY=VALUE lines; empty where there is none."""
    text = processes.read_bytes(path, 65536).decode(errors="replace")
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def drop_ins(pid: int, path: str) -> list[str]:
    """The drop-ins of a .network file: by their names, each from the first folder that has it."""
    found: dict[str, str] = {}
    for folder in _FOLDERS:
        place = f"{folder}/{os.path.basename(path)}.d"
        try:
            names = os.listdir(f"/proc/{pid}/root{place}")
        except OSError:
            continue
        for name in names[:1024]:
            if name.endswith(".conf"):
                found.setdefault(name, f"{place}/{name}")
    return [found[name] for name in sorted(found)]


def _missing(step: AwaitClient) -> str:
    """What is not so yet, in a few words; "" for nothing."""
    import socket

    client = step.client
    try:
        index = socket.if_nametoindex(client.link or "")
    except OSError:
        return "" if step.left else f"there is no link {client.link}"
    told = read_words(f"{_LINKS}/{index}")
    setup = told.get("ADMIN_STATE", "unmanaged")
    if step.left:
        return "" if setup in ("unmanaged", "linger", _FAILED) else f"{client.link} is {setup} still"
    if setup not in ("configuring", "configured"):
        return f"{client.link} is {setup}"
    if client.files and told.get("NETWORK_FILE") != client.files[0].path:
        return f"{client.link} is not configured by {client.files[0].path}"
    if step.leased and read_words(f"{_LEASES}/{index}").get("ADDRESS") not in step.leased:
        return f"{client.link} has no lease of {', '.join(step.leased)}"
    return ""


def _is_incomplete(channel: Channel, step: AwaitClient) -> bool:
    """Whether some of the addresses or routes are not on the link yet."""
    if not step.addresses and not step.routes:
        return False
    state = observe_kernel(channel, Scope.KERNEL)
    link = step.client.link or ""
    addresses = {(a.ip, a.prefix) for a in state.addresses_of(link) if not a.flags & TENTATIVE}
    routes = {_way(r) for r in state.routes_of(link) if r.metric < LAST_METRIC}
    return not (addresses >= {(a.ip, a.prefix) for a in step.addresses} and routes >= {_way(r) for r in step.routes})


def _way(route: Route) -> tuple[object, ...]:
    return route.family, route.table, route.dst, tuple((hop.link, hop.gateway) for hop in route.nexthops)
