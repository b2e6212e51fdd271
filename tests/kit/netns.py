"""Network namespaces for a test: made, entered, left, gone.

A namespace belongs to a thread: whoever makes sockets or starts processes from the thread that entered one is in it.
/sys shows the network of whoever mounted it, so /sys/class/net does not follow; netlink and /proc/thread-self/net do.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from kit.command import run

CLONE_NEWNET = 0x40000000
_HERE = "/proc/thread-self/ns/net"
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1
_libc = ctypes.CDLL(None, use_errno=True)  # Python 3.11 has neither os.unshare nor os.setns


@dataclass(frozen=True, slots=True)
class Netns:
    """A network namespace, alive as long as `fd` is open."""

    fd: int

    @property
    def path(self) -> str:
        """A path for `nsenter --net=` and for `ip link set … netns`, good while this process lives."""
        return f"/proc/{os.getpid()}/fd/{self.fd}"

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Move this thread into the namespace and, at the end, back to where it was."""
        before = os.open(_HERE, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(self.fd)
            try:
                yield
            finally:
                _setns(before)
        finally:
            os.close(before)


@contextmanager
def new_netns() -> Iterator[Netns]:
    """A new anonymous namespace with lo up; this thread stays where it is."""
    before = os.open(_HERE, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.unshare(CLONE_NEWNET), "unshare")
        try:
            set_up("lo")
            made = os.open(_HERE, os.O_RDONLY | os.O_CLOEXEC)
        finally:
            _setns(before)
    finally:
        os.close(before)
    try:
        yield Netns(made)
    finally:
        os.close(made)


@contextmanager
def in_netns() -> Iterator[Netns]:
    """A new anonymous namespace with lo up, and this thread in it until the end."""
    with new_netns() as netns, netns.entered():
        yield netns


@contextmanager
def named_netns(name: str) -> Iterator[Netns]:
    """A new namespace that `ip netns` knows by name, with lo up; this thread stays where it is."""
    run("ip", "netns", "add", name)
    try:
        fd = os.open(f"/run/netns/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            netns = Netns(fd)
            with netns.entered():
                set_up("lo")
            yield netns
        finally:
            os.close(fd)
    finally:
        run("ip", "netns", "del", name)


def set_up(link: str) -> None:
    """`ip link set LINK up`, in the namespace of this thread."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as any_socket:
        name = link.encode()
        answer = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, struct.pack("16sH14x", name, 0))
        flags: int = struct.unpack("16sH14x", answer)[1]
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", name, flags | _IFF_UP))


def _setns(fd: int) -> None:
    _check(_libc.setns(fd, CLONE_NEWNET), "setns")


def _check(result: int, call: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
