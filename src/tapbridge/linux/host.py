"""The real Host: this machine, as the network namespace of one thread shows it."""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from collections.abc import Sequence
from contextlib import closing
from typing import Final

from tapbridge.linux.attributes import Malformed
from tapbridge.linux.channel import Channel
from tapbridge.model import step as steps
from tapbridge.model.errors import HostError
from tapbridge.model.state import Scope, State
from tapbridge.model.step import Step

_SO_NETNS_COOKIE: Final = 71
_LINK_NEWS: Final = 1  # RTMGRP_LINK


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
        self._shields: dict[int, int] = {}

    def __enter__(self) -> LinuxHost:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def shielded(self) -> bool:
        """Whether a Shield stands. After performing one, False tells that kernel or user cannot (see linux/shield)."""
        return bool(self._shields)

    def close(self) -> None:
        """Give the socket back and end every shield."""
        for descriptor in self._shields.values():
            os.close(descriptor)
        self._shields.clear()
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
        except (OSError, Malformed) as error:
            raise _unreadable(error) from error
        return state if scope is Scope.LINKS else _with_processes(state)

    def perform(self, sequence: Sequence[Step]) -> None:
        """Carry the steps out; see ports.Host.

        A kernel step that names a link which is not there fails before its batch is sent. Of a batch that was sent
        the steps behind one that failed are carried out. Raises HostError.
        """
        from tapbridge.linux.perform import failed, perform_batch, split_batches

        first = 0
        for batch in split_batches(sequence):
            try:
                if isinstance(batch[0], steps.KERNEL_STEPS):
                    perform_batch(self._channel, batch, first)
                else:
                    self._perform_alone(batch[0])
            except HostError as error:
                if isinstance(batch[0], steps.KERNEL_STEPS):
                    raise
                raise HostError(error.message, index=first, errno=error.errno, hint=error.hint) from error
            except OSError as error:
                raise failed(batch[0], error, first) from error
            except Malformed as error:
                raise HostError(str(error), index=first, errno=errno.EBADMSG) from error
            first += len(batch)

    def _perform_alone(self, step: Step) -> None:
        match step:
            case steps.SetSysctl():
                from tapbridge.linux.sysctls import write_sysctl

                write_sysctl(step.sysctl)
            case steps.Await():
                self._await(step)
            case steps.Shield():
                self._shield(step)
            case steps.Unshield():
                self._unshield(step)
            case steps.StopClient():
                from tapbridge.linux.clients import stop_client

                stop_client(step.client)
            case steps.StartClient():
                from tapbridge.linux.clients import start_client

                start_client(step.client)
            case steps.WriteFile():
                from tapbridge.linux.files import write_file

                write_file(step.path, step.content, step.mode)
            case _:
                raise TypeError(f"{type(step).__name__} is no step that a host can perform")

    def _await(self, step: steps.Await) -> None:
        from select import POLLIN, poll

        from tapbridge.linux.observe import find_link

        deadline = time.monotonic() + step.limit_s
        with closing(Channel(groups=_LINK_NEWS)) as news:  # before the first look, so that no change is missed
            waiting = poll()
            waiting.register(news.socket, POLLIN)
            while True:
                link = find_link(self._channel, step.link)
                if link is None:
                    raise OSError(errno.ENODEV, f"there is no link '{step.link}'")
                if link.operstate == "up":
                    return
                left = deadline - time.monotonic()
                if left <= 0 or not waiting.poll(left * 1000):
                    raise OSError(errno.ETIMEDOUT, f"its operstate is '{link.operstate}' after {step.limit_s:g} s")
                news.skip()

    def _shield(self, step: steps.Shield) -> None:
        from tapbridge.linux.observe import find_link
        from tapbridge.linux.shield import raise_shield

        link, to = find_link(self._channel, step.link), find_link(self._channel, step.to)
        if link is None or to is None:
            raise OSError(errno.ENODEV, f"there is no link '{step.to if link else step.link}'")
        if link.index not in self._shields:
            try:
                self._shields[link.index] = raise_shield(link.index, to.index)
            except OSError:  # without it up to 1 ms of traffic may be lost; `shielded` tells
                return

    def _unshield(self, step: steps.Unshield) -> None:
        from tapbridge.linux.observe import find_link

        link = find_link(self._channel, step.link)
        descriptor = self._shields.pop(link.index, None) if link is not None else None
        if descriptor is not None:
            os.close(descriptor)


def _with_processes(state: State) -> State:
    from dataclasses import replace

    from tapbridge.linux.attachments import observe_attachments
    from tapbridge.linux.clients import observe_clients

    return replace(
        state,
        clients=observe_clients(tuple(link.name for link in state.links)),
        attachments=observe_attachments(state.links),
    ).sorted()


def _unreadable(error: Exception) -> HostError:
    number = error.errno or 0 if isinstance(error, OSError) else errno.EBADMSG
    words = error.strerror if isinstance(error, OSError) else str(error)
    return HostError(f"the network of this host cannot be read: {words}", errno=number)
