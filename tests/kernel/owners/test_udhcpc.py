"""udhcpc is replaced by one on the bridge, as seen by a real DHCP server and by the kernel."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kit.command import run
from kit.handing import BRIDGE, NIC, clients, comparable_clients, ip_of, move, owners_state, server_lease
from tapbridge.linux.clients import start_client, stop_client
from tapbridge.linux.files import find_text
from tapbridge.model.errors import Refused
from tapbridge.model.state import Client
from tapbridge.owners.table import find_owner, hand_over


def _udhcpc(lan: Any, *words: str) -> Client:
    lan.udhcpc(*words)
    lan.wait_for(lambda: ip_of("eth0"))
    lan.wait_for(lambda: len(clients()) == 1)
    (client,) = clients()
    return client


@pytest.mark.parametrize("words", [("-b", "-R"), ("-n",), ("-x", "0x3d:ff01020304", "-x", "hostname:known")])
def test_the_lease_goes_to_the_bridge_and_back(served: Any, words: tuple[str, ...]) -> None:
    """By the MAC or by an identity of its own, and nothing is deconfigured or released on the way."""
    pid_path = served.folder / "udhcpc.eth0.pid"
    before = _udhcpc(served, "-p", str(pid_path), *words)
    address, identity = ip_of("eth0"), server_lease(served)
    for source, target in ((NIC, BRIDGE), (BRIDGE, NIC)):
        mark, heard = len(served.log()), len(served.events())
        with _told(target) as told:
            move(served, source, target)
            served.wait_for(lambda mark=mark: "DHCPACK" in served.log_since(mark))
            served.wait_for(lambda target=target, heard=heard: f"{target} bound" in served.events()[heard:])
        assert "Deleted" not in told[0]
        assert (ip_of(target), server_lease(served)[1:]) == (address, identity[1:])
        assert not re.search("RELEASE|DECLINE|NAK", served.log_since(mark))
        (client,) = clients()
        assert (client.link, client.program) == (target, "udhcpc")
        assert int((served.folder / f"udhcpc.{target}.pid").read_text()) == client.pid
        _renew(served, client)
    assert comparable_clients((client,)) == comparable_clients((before,))
    assert sorted(path.name for path in served.folder.glob("udhcpc.*")) == ["udhcpc.eth0.pid"]
    assert [path.name for path in Path("/run").glob("udhcpc.*")] == ["udhcpc.eth0"]
    assert f"{NIC} deconfig" in served.events()[:1], "of its own start, before all this"
    assert not [event for event in served.events()[1:] if "deconfig" in event]


def test_a_lease_that_is_lost_later_is_taken_from_the_bridge(served: Any) -> None:
    """SIGUSR2 makes it release: what follows is the event that was kept from its script at the start."""
    _udhcpc(served)
    move(served, NIC, BRIDGE)
    served.wait_for(lambda: f"{BRIDGE} bound" in served.events())
    (client,) = clients()
    os.kill(client.pid, signal.SIGUSR2)
    served.wait_for(lambda: f"{BRIDGE} deconfig" in served.events())
    served.wait_for(lambda: ip_of("br0") is None)
    served.wait_for(lambda: "DHCPRELEASE" in served.log())
    assert ip_of("br0") is None


def test_one_that_is_started_again_leaves_the_link_alone(served: Any) -> None:
    """As after a rollback: the client as it was, with the very words that its user gave it."""
    client, address = _udhcpc(served), ip_of("eth0")
    with _told(NIC) as told:
        stop_client(client)
        assert clients() == ()
        start_client(client)
        served.wait_for(lambda: f"{NIC} renew" in served.events() or served.events().count(f"{NIC} bound") == 2)
    assert "Deleted" not in told[0]
    assert ip_of("eth0") == address
    assert comparable_clients(clients()) == comparable_clients((client,))
    assert served.events().count(f"{NIC} deconfig") == 1


def test_on_a_link_without_an_address_it_is_started_as_it_was(served: Any) -> None:
    client = _udhcpc(served)
    stop_client(client)
    run("ip", "addr", "flush", "dev", "eth0")
    start_client(client)
    served.wait_for(lambda: ip_of("eth0"))
    served.wait_for(lambda: len(clients()) == 1)
    assert "-f" not in Path(f"/proc/{clients()[0].pid}/cmdline").read_text().split("\0")
    assert comparable_clients(clients()) == comparable_clients((client,))


def test_what_cannot_be_replaced_is_refused(served: Any) -> None:
    _udhcpc(served)
    served.udhcpc("-S")
    state = owners_state()
    with pytest.raises(Refused, match="several of them serve it"):
        hand_over(find_owner(state, NIC), state, NIC, BRIDGE, read=find_text)


def _renew(lan: Any, client: Client) -> None:
    """SIGUSR1 makes it renew: the answer must reach it on the link that it serves now."""
    mark, told = len(lan.log()), len(lan.events())
    os.kill(client.pid, signal.SIGUSR1)
    lan.wait_for(lambda: "DHCPACK" in lan.log_since(mark))
    lan.wait_for(lambda: f"{client.link} renew" in lan.events()[told:])


@contextmanager
def _told(link: str) -> Iterator[list[str]]:
    """What the kernel tells of the IPv4 addresses of a link meanwhile; there once the block has ended."""
    told: list[str] = []
    with subprocess.Popen(["ip", "-4", "monitor", "address"], stdout=subprocess.PIPE, text=True) as monitor:
        try:
            yield told
        finally:
            monitor.terminate()
            text = monitor.communicate()[0]
            told.append("\n".join(line for line in text.splitlines() if f" {link} " in line))
