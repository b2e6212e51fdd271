"""The process that holds the namespaces of one place of a lab, and what it makes of the file system there.

A place has a network, a mount and a UTS namespace. In its mount namespace these are its own, on a tmpfs that goes
with the namespace: /run, so that D-Bus, systemd and the state of the machine are out of reach; /etc, an overlay, so
that nothing done in a lab is ever saved on the machine; /sys, which shows the place's links; and the folders in which
DHCP programs keep leases. Programs run there with the paths that they have everywhere else.

The keeper does nothing until it is told that the lab's record is complete. If the process that makes the lab dies
before that, the keeper reads an end of file and goes too, and the namespaces with it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Mapping
from typing import Final, NoReturn

from tapbridge.lab import namespaces as ns
from tapbridge.lab.spec import Mark
from tapbridge.model.errors import HostError
from tapbridge.model.noun import dataclass

_OWN: Final = "/run/lab"
_BLANK: Final = (
    *("/etc/dhcp", "/etc/network", "/etc/netplan", "/etc/systemd/network", "/etc/NetworkManager"),
    *("/var/lib/dhcp", "/var/lib/dhcpcd", "/var/lib/NetworkManager", "/var/lib/misc"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeper:
    """A keeper as its maker sees it: `start` in clock ticks since boot, `go` is the pipe that releases it."""

    pid: int
    start: int
    go: int

    def release(self) -> None:
        """Tell it that it shall outlive this process."""
        os.write(self.go, b"go")
        os.close(self.go)

    def abandon(self) -> None:
        """Let it go as if this process had died."""
        with contextlib.suppress(OSError):
            os.close(self.go)


def start_keeper(mark: Mark, sysctls: Mapping[str, str], files: Mapping[str, str]) -> Keeper:
    """Make a place with these sysctls and files (path → text) and return when it is there. Raises HostError.

    The keeper is a grandchild, so that it is nobody's to wait for when it ends.
    """
    told, tell = os.pipe()
    waits, go = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.fork() == 0:
                ns.close_all_but((tell, waits))
                _keep(mark, sysctls, files, tell, waits)
        finally:
            os._exit(0)
    os.close(tell)
    os.close(waits)
    os.waitpid(child, 0)
    with open(told, encoding="utf-8") as answer:
        first, errno, reason = [*answer.read().split(" ", 2), "", ""][:3]
    start = ns.started(int(first)) if first else None
    if start is None or reason:
        os.close(go)
        raise HostError(
            f"the place {mark.place} of the lab could not be made: {reason or 'its process died'}",
            errno=int(errno or 0),
            hint=_hint(reason),
        )
    return Keeper(pid=int(first), start=start, go=go)


def _keep(mark: Mark, sysctls: Mapping[str, str], files: Mapping[str, str], tell: int, waits: int) -> NoReturn:
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.write(tell, str(os.getpid()).encode())
    try:
        _furnish(mark.place)
        for path, text in sysctls.items():
            _write_sysctl(path, text)
        for path, text in {**files, "/etc/hostname": f"{mark.place}\n"}.items():
            _write(path, text)
    except OSError as error:
        os.write(tell, f" {error.errno} {error.filename or 'a file'}: {error.strerror}".encode())
        os._exit(1)
    os.close(tell)
    if os.read(waits, 2) != b"go":
        os._exit(1)
    os.execvp("sleep", [str(mark), "infinity"])


def _furnish(place: str) -> None:
    ns.unshare(ns.CLONE_NEWNET | ns.CLONE_NEWNS | ns.CLONE_NEWUTS)
    ns.mount("none", "/", flags=ns.MS_REC | ns.MS_SLAVE)  # not private: what is unmounted outside must go here too
    socket.sethostname(place)
    had_cgroups = os.path.isdir("/sys/fs/cgroup")
    ns.mount("tmpfs", "/run", "tmpfs", options="size=64m,mode=755")
    os.makedirs(f"{_OWN}/work")
    for folder in ("lock", "tapbridge"):
        os.mkdir(f"/run/{folder}")
    if had_cgroups:
        os.mkdir(f"{_OWN}/cgroup")
        ns.mount("/sys/fs/cgroup", f"{_OWN}/cgroup", flags=ns.MS_BIND | ns.MS_REC)
    ns.mount("sysfs", "/sys", "sysfs")
    if had_cgroups:
        ns.mount(f"{_OWN}/cgroup", "/sys/fs/cgroup", flags=ns.MS_BIND | ns.MS_REC)
        ns.detach(f"{_OWN}/cgroup")
    os.mkdir(f"{_OWN}/etc")
    options = f"lowerdir=/etc,upperdir={_OWN}/etc,workdir={_OWN}/work"
    ns.mount("overlay", "/etc", "overlay", options=options + (",userxattr" if ns.in_own_user_namespace() else ""))
    for folder in _BLANK:
        if os.path.isdir(folder):
            os.makedirs(f"{_OWN}/blank{folder}")
            ns.mount(f"{_OWN}/blank{folder}", folder, flags=ns.MS_BIND)


def _write_sysctl(path: str, text: str) -> None:
    try:
        with open(f"/proc/sys/{path}", "w", encoding="ascii") as file:
            file.write(text)
    except FileNotFoundError:
        if not path.startswith("net/bridge/"):  # there only with br_netfilter
            raise


def _write(path: str, text: str) -> None:
    """A file in the place. What stood there may be a symbolic link into a /run that is gone."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.lexists(path):
        os.unlink(path)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def _hint(reason: str) -> str | None:
    if reason.startswith("mount overlay"):
        return "a lab needs overlayfs, without root in Linux 5.11 or newer"
    if reason.startswith("mount sysfs"):
        return "containers often forbid this: run the lab on the machine itself, or in a privileged container"
    return None
