"""The main job on a LAN: a NIC with a lease goes under a bridge and comes back, and the DHCP server notices nothing."""

from __future__ import annotations

import re
import sys

import pytest

from kit.labs import TAPBRIDGE, MakeLab
from tapbridge.lab.build import Lab
from tapbridge.model.journal import load
from tapbridge.model.state import Client

both_names = pytest.mark.parametrize("take_name", [False, True], ids=["br0", "take-name"])


def _messages(lab: Lab) -> list[str]:
    """The DHCPv4 messages that the server has logged, oldest first."""
    text = lab.run("router", ["cat", "/run/dnsmasq.log"]).stdout
    return re.findall(r"(DHCP(?:DISCOVER|OFFER|REQUEST|ACK|NAK|RELEASE|DECLINE))\(", text)


def _expect_messages(lab: Lab, count: int) -> None:
    """Wait until the server has logged as many DHCPv4 messages in all."""
    _expect(lab, "router", f"[ $(grep -cE 'DHCP[A-Z]+[(]' /run/dnsmasq.log) -ge {count} ]")


def _expect(lab: Lab, place: str, condition: str) -> None:
    """Wait until a shell condition holds in a place, 30 s at most."""
    loop = f"for i in $(seq 150); do {condition} && exit 0; sleep 0.2; done; exit 1"
    assert lab.run(place, ["sh", "-c", loop], check=False).returncode == 0, condition


def _change(lab: Lab, *words: str) -> str:
    return lab.run("h1", [*TAPBRIDGE, *words]).stdout


@both_names
def test_a_lease_moves_to_the_bridge_and_is_renewed_there(take_name: bool, make_lab: MakeLab) -> None:
    lab = make_lab(addresses="leased", lease_seconds=120, renew_seconds=6)
    before = lab.addresses("h1")
    for words in (["up", *(["--take-name"] if take_name else [])], ["down"]):
        told = len(_messages(lab))
        _change(lab, *words)
        assert lab.addresses("h1") == before
        _expect_messages(lab, told + 4)
        # INIT-REBOOT, then a renewal: nothing is discovered, released or refused.
        assert set(_messages(lab)[told:]) == {"DHCPREQUEST", "DHCPACK"}
        assert lab.addresses("h1") == before


@both_names
def test_the_client_of_the_port_is_gone_and_one_of_the_bridge_is_there(take_name: bool, make_lab: MakeLab) -> None:
    lab = make_lab(addresses="leased")
    first = _clients(lab)
    _change(lab, "up", *(["--take-name"] if take_name else []))
    second = _clients(lab)
    assert len(first) == len(second) == 1
    assert first[0].pid != second[0].pid
    assert second[0].link == ("eth0" if take_name else "br0")
    _change(lab, "down")
    assert [client.argv for client in _clients(lab)] == [first[0].argv]


def _clients(lab: Lab) -> tuple[Client, ...]:
    code = (
        "from tapbridge.linux.clients import observe_clients\n"
        "from tapbridge.model.journal import dump\n"
        "print(dump(observe_clients(['eth0', 'br0', 'reth0'])))"
    )
    found: tuple[Client, ...] = load(lab.run("h1", [sys.executable, "-c", code]).stdout)
    return found


@both_names
def test_router_advertisements_go_on_refreshing_addresses_and_routes(take_name: bool, make_lab: MakeLab) -> None:
    lab = make_lab(addresses="leased", lease_seconds=120)
    final = "eth0" if take_name else "br0"
    _change(lab, "up", *(["--take-name"] if take_name else []))
    # Ours is a copy one metric worse; the kernel's own comes with the next advertisement.
    _expect(lab, "h1", f"ip -6 route show default dev {final} proto ra | grep -q 'metric 1024'")
    _expect(lab, "h1", f"ip -6 route show proto kernel dev {final} | grep -qE 'expires 1(19|20)sec'")


def _reaches(lab: Lab, place: str, other: str) -> bool:
    return all(
        lab.run(place, ["ping", "-c", "1", "-W", "2", "-q", address], check=False).returncode == 0
        for family in lab.addresses(other).values()
        for address in family
    )


@pytest.mark.parametrize("addresses", ["static", "leased"])
def test_everybody_still_reaches_everybody(addresses: str, make_lab: MakeLab) -> None:
    lab = make_lab(addresses=addresses)
    for words in (["up"], ["down"], ["up", "--take-name"], ["down"]):
        _change(lab, *words)
        for other in ("peer", "beyond", "router"):
            assert _reaches(lab, "h1", other), (words, other)
            assert _reaches(lab, other, "h1"), (words, other)


def test_the_script_takes_the_lease_along_and_brings_it_back(make_lab: MakeLab) -> None:
    lab = make_lab(addresses="leased")
    before, told = lab.addresses("h1"), len(_messages(lab))
    script = _change(lab, "up", "--script")
    for words, link in ((["sh", "-s"], "br0"), (["sh", "-s", "--", "--undo"], "eth0")):
        lab.run("h1", words, text=script)
        assert lab.addresses("h1") == before
        assert [client.link for client in _clients(lab)] == [link]
    assert set(_messages(lab)[told:]) == {"DHCPREQUEST", "DHCPACK"}
