"""A NIC that netplan describes goes to the bridge and back, and `netplan apply` spoils nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from kit.changes import until
from kit.container import GATEWAY, Container, container
from kit.tally import WHOLE

RENEWAL_S = 5
YAML = "network: {version: 2, renderer: networkd, ethernets: {eth0: {dhcp4: true}}}\n"
UP = ("tapbridge", "up", "--yes", "--quiet", "--confirm", "0")
DOWN = ("tapbridge", "down", "--quiet")


@pytest.fixture(scope="module")
def host() -> Iterator[Container]:
    """A host with a lease that its netplan asks for, and that is soon renewed."""
    with container(server=(f"--dhcp-option=58,{RENEWAL_S}",)) as booted:
        booted.path("/etc/netplan/eth0.yaml").write_text(YAML)
        booted.run("chmod", "600", "/etc/netplan/eth0.yaml")
        booted.run("systemctl", "enable", "systemd-networkd")
        booted.reboot()
        booted.wait_for("ip -4 -o addr show dev eth0 | grep -q 192.0.2.")
        yield booted


def ip(host: Container, link: str) -> str | None:
    """The IPv4 address of a link."""
    found = re.search(r"inet (\S+)", host.run("ip", "-4", "-o", "addr", "show", "dev", link, check=False).stdout)
    return found[1] if found else None


def assert_renewed(host: Container, mark: int) -> None:
    assert until(lambda: host.served()[mark:].count("DHCPACK") >= 2, 4 * RENEWAL_S), host.log()
    assert not re.search("RELEASE|DECLINE|NAK", host.served()[mark:])


@pytest.mark.parametrize(
    ("bridge", "port", "words"), [("br0", "eth0", ()), *([("eth0", "reth0", ("--take-name",))] if WHOLE else [])]
)
def test_the_lease_goes_to_the_bridge_and_back(host: Container, bridge: str, port: str, words: tuple[str, ...]) -> None:
    address, yaml = ip(host, "eth0"), host.path("/etc/netplan/eth0.yaml").read_text()
    generated = host.run("find /run -name '*netplan-eth0*' | sort").stdout
    assert address
    assert generated
    mark = len(host.served())
    host.run(*UP, *words)
    assert (ip(host, bridge), ip(host, port)) == (address, None)
    assert_renewed(host, mark)
    applied = len(host.served())
    host.run("netplan", "apply")
    assert_renewed(host, applied)
    assert (ip(host, bridge), ip(host, port)) == (address, None)
    assert host.run("ping", "-c1", "-W2", GATEWAY).returncode == 0
    host.run(*DOWN)
    assert until(lambda: ip(host, "eth0") == address, 10), host.log()
    assert_renewed(host, len(host.served()))
    assert host.path("/etc/netplan/eth0.yaml").read_text() == yaml
    assert host.run("find /run -name '*netplan-eth0*' | sort").stdout == generated
    assert host.run("find /run -name '*tapbridge-*' -type f").stdout == ""
    assert "RELEASE" not in host.served()[mark:]
