"""Inbound TCP flows, and the one by which the user of this command is here.

sock_diag tells the flows of our network namespace, and only sockets that it tells are looked for in /proc: those of
other namespaces are none of ours.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator

from tapbridge.linux.processes import command_name, descriptors, parent, pids
from tapbridge.linux.sock_diag import ESTABLISHED, INET, INET6, LISTEN, TCP, InetSocket, inet_sockets
from tapbridge.model.proof import Flow

_SSHD = ("sshd", "sshd-session")
_CONSOLE = "login"
_MAPPED = "::ffff:"
_DEEPEST = 1000


def inbound_flows(ips: Collection[str]) -> frozenset[Flow]:
    """The established TCP connections to one of the addresses, where somebody listens on the port. Raises OSError."""
    return frozenset(flow for flow, _ in _inbound(ips))


def find_visitor(ips: Collection[str]) -> Flow | None:
    """The inbound flow that this process or an ancestor of it has open.

    Where none has, one of any sshd: in tmux or screen, and left behind by his session, nobody knows through which the
    user came. Not under login(1), which serves the terminals of this machine. Raises OSError.
    """
    flows = {f"socket:[{inode}]": flow for flow, inode in _inbound(ips) if inode}
    if not flows:
        return None
    ancestors = list(_ancestors())
    found = _find_held(flows, ancestors)
    if found is None and all(command_name(pid) != _CONSOLE for pid in ancestors):
        found = _find_held(flows, (pid for pid in pids() if command_name(pid) in _SSHD))
    return found


def _find_held(flows: dict[str, Flow], holders: Iterable[int]) -> Flow | None:
    return next((flows[word] for pid in holders for word in descriptors(pid) if word in flows), None)


def _inbound(ips: Collection[str]) -> Iterator[tuple[Flow, int]]:
    """The flows with their sockets' inodes; 0 for one that nobody has accepted yet."""
    found = [socket for family in (INET, INET6) for socket in inet_sockets(family, TCP, ESTABLISHED | LISTEN)]
    doors = {socket.port for socket in found if socket.remote_port == 0}
    for socket in found:
        if socket.remote_port and socket.port in doors and _plain(socket.local) in ips:
            yield _flow(socket), socket.inode


def _flow(socket: InetSocket) -> Flow:
    local, remote = _plain(socket.local), _plain(socket.remote)
    return Flow(
        family=6 if ":" in local else 4,
        local_ip=local,
        local_port=socket.port,
        remote_ip=remote,
        remote_port=socket.remote_port,
    )


def _plain(ip: str) -> str:
    """An IPv4 address that an IPv6 socket has, as one of IPv4."""
    return ip.removeprefix(_MAPPED) if "." in ip else ip


def _ancestors() -> Iterator[int]:
    """This process, its parent, and so on to the first."""
    pid = os.getpid()
    for _ in range(_DEEPEST):
        if pid == 0:
            return
        yield pid
        pid = parent(pid)
