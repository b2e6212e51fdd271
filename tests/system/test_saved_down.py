"""A saved bridge is taken down, and is not there again before the next boot."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kit.changes import until
from kit.container import DHCPCD, Container, container
from kit.saving import (
    DOWN,
    UP,
    assert_bridged,
    assert_network,
    files,
    ip,
    network,
    start_netplan,
    start_networkd,
    start_networkmanager,
)
from kit.tally import WHOLE

HELD_BACK = "find /run -path '*/tapbridge*held-back*' -o -name '*.nmmeta'"


@pytest.fixture(params=("bookworm", "trixie") if WHOLE else ("bookworm",))
def host(request: pytest.FixtureRequest) -> Iterator[Container]:
    """A Debian on a LAN."""
    with container(request.param) as booted:
        yield booted


def read_anew(host: Container) -> None:
    """Let everybody read his files, and start what a target may start anew."""
    host.run("systemctl reset-failed; systemctl try-restart systemd-networkd NetworkManager")
    host.run("systemctl", "start", "multi-user.target")
    host.wait_for("! systemctl is-active -q systemd-networkd || networkctl | grep -q ' routable *configured'")


def assert_down(host: Container, address: str | None, everything: list[str]) -> None:
    """It is taken down, and the lease is asked for on the NIC."""
    mark = len(host.served())
    told = json.loads(host.run("tapbridge", "down", "--json").stdout)
    assert [finding["code"] for finding in told["findings"]] == ["returns-at-boot"]
    assert_held_back(host, address, everything)
    assert until(lambda: "DHCPACK" in host.served()[mark:])


def assert_held_back(host: Container, address: str | None, everything: list[str]) -> None:
    """The NIC has what it had, whoever reads his files."""
    for _ in range(2):
        assert until(lambda: ip(host, "eth0") == address)
        assert_network(host, "eth0", everything)
        assert not Path(host.path("/sys/class/net/br0")).exists()
        read_anew(host)


def assert_it_returns_at_boot(host: Container, owner: str | None) -> None:
    """Up --save, down, up, down, a boot, down, unsave, a boot."""
    address, before, everything, mark = ip(host, "eth0"), files(host), network(host, "eth0"), len(host.served())
    host.run(*UP)
    saved = files(host)
    assert_down(host, address, everything)
    host.run("tapbridge up --yes --quiet --confirm 300 --no-wait; tapbridge rollback --quiet")
    assert_held_back(host, address, everything)
    host.run(*UP[:-1])
    assert_bridged(host, address, owner)
    read_anew(host)
    assert_bridged(host, address, owner)
    again = json.loads(host.run("tapbridge", "save", "--json").stdout)
    assert (again["outcome"], again["findings"]) == ("nothing", [])
    assert_down(host, address, everything)
    assert files(host) == saved
    host.reboot()
    assert_bridged(host, address, owner)
    assert_down(host, address, everything)
    assert files(host) == saved
    host.run("tapbridge", "unsave", "--quiet")
    assert files(host) == before
    assert host.run(HELD_BACK).stdout == ""
    read_anew(host)
    assert_network(host, "eth0", everything)
    host.reboot()
    host.wait_for(f"ip -4 -o addr show dev eth0 | grep -q ' {address} '")
    assert not Path(host.path("/sys/class/net/br0")).exists()
    assert not [word for word in ("NAK", "RELEASE", "DECLINE") if word in host.served()[mark:]]


def test_networkd_s_files_are_held_back(host: Container) -> None:
    start_networkd(host)
    assert_it_returns_at_boot(host, "systemd-networkd")


@pytest.mark.skipif(not WHOLE, reason="its files are held back likewise: script/test system --all")
@pytest.mark.parametrize("start", [start_networkmanager, start_netplan])
def test_networkmanager_s_profiles_are_held_back(host: Container, start: Callable[[Container], None]) -> None:
    start(host)
    assert_it_returns_at_boot(host, "NetworkManager")


@pytest.mark.skipif(not WHOLE, reason="what networkd does is done here too: script/test system --all")
def test_dhcpcd_s_unit_is_held_back(host: Container) -> None:
    host.run("rm -f /etc/resolv.conf; echo >/etc/resolv.conf; echo noarp >>/etc/dhcpcd.conf")
    host.path("/etc/systemd/system/dhcpcd.service").write_text(DHCPCD)
    host.run("systemctl enable --now dhcpcd")
    host.wait_for_ip()
    assert_it_returns_at_boot(host, "dhcpcd")


@pytest.mark.skipif(not WHOLE, reason="each takes six seconds: script/test system --all")
@pytest.mark.parametrize("booted", [False, True])
@pytest.mark.parametrize(
    ("start", "owner", "point"),
    [
        *((start_networkd, "systemd-networkd", one) for one in ("WriteFile#3", "ReloadClient#1", "AwaitClient#2")),
        *((start_networkmanager, "NetworkManager", one) for one in ("StopUnit#1", "WriteFile#6", "StartUnit#1")),
        *((start_netplan, "NetworkManager", one) for one in ("StopUnit#1", "WriteFile#6", "StartUnit#1")),
    ],
)
def test_a_down_that_is_killed_is_taken_back_and_the_files_count_again(
    host: Container, start: Callable[[Container], None], owner: str, point: str, booted: bool
) -> None:
    start(host)
    address, everything = ip(host, "eth0"), network(host, "eth0")
    host.run(*UP)
    if booted:
        host.reboot()
        assert_bridged(host, address, owner)
    host.cut_off(point, *DOWN[1:])
    host.run("tapbridge", "recover")
    assert_bridged(host, address, owner)
    assert host.run(HELD_BACK).stdout == ""
    read_anew(host)
    assert_bridged(host, address, owner)
    assert_network(host, "br0", everything)
    assert_down(host, address, everything)
