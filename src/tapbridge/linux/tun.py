"""Taps as open files: a link that lives as long as somebody holds it open. Documentation/networking/tuntap.rst.

The kernel names the tap in the same act in which it makes it, so no two programs can meet on a name.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from tapbridge.model.errors import Forbidden, HostError, Refused, TapbridgeError
from tapbridge.model.values import IfName, Mac

TUN: Final = "/dev/net/tun"
VHOST: Final = "/dev/vhost-net"
PATTERN: Final = "tbtap%d"

# include/uapi/linux/if_tun.h, sockios.h, if_arp.h
_TUNSETIFF: Final = 0x400454CA
_SIOCSIFHWADDR: Final = 0x8924
_ARPHRD_ETHER: Final = 1
_TAP_NO_PI_VNET_HDR: Final = 0x0002 | 0x1000 | 0x4000
_MULTI_QUEUE: Final = 0x0100


@dataclass(frozen=True, slots=True)
class OpenTap:
    """A tap and its open files, one per queue. When the last of them is closed, the kernel deletes the tap."""

    name: IfName
    descriptors: tuple[int, ...]

    def close(self) -> None:
        """Close the files, and with them the tap."""
        for descriptor in self.descriptors:
            os.close(descriptor)


def open_tap(mac: Mac, *, queues: int = 1) -> OpenTap:
    """Make a tap that is down and has the address `mac`: `ip tuntap add … mode tap vnet_hdr`, but not persistent.

    The address is set at once, by the tap's own file: udev gives one of its own to links whose address is random.
    Raises Refused where the kernel has no taps, Forbidden without CAP_NET_ADMIN, HostError for what else may fail.
    """
    import fcntl
    import struct

    flags = _TAP_NO_PI_VNET_HDR | (_MULTI_QUEUE if queues > 1 else 0)
    name = PATTERN.encode()
    opened: list[int] = []
    try:
        for _ in range(queues):
            opened.append(os.open(TUN, os.O_RDWR | os.O_CLOEXEC))
            answer = fcntl.ioctl(opened[-1], _TUNSETIFF, struct.pack("16sH22x", name, flags))
            name = answer[:16].rstrip(b"\0")
        fcntl.ioctl(
            opened[0],
            _SIOCSIFHWADDR,
            struct.pack("16sH6s16x", name, _ARPHRD_ETHER, bytes.fromhex(mac.replace(":", ""))),
        )
    except OSError as error:
        for descriptor in opened:
            os.close(descriptor)
        raise _explained(error, made=bool(opened)) from None
    return OpenTap(IfName(name.decode()), tuple(opened))


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
