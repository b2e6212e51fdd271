"""The DNS servers of /etc/resolv.conf, resolv.conf(5)."""

from __future__ import annotations

from tapbridge.linux.processes import read_bytes
from tapbridge.model.values import parse_ip

_LOCAL = ("127.", "::1")


def observe_nameservers(path: str = "/etc/resolv.conf") -> tuple[str, ...]:
    """The servers that the file names, without their zones; stubs on a loopback address are left out."""
    servers = []
    for line in read_bytes(path, 65536).decode(errors="replace").splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            try:
                servers.append(parse_ip(words[1].partition("%")[0])[1])
            except ValueError:
                continue
    return tuple(server for server in dict.fromkeys(servers) if not server.startswith(_LOCAL))
