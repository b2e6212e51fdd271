"""Per-link switches by /proc/sys, which shows the network namespace of the thread that opens it."""

from __future__ import annotations

import errno
from contextlib import suppress

from tapbridge.linux.switches import GLOBAL_SWITCHES, IPV4_SWITCHES, IPV6_SWITCHES
from tapbridge.model.state import Sysctl
from tapbridge.model.values import IfName

_ALL, _DEFAULT = IfName("all"), IfName("default")


def read_sysctls() -> tuple[Sysctl, ...]:
    """What no message tells: the few of conf/all that count beside a link's own, and conf/default, with which a
    new link begins. What this kernel does not have is left out."""
    asked = [(_ALL, stack, name) for stack, name in GLOBAL_SWITCHES]
    asked += [(_DEFAULT, "ipv4", name) for name in IPV4_SWITCHES]
    asked += [(_DEFAULT, "ipv6", name) for name in (*IPV6_SWITCHES, "addr_gen_mode")]
    found = []
    for link, stack, name in asked:
        with suppress(FileNotFoundError), open(_path(link, stack, name), "rb", buffering=0) as switch:
            found.append(Sysctl(link=link, stack=stack, name=name, value=int(switch.read())))
    return tuple(found)


def write_sysctl(sysctl: Sysctl) -> None:
    """`sysctl -w net.STACK.conf.LINK.NAME=VALUE`. Raises OSError."""
    try:
        with open(_path(sysctl.link, sysctl.stack, sysctl.name), "wb", buffering=0) as switch:
            switch.write(str(sysctl.value).encode())
    except FileNotFoundError as error:
        why = f"{sysctl.link} has no switch net.{sysctl.stack}.conf.*.{sysctl.name}"
        raise OSError(errno.ENOENT, why) from error


def _path(link: str, stack: str, name: str) -> str:
    for word in (link, stack, name):
        if "/" in word or word in ("", ".", ".."):
            raise OSError(errno.EINVAL, f"'{word}' cannot be a part of a switch's name")
    return f"/proc/sys/net/{stack}/conf/{link}/{name}"
