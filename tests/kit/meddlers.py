"""Somebody else at the same host: what he may do to a NIC and its bridge in the middle of a change.

An act is a script of lines for `ip` (see `meddle`), in which {nic} and {bridge} are the names that the two have at
the moment; a line about one that is not there is left out. `adds` is what the act adds, as it stands in a `Reading`;
`cuts` says that it cuts the host off.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

from kit.command import run
from kit.netns import Netns
from tapbridge.cli.world import World
from tapbridge.linux.host import LinuxHost
from tapbridge.model import noun
from tapbridge.model.step import Step

OURS = "tapbridge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One thing that somebody does."""

    name: str
    does: str
    adds: str = ""
    cuts: bool = False


ROUTE = "203.0.113.0/24 via 192.0.2.9"
LEASE = "192.0.2.4/24 valid_lft 900 preferred_lft 900"
ACTS = (
    Act(name="takes an address from the NIC", does="addr del 192.0.2.2/24 dev {nic}"),
    Act(name="takes an IPv6 address from the NIC", does="addr del 2001:db8::2/64 dev {nic}"),
    Act(name="takes an address from the bridge", does="addr del 192.0.2.2/24 dev {bridge}"),
    Act(name="flushes the bridge", does="addr flush dev {bridge}"),
    Act(name="adds an address to the NIC", does="addr add 198.51.100.7/24 dev {nic}", adds="198.51.100.7/24"),
    Act(name="adds an address to the bridge", does="addr add 198.51.100.7/24 dev {bridge}", adds="198.51.100.7/24"),
    Act(name="adds a route by the NIC", does=f"route add {ROUTE} dev {{nic}}", adds="203.0.113.0/24"),
    Act(name="adds a route by the bridge", does=f"route add {ROUTE} dev {{bridge}}", adds="203.0.113.0/24"),
    Act(name="takes the default route", does="route del default"),
    Act(name="sets the NIC down", does="link set {nic} down"),
    Act(name="sets the bridge down", does="link set {bridge} down"),
    Act(name="pulls the cable", does="@lan link set p0 down", cuts=True),
    Act(name="renames the NIC", does="link set {nic} name other0"),
    Act(name="moves the NIC away", does="link set {nic} netns {lan}", cuts=True),
    Act(name="unplugs the NIC", does="@lan link del p0", cuts=True),
    Act(name="puts the NIC under another bridge", does="link add brx type bridge\nlink set {nic} master brx"),
    Act(name="deletes the bridge", does="link del {bridge}"),
    Act(name="renews a lease", does=f"addr change {LEASE} dev {{nic}}\naddr change {LEASE} dev {{bridge}}"),
    Act(name="flushes the firewall", does="!nft flush ruleset"),
)

STRANGE = ("198.51.100.", "203.0.113.")
"""By these words is known what was added."""

NIC_MAC = "02:00:00:00:01:02"


def meddle(script: str, lan: Netns) -> bool:
    """Do what the lines say; `@lan` at the LAN's end, `!` not by ip. Whether the kernel took any of it."""
    taken = False
    for line in script.splitlines():
        names = _names()
        if any(f"{{{what}}}" in line and what not in names for what in ("nic", "bridge")):
            continue
        words = line.format(lan=lan.path, **names).removeprefix("@lan ").removeprefix("!").split()
        program = () if line.startswith("!") else ("ip",)
        with lan.entered() if line.startswith("@lan ") else nullcontext():
            taken = run(*program, *words, check=False).returncode == 0 or taken
    return taken


def _names() -> dict[str, str]:
    names = {}
    for link in _ip("-d", "link"):
        if link.get("ifalias", "").startswith(OURS) and link["linkinfo"]["info_kind"] == "bridge":
            names["bridge"] = link["ifname"]
        elif link.get("address") == NIC_MAC:
            names["nic"] = link["ifname"]
    return names


class MeddledHost(LinuxHost):
    """The real kernel, with somebody who does something before the batch of a certain number."""

    def __init__(self, meddling: Meddling) -> None:
        super().__init__()
        self._meddling = meddling

    def perform(self, steps: Sequence[Step]) -> None:
        """Let him do it first, if it is this batch's turn."""
        self._meddling.next()
        super().perform(steps)


@dataclass(slots=True)
class Meddling:
    """When who does what; `batches` counts those of the command and of its way back."""

    act: Act
    at: int
    lan: Netns
    batches: int = 0
    added: str = ""

    def next(self) -> None:
        """Before each batch."""
        self.batches += 1
        if self.batches == self.at:
            self.added = self.act.adds if meddle(self.act.does, self.lan) else ""


@noun.dataclass(frozen=True, slots=True, kw_only=True)
class MeddledWorld(World):
    """The outside of a command at whose host somebody else is at work."""

    meddling: Meddling

    def host(self) -> LinuxHost:
        """This machine, meddled with."""
        return MeddledHost(self.meddling)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What iproute2 says of the host: who is whose port, and on which link each address and each route is."""

    masters: dict[str, str | None] = field(default_factory=dict)
    ours: frozenset[str] = frozenset()
    up: frozenset[str] = frozenset()
    addresses: frozenset[tuple[str, str]] = frozenset()
    routes: frozenset[tuple[str, str, str]] = frozenset()

    def without(self, words: Sequence[str]) -> Reading:
        """The same without what one of these words names."""
        return Reading(
            masters=self.masters,
            ours=self.ours,
            up=self.up,
            addresses=frozenset(a for a in self.addresses if not any(word in a[1] for word in words)),
            routes=frozenset(r for r in self.routes if not any(word in r[1] for word in words)),
        )


def read_host() -> Reading:
    """Read it, by `ip -j` alone. Link-local addresses, and the kernel's own routes of them, are left out."""
    links = _ip("link")
    addresses = {
        (link["ifname"], f"{one['local']}/{one['prefixlen']}")
        for link in _ip("addr")
        for one in link["addr_info"]
        if one["scope"] != "link" and link["ifname"] != "lo"
    }
    routes = {
        (route.get("dev", ""), route["dst"], str(route.get("table", "main")))
        for family in ("-4", "-6")
        for route in _ip(family, "route", "show", "table", "all")
        if route.get("table") != "local" and not route["dst"].startswith(("fe80", "ff00", "multicast"))
    }
    return Reading(
        masters={link["ifname"]: link.get("master") for link in links},
        ours=frozenset(link["ifname"] for link in links if link.get("ifalias", "").startswith(OURS)),
        up=frozenset(link["ifname"] for link in links if "UP" in link["flags"]),
        addresses=frozenset(addresses),
        routes=frozenset(routes),
    )


def answers(lan: Netns) -> bool:
    """Whether the host answers over both families, each time to somebody who has to ask for its address anew."""
    with lan.entered():
        run("ip", "neigh", "flush", "dev", "p0")
        return all(
            any(run("ping", "-c", "1", "-W", "1", "-q", address, check=False).returncode == 0 for _ in range(3))
            for address in ("192.0.2.2", "2001:db8::2")
        )


def _ip(*words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run("ip", "-j", *words).stdout or "[]")
    return found
