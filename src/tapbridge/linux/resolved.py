"""systemd-resolved's DNS servers and domains of each link, by D-Bus through busctl(1), whose JSON every version has."""

from __future__ import annotations

import os
import socket
from typing import Any, Final

from tapbridge.linux import processes
from tapbridge.model.errors import HostError
from tapbridge.model.state import LinkDns
from tapbridge.model.values import IfName, parse_ip

_BUSCTL: Final = "/usr/bin/busctl"
_SERVICE: Final = "org.freedesktop.resolve1"
_OBJECT: Final = "/org/freedesktop/resolve1"
_MANAGER: Final = "org.freedesktop.resolve1.Manager"
_PROCESS: Final = "systemd-resolve"  # of systemd-resolved; the kernel cuts names at 15 bytes
_LIMIT_S: Final = 5
_FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}


def observe_dns() -> tuple[LinkDns, ...]:
    """The links of which resolved keeps DNS servers or domains; none where it does not run in our network namespace.

    A server is `10.0.0.1`, or `10.0.0.1:853#dns.example` with port and TLS name as resolvectl(1) writes it; a domain
    that only routes has `~` before it. Raises HostError where resolved does not answer.
    """
    if not _is_here():
        return ()
    answers = _busctl("--json=short", "get-property", _SERVICE, _OBJECT, _MANAGER, "DNSEx", "Domains").splitlines()
    return read_dns(answers, dict(socket.if_nameindex())) if len(answers) == 2 else ()


def read_dns(answers: list[str], names: dict[int, str]) -> tuple[LinkDns, ...]:
    """The properties DNSEx, a(iiayqs), and Domains, a(isb), as busctl prints them. `names` are those of the links."""
    import json

    servers: dict[int, list[str]] = {}
    domains: dict[int, list[str]] = {}
    for index, family, address, port, name in json.loads(answers[0])["data"]:
        servers.setdefault(index, []).append(_server_text(family, bytes(address), port, name))
    for index, domain, only_routes in json.loads(answers[1])["data"]:
        domains.setdefault(index, []).append(("~" if only_routes else "") + domain)
    return tuple(
        LinkDns(link=IfName(names[index]), servers=tuple(servers.get(index, ())), domains=tuple(domains.get(index, ())))
        for index in sorted(servers.keys() | domains.keys())
        if index in names
    )


def set_dns(dns: LinkDns) -> None:
    """Give a link its DNS servers and domains; none of both takes away what it has. A link that is gone needs nothing.

    Nothing happens where resolved does not run in our network namespace. Raises HostError.
    """
    if not _is_here():
        return
    try:
        index = str(socket.if_nametoindex(dns.link))
    except OSError:
        if dns.servers or dns.domains:
            raise HostError(f"there is no link {dns.link} to set DNS servers for") from None
        return
    if not dns.servers and not dns.domains:
        _call("RevertLink", "i", index)
        return
    servers = [word for server in dns.servers for word in _server_words(server)]
    _call("SetLinkDNSEx", "ia(iayqs)", index, str(len(dns.servers)), *servers)
    domains = [word for domain in dns.domains for word in _domain_words(domain)]
    _call("SetLinkDomains", "ia(sb)", index, str(len(dns.domains)), *domains)


def _is_here() -> bool:
    if not os.path.isdir("/run/systemd/resolve") or not os.access(_BUSCTL, os.X_OK):
        return False
    return any(processes.command_name(pid) == _PROCESS and processes.in_our_netns(pid) for pid in processes.pids())


def _server_text(family: int, address: bytes, port: int, name: str) -> str:
    text = socket.inet_ntop(family, address)
    if port:
        text = f"[{text}]:{port}" if family == socket.AF_INET6 else f"{text}:{port}"
    return f"{text}#{name}" if name else text


def _server_words(text: str) -> list[str]:
    """A server as busctl's words for (iayqs)."""
    place, _, name = text.partition("#")
    port = "0"
    if place.startswith("["):
        place, _, port = place[1:].partition("]:")
    elif place.count(":") == 1:
        place, _, port = place.partition(":")
    family, ip = parse_ip(place)
    packed = socket.inet_pton(_FAMILIES[family], ip)
    return [str(int(_FAMILIES[family])), str(len(packed)), *map(str, packed), port, name]


def _domain_words(text: str) -> list[str]:
    only_routes = text.startswith("~")
    return [text[1:] if only_routes else text, "true" if only_routes else "false"]


def _call(method: str, signature: str, *words: str) -> None:
    _busctl("call", _SERVICE, _OBJECT, _MANAGER, method, signature, "--", *words)


def _busctl(*words: Any) -> str:
    import subprocess

    command = [_BUSCTL, "--system", "--auto-start=no", f"--timeout={_LIMIT_S}", *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S + 1, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostError(f"systemd-resolved does not answer: {error}") from None
    if done.returncode != 0:
        said = done.stderr.strip() or f"busctl ended with exit code {done.returncode}"
        raise HostError(f"systemd-resolved does not do what it is asked: {said}", hint="see: resolvectl status")
    return done.stdout
