"""Waiting until links carry and addresses are usable: driven by the kernel's messages, bounded in time."""

from __future__ import annotations

import json
import os
import select
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tapbridge.lab import namespaces as ns
from tapbridge.lab.place import with_system_path
from tapbridge.lab.record import Keep
from tapbridge.model.errors import HostError

_GROUPS: Final = 0x1 | 0x10 | 0x100 | 0x400  # RTMGRP_LINK, IPV4_IFADDR, IPV6_IFADDR, IPV6_ROUTE: linux/rtnetlink.h


def unsettled(links: Sequence[Mapping[str, Any]], routes6: Sequence[Mapping[str, Any]], *, advertised: bool) -> str:
    """What is still missing, out of `ip -j addr` and `ip -j -6 route show default`; empty if nothing is.

    `advertised`: an IPv6 address and a default route are to come by router advertisement.
    """
    for link in links:
        if link.get("link_type") == "loopback":
            continue
        if link.get("operstate") != "UP":
            return f"{link['ifname']} has no carrier"
        addresses = link.get("addr_info", [])
        for address in addresses:
            if address.get("dadfailed"):
                return f"{address['local']} is in use twice"
            if address.get("tentative"):
                return f"{address['local']} is tentative"
        if advertised and not any(a["family"] == "inet6" and a.get("dynamic") for a in addresses):
            return f"{link['ifname']} has no advertised address"
    return "" if routes6 or not advertised else "there is no advertised default route"


def await_settled(keep: Keep, *, advertised: bool, limit_s: float) -> None:
    """Wait for a place. Raises HostError with what is missing when the limit is over."""
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        answer = "it could not be watched"
        try:
            answer = _watch(keep, advertised, time.monotonic() + limit_s)
        except (OSError, ValueError) as error:
            answer = str(error)
        finally:
            os.write(tell, answer.encode())
            os._exit(0)
    os.close(tell)
    with open(told, encoding="utf-8") as pipe:
        missing = pipe.read()
    os.waitpid(child, 0)
    if missing:
        raise HostError(f"the lab is not ready after {limit_s:g} s: {missing}")


def _watch(keep: Keep, advertised: bool, deadline: float) -> str:
    pidfd = ns.find_pidfd(keep.pid, keep.start)
    if pidfd is None:
        return "its keeper has died"
    ns.enter(keep.pid, pidfd)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as events:
        events.bind((0, _GROUPS))
        while True:
            missing = unsettled(_ip("addr"), _ip("-6", "route", "show", "default"), advertised=advertised)
            left = deadline - time.monotonic()
            if not missing or left <= 0:
                return missing
            if select.select([events], [], [], left)[0]:
                events.recv(1 << 16)


def _ip(*words: str) -> list[dict[str, Any]]:
    import subprocess

    environ = with_system_path(os.environ)
    done = subprocess.run(["ip", "-j", *words], env=environ, capture_output=True, text=True, check=False, timeout=10)
    return list(json.loads(done.stdout or "[]"))
