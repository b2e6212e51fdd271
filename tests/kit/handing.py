"""An owner's hand-over by hand: owner, addresses and port, owner; as `up` and `down` do it, without them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from kit.command import run
from tapbridge.linux.clients import observe_clients, start_client, stop_client
from tapbridge.linux.files import find_text, write_file
from tapbridge.model.state import Address, Client, Link, State
from tapbridge.model.step import PutAddress, StartClient, Step, StopClient, WriteFile
from tapbridge.model.values import IfName
from tapbridge.owners.table import find_owner, hand_over

NIC, BRIDGE = IfName("eth0"), IfName("br0")


def move(lan: Any, source: IfName, target: IfName) -> None:
    """The whole way by hand: owner, addresses and port, owner."""
    state = owners_state()
    handed = hand_over(find_owner(state, source), state, source, target, read=find_text)
    perform(handed.before)
    assert clients() == ()
    if target == BRIDGE:
        run("ip", "link", "add", "br0", "address", "02:00:00:00:01:02", "type", "bridge", "stp_state", "0")
        run("ip", "link", "set", "br0", "addrgenmode", "none", "up")
    _carry_addresses(source, target)
    run("ip", "link", "set", "eth0", *(["master", "br0"] if target == BRIDGE else ["nomaster"]))
    lan.wait_for(lambda: "state UP" in run("ip", "link", "show", target).stdout)
    run("ip", "addr", "flush", "dev", source)
    if source == BRIDGE:
        run("ip", "link", "del", "br0")
    perform(handed.after)


def _carry_addresses(source: str, target: str) -> None:
    for link in json.loads(run("ip", "-j", "addr", "show", "dev", source).stdout):
        for a in link["addr_info"]:
            words = ["ip", "addr", "replace", f"{a['local']}/{a['prefixlen']}", "dev", target, "scope", a["scope"]]
            if a["valid_life_time"] < 2**32 - 1:
                words += ["valid_lft", str(a["valid_life_time"]), "preferred_lft", str(a["preferred_life_time"])]
            run(*words, *(["nodad"] if a["family"] == "inet6" else ["metric", "4000000"]))


def perform(steps: tuple[Step, ...]) -> None:
    """Carry steps out, one by one."""
    for step in steps:
        if isinstance(step, StopClient):
            stop_client(step.client)
        elif isinstance(step, StartClient):
            start_client(step.client)
        elif isinstance(step, WriteFile):
            write_file(step.path, step.content, step.mode)
        else:
            assert isinstance(step, PutAddress)
            place = f"{step.address.ip}/{step.address.prefix}"
            run("ip", "addr", "replace", place, "dev", step.address.link, "nodad")


def owners_state() -> State:
    """What the owners look at: links, addresses, clients."""
    links, addresses = [], []
    for one in json.loads(run("ip", "-d", "-j", "addr").stdout):
        name = IfName(one["ifname"])
        links.append(Link(name=name, index=one["ifindex"], kind=one.get("linkinfo", {}).get("info_kind", "")))
        for a in one["addr_info"]:
            ends = None if a["valid_life_time"] == 2**32 - 1 else a["valid_life_time"]
            addresses.append(
                Address(
                    link=name,
                    family=4 if a["family"] == "inet" else 6,
                    ip=a["local"],
                    prefix=a["prefixlen"],
                    scope=0 if a["scope"] == "global" else 253,
                    flags=0x80 if ends is None else 0,
                    valid_lft=ends,
                )
            )
    return State(links=tuple(links), addresses=tuple(addresses), clients=clients()).sorted()


def clients() -> tuple[Client, ...]:
    """The clients of this namespace."""
    return observe_clients([link["ifname"] for link in json.loads(run("ip", "-j", "link").stdout)])


def comparable_clients(found: tuple[Client, ...]) -> list[tuple[Any, ...]]:
    """Clients without what another process of the same kind has otherwise."""
    return [(c.link, c.program, c.argv, c.environment, [file.path for file in c.files]) for c in found]


def _address(link: str) -> dict[str, Any] | None:
    found = json.loads(run("ip", "-4", "-j", "addr", "show", "dev", link).stdout)
    return next((a for one in found for a in one.get("addr_info", ())), None)


def ip_of(link: str) -> str | None:
    """The first IPv4 address of a link."""
    found = _address(link)
    return found["local"] if found else None


def lifetime_of(link: str) -> int | None:
    """What its first IPv4 address still has to live, in seconds."""
    found = _address(link)
    return found["valid_life_time"] if found else None


def server_lease(lan: Any) -> list[str]:
    """The line of the server: expiry, MAC, IP, name, client-id."""
    return leases_in(lan.folder / "server.leases")[0]


def leases_in(file: Path, limit_s: float = 2.0) -> list[list[str]]:
    """The words of each line of dnsmasq's leases. It writes the file anew, in place: it may be empty for a moment, or
    end within a line. Raises AssertionError."""
    deadline = time.monotonic() + limit_s
    while not (text := file.read_text()).endswith("\n"):
        assert time.monotonic() < deadline, "the server has no lease"
        time.sleep(0.01)
    return [line.split() for line in text.splitlines()]
