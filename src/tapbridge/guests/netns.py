"""In which network namespace a tap lies whose holder lives in another one.

The holder's descriptor is duplicated into this process for a moment (pidfd_getfd(2), Linux 5.6) and asked
(TUNGETDEVNETNS, Linux 5.2). Both need rights over the holder: ptrace(2)'s, and CAP_NET_ADMIN over the tap's
namespace. The duplicate is closed at once; nothing of the tap changes.
"""

from __future__ import annotations

import os

_PIDFD_GETFD = 438  # the same on every architecture
_TUN = os.makedev(10, 200)  # /dev/net/tun, Documentation/admin-guide/devices.txt
_TUNGETDEVNETNS = 0x54E3  # _IO('T', 227), include/uapi/linux/if_tun.h


def find_tap_netns(pid: int, fd: int) -> tuple[int, int] | None:
    """The identity (device, inode) of the network namespace of the tap behind a descriptor of a process; None
    where that cannot be learnt."""
    import ctypes
    import fcntl

    libc = ctypes.CDLL(None, use_errno=True)
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return None
    try:
        tap = libc.syscall(_PIDFD_GETFD, pidfd, fd, 0)
    finally:
        os.close(pidfd)
    if tap < 0:
        return None
    try:
        if os.fstat(tap).st_rdev != _TUN:  # the number may be another file's by now
            return None
        netns = fcntl.ioctl(tap, _TUNGETDEVNETNS)
    except OSError:
        return None
    finally:
        os.close(tap)
    try:
        status = os.fstat(netns)
    finally:
        os.close(netns)
    return status.st_dev, status.st_ino
