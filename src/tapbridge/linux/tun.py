"""Taps as open files: a link that lives as long as somebody holds it open. Documentation/networking/tuntap.rst.

The kernel names the tap in the same act in which it makes it, so no two programs can meet on a name. One that is made
persistent lives until it is deleted.

A new tap has a random address until it is given its own, some microseconds later. udev gives one that it makes from the
name to links whose address is random (MACAddressPolicy=persistent, systemd.link(5)): where it has looked in between, it
writes its own over ours, once, some milliseconds late. So who makes a tap looks again when he is done with it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tapbridge.model.errors import Forbidden, HostError, Refused, TapbridgeError
from tapbridge.model.noun import dataclass
from tapbridge.model.state import Tap
from tapbridge.model.values import IfName, Mac

TUN: Final = "/dev/net/tun"
VHOST: Final = "/dev/vhost-net"
PATTERN: Final = "tbtap%d"

# include/uapi/linux/if_tun.h, sockios.h, if_arp.h
_TUNSETIFF: Final = 0x400454CA
_TUNSETPERSIST: Final = 0x400454CB
_TUNSETOWNER: Final = 0x400454CC
_TUNSETGROUP: Final = 0x400454CE
_SIOCSIFHWADDR: Final = 0x8924
_SIOCGIFHWADDR: Final = 0x8927
_IFREQ_BYTES: Final = 40
_ARPHRD_ETHER: Final = 1
_TAP_NO_PI: Final = 0x0002 | 0x1000
_VNET_HDR: Final = 0x4000
_MULTI_QUEUE: Final = 0x0100
_EXCLUSIVE: Final = 0x8000  # IFF_TUN_EXCL: do not attach to what is there already


@dataclass(frozen=True, slots=True)
class OpenTap:
    """A tap and its open files, one per queue. When the last of them is closed, the kernel deletes the tap.

    `mac` is the address that it was made with; None for one that a broker has made, who watches over it.
    """

    name: IfName
    descriptors: tuple[int, ...]
    mac: Mac | None = None

    def keep_address(self) -> None:
        """Put its address back if it has another by now. Raises HostError."""
        if self.mac is None:
            return
        try:
            _keep_mac(self.descriptors[0], self.name, self.mac)
        except OSError as error:
            raise HostError(f"the tap {self.name} cannot have its address {self.mac}: {error.strerror}") from None

    def close(self) -> None:
        """Close the files, and with them the tap."""
        for descriptor in self.descriptors:
            os.close(descriptor)


def open_tap(mac: Mac, *, queues: int = 1, vnet_hdr: bool = True, owner: int | None = None) -> OpenTap:
    """Make a tap that is down and has the address `mac`: `ip tuntap add … mode tap vnet_hdr`, but not persistent.

    To a tap of several queues without an owner, whoever may open /dev/net/tun adds his own; it gets one (default: us).
    Raises Refused where the kernel has no taps, Forbidden without CAP_NET_ADMIN, HostError for what else may fail.
    """
    name = PATTERN
    opened: list[int] = []
    try:
        for _ in range(queues):
            opened.append(os.open(TUN, os.O_RDWR | os.O_CLOEXEC))
            name = attach(opened[-1], name, Tap(multi_queue=queues > 1, vnet_hdr=vnet_hdr))
            if len(opened) == 1 and (queues > 1 or owner is not None):
                _set_user(opened[0], _TUNSETOWNER, os.geteuid() if owner is None else owner)
        _set_mac(opened[0], name, mac)
    except OSError as error:
        for descriptor in opened:
            os.close(descriptor)
        raise _explained(error, made=bool(opened)) from None
    return OpenTap(IfName(name), tuple(opened), mac)


def attach(descriptor: int, name: str, tap: Tap, *, new: bool = False) -> str:
    """Make an open file of /dev/net/tun the other end of a tap (TUNSETIFF), of a new one if there is none of that name
    or if it must be `new`. Returns the name that the tap has. Raises OSError."""
    import fcntl
    import struct

    flags = _TAP_NO_PI | (_VNET_HDR if tap.vnet_hdr else 0) | (_MULTI_QUEUE if tap.multi_queue else 0)
    request = struct.pack("16sH22x", name.encode(), flags | (_EXCLUSIVE if new else 0))
    answer = fcntl.ioctl(descriptor, _TUNSETIFF, request)
    return answer[:16].rstrip(b"\0").decode()


def require_tun() -> None:
    """Raises Refused where the kernel has no taps, Forbidden for whoever may not open their file."""
    try:
        os.close(os.open(TUN, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        raise _explained(error, made=False) from None


@contextmanager
def new_tap(name: str, mac: Mac, tap: Tap) -> Iterator[None]:
    """A new tap with its address and its user, which is made persistent at the end of the block, or is gone where the
    block or anything here fails: `ip tuntap add dev NAME mode tap user USER`. Raises OSError."""
    import fcntl

    descriptor = os.open(TUN, os.O_RDWR | os.O_CLOEXEC)
    try:
        attach(descriptor, name, tap, new=True)
        _set_mac(descriptor, name, mac)
        for request, number in ((_TUNSETOWNER, tap.owner), (_TUNSETGROUP, tap.group)):
            if number is not None:
                _set_user(descriptor, request, number)
        yield
        _keep_mac(descriptor, name, mac)
        fcntl.ioctl(descriptor, _TUNSETPERSIST, int(tap.persist))
    finally:
        os.close(descriptor)


def _set_user(descriptor: int, request: int, number: int) -> None:
    import fcntl

    fcntl.ioctl(descriptor, request, number if number < 1 << 31 else number - (1 << 32))


def _set_mac(descriptor: int, name: str, mac: Mac) -> None:
    import fcntl
    import struct

    address = bytes.fromhex(mac.replace(":", ""))
    fcntl.ioctl(descriptor, _SIOCSIFHWADDR, struct.pack("16sH6s16x", name.encode(), _ARPHRD_ETHER, address))


def _keep_mac(descriptor: int, name: str, mac: Mac) -> None:
    import fcntl

    answer = fcntl.ioctl(descriptor, _SIOCGIFHWADDR, bytes(_IFREQ_BYTES))
    if answer[18:24] != bytes.fromhex(mac.replace(":", "")):
        _set_mac(descriptor, name, mac)


def _explained(error: OSError, *, made: bool) -> TapbridgeError:
    import errno

    if not made and error.errno in (errno.ENOENT, errno.ENXIO, errno.ENODEV):
        return Refused(
            f"this kernel offers no taps: {TUN} {'is missing' if error.errno == errno.ENOENT else 'has no driver'}",
            hint="modprobe tun; in a container, give it the device /dev/net/tun; or use --net user",
            code="no-tun",
        )
    if error.errno in (errno.EPERM, errno.EACCES):
        return Forbidden(
            f"a tap cannot be made: {TUN}: {error.strerror}",
            hint="run it with sudo, or use --net user, which needs no rights",
            code="not-permitted",
        )
    return HostError(f"a tap cannot be made: {error.strerror}", errno=error.errno or 0)


def open_vhost(count: int) -> tuple[int, ...] | None:
    """`count` open files of the kernel's own virtio engine, one per queue; None where it cannot be had."""
    try:
        first = os.open(VHOST, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    return first, *(os.open(VHOST, os.O_RDWR | os.O_CLOEXEC) for _ in range(count - 1))


def has_vhost() -> bool:
    """Whether the kernel's own virtio engine could be opened."""
    return os.access(VHOST, os.R_OK | os.W_OK)
