"""The real Host: this machine, as the network namespace of one thread shows it."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Self

from tapbridge.linux.attributes import Malformed
from tapbridge.linux.channel import Channel
from tapbridge.linux.shield import Shields
from tapbridge.model.errors import HostError
from tapbridge.model.state import File, Scope, State

if TYPE_CHECKING:  # `status` never needs the steps
    from tapbridge.model.step import Step

_SO_NETNS_COOKIE: Final = 71


class LinuxHost:
    """The network of this machine.

    Its rtnetlink socket belongs to the network namespace of the thread that makes it; switches, clients and sockets
    are those of the thread that calls. A thread that moves to another namespace makes another host there.
    """

    def __init__(self) -> None:
        try:
            self._channel = Channel()
        except OSError as error:
            raise _unreadable(error) from error
        self._shields = Shields()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def shielded(self) -> bool:
        """Whether a Shield stands. After performing one, False tells that kernel or user cannot (see linux/shield)."""
        return len(self._shields) > 0

    def close(self) -> None:
        """Give the socket back and end every shield."""
        self._shields.close()
        self._channel.close()

    def cookie(self) -> int:
        """The number of our network namespace, never used twice in a boot (SO_NETNS_COOKIE, Linux 5.14)."""
        try:
            cookie: int = struct.unpack("=Q", self._channel.socket.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8))[
                0
            ]
        except OSError:
            return os.stat("/proc/thread-self/ns/net").st_ino  # may be used again once the namespace is gone
        return cookie

    def observe(self, scope: Scope = Scope.HOST) -> State:
        """Read the host. Raises HostError."""
        from tapbridge.linux.observe import observe_kernel

        try:
            state = observe_kernel(self._channel, scope)
            return _with_processes(state) if scope is Scope.HOST else state
        except (OSError, Malformed) as error:
            raise _unreadable(error) from error

    def read_files(self, paths: Sequence[str]) -> tuple[File, ...]:
        """These files as they are; see ports.Host. Raises HostError."""
        if not paths:
            return ()
        from tapbridge.linux.files import read_file

        return tuple(read_file(path) for path in paths)

    def perform(self, steps: Sequence[Step]) -> None:
        """Carry the steps out; see ports.Host.

        A kernel step that names a link which is not there fails before its batch is sent. Of a batch that was sent
        the steps behind one that failed are carried out. Raises HostError.
        """
        from tapbridge.linux.perform import perform

        perform(self._channel, self._shields, steps)


def _with_processes(state: State) -> State:
    from tapbridge.linux.attachments import observe_attachments
    from tapbridge.linux.clients import observe_clients
    from tapbridge.linux.resolved import observe_dns
    from tapbridge.model.noun import replace

    clients = observe_clients(tuple(link.name for link in state.links))
    fed = {client.link for client in clients if client.program == "systemd-networkd"}  # by networkd's own word
    movable = [link for link in state.links if link.tap is None or link.master is None]  # no guest's tap
    return replace(
        state,
        clients=clients,
        dns=tuple(dns for dns in observe_dns() if dns.link not in fed),
        attachments=observe_attachments(movable),
    ).sorted()


def _unreadable(error: Exception) -> HostError:
    number = error.errno or 0 if isinstance(error, OSError) else errno.EBADMSG
    words = error.strerror if isinstance(error, OSError) else str(error)
    return HostError(f"the network of this host cannot be read: {words}", errno=number)
