"""A NIC that netplan describes goes to the bridge and back, and `netplan apply` spoils nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from kit.changes import until
from kit.container import GATEWAY, Container, container
from kit.tally import WHOLE

RENEWAL_S = 5
MANAGED = [("NetworkManager", "bookworm"), *([("NetworkManager", "trixie")] if WHOLE else [])]
HOSTS = [("networkd", "bookworm"), *MANAGED]
RENAMED = [(HOSTS[0], "eth0", "reth0", ("--take-name",))] if WHOLE else []
NAMED = [*((one, "br0", "eth0", ()) for one in HOSTS), *RENAMED]
UNITS = {"networkd": "systemd-networkd", "NetworkManager": "NetworkManager"}
YAML = "network: {{version: 2, renderer: {renderer}, ethernets: {{eth0: {{dhcp4: true}}}}}}\n"
UP = ("tapbridge", "up", "--yes", "--quiet", "--confirm", "0")
DOWN = ("tapbridge", "down", "--quiet")
RECOVER = ("tapbridge", "recover", "--quiet")


@pytest.fixture(scope="module")
def host(request: pytest.FixtureRequest) -> Iterator[Container]:
    """A host with a lease that its netplan asks for, and that is soon renewed."""
    renderer, suite = request.param
    with container(suite, server=(f"--dhcp-option=58,{RENEWAL_S}",)) as booted:
        booted.path("/etc/netplan/eth0.yaml").write_text(YAML.format(renderer=renderer))
        booted.run("chmod", "600", "/etc/netplan/eth0.yaml")
        booted.run("systemctl", "enable", UNITS[renderer])
        booted.reboot()
        booted.wait_for_ip()
        booted.wait_for("systemctl is-active systemd-networkd || nmcli -t -f STATE general | grep -qx connected")
        yield booted


def ip(host: Container, link: str) -> str | None:
    """The IPv4 address of a link."""
    found = re.search(r"inet (\S+)", host.run("ip", "-4", "-o", "addr", "show", "dev", link, check=False).stdout)
    return found[1] if found else None


def made(host: Container) -> str:
    """What netplan has made of the NIC, with the names of the files."""
    return host.run("find /run -name '*netplan-eth0*' | sort | xargs tail -n +1").stdout


def assert_renewed(host: Container, mark: int) -> None:
    assert until(lambda: host.served()[mark:].count("DHCPACK") >= 2, 4 * RENEWAL_S), host.log()
    assert not re.search("RELEASE|DECLINE|NAK", host.served()[mark:])


def assert_nothing_left(host: Container, generated: str) -> None:
    assert made(host) == generated
    assert host.run("find /run -name '*tapbridge-*' -type f").stdout == ""


@pytest.mark.parametrize(("host", "bridge", "port", "words"), NAMED, indirect=["host"])
def test_the_lease_goes_to_the_bridge_and_back(host: Container, bridge: str, port: str, words: tuple[str, ...]) -> None:
    address, yaml, generated = ip(host, "eth0"), host.path("/etc/netplan/eth0.yaml").read_text(), made(host)
    assert address
    assert "eth0" in generated
    mark = len(host.served())
    host.run(*UP, *words)
    assert (ip(host, bridge), ip(host, port)) == (address, None)
    applied = len(host.served())
    host.run("netplan", "apply")
    assert_renewed(host, applied)
    assert (ip(host, bridge), ip(host, port)) == (address, None)
    assert host.run("ping", "-c1", "-W2", GATEWAY).returncode == 0
    returned = len(host.served())
    host.run(*DOWN)
    assert until(lambda: ip(host, "eth0") == address, 10), host.log()
    assert_renewed(host, returned)
    assert host.path("/etc/netplan/eth0.yaml").read_text() == yaml
    assert_nothing_left(host, generated)
    assert "RELEASE" not in host.served()[mark:]


@pytest.mark.parametrize("host", MANAGED, indirect=True, ids="-".join)
def test_networkmanager_goes_on_after_netplan_apply(host: Container) -> None:
    """The NIC is a port again, a guest's tap stayed one, NetworkManager holds both, and `netplan set` is the user's."""
    generated, held = made(host), "nmcli -t -f DEVICE,STATE,CON-UUID device | grep -E '^(br0|eth0):connected:' | sort"
    host.run(*UP)
    before = host.run(held).stdout
    assert before.count("\n") == 2
    host.run("ip tuntap add guest0 mode tap; ip link set guest0 master br0 up")
    host.run("netplan set ethernets.eth0.optional=true; netplan apply")
    host.wait_for(f"[ \"$({held})\" = '{before.strip()}' ]")
    assert "eth0 " in host.run("ls /sys/class/net/br0/brif | tr '\\n' ' '").stdout
    assert host.run("ping", "-c1", "-W2", GATEWAY).returncode == 0
    assert host.run("cd /etc/netplan && grep -l optional *").stdout == "eth0.yaml\n"
    assert "master br0" in host.run("ip", "link", "show", "dev", "guest0").stdout
    host.run("ip", "tuntap", "del", "guest0", "mode", "tap")
    host.run(*DOWN)
    assert_nothing_left(host, generated)


@pytest.mark.skipif(not WHOLE, reason="it goes through every point: script/test system --all")
@pytest.mark.parametrize("host", MANAGED, indirect=True, ids="-".join)
def test_killed_anywhere_and_recovered_all_is_there_or_nothing(host: Container) -> None:
    address, generated, ended = ip(host, "eth0"), made(host), set()
    points = [("up", number) for number in range(1, host.syncs(UP) + 1)]
    points += [("down", number) for number in range(1, host.syncs(DOWN) + 1)]
    for verb, number in points:
        if verb == "down":
            host.run(*UP)
        host.syncs(UP if verb == "up" else DOWN, str(number))
        if number % 2:
            host.syncs(RECOVER, str(1 + number % 7))
        host.run(*RECOVER)
        bridged = Path(host.path("/sys/class/net/br0")).exists()
        ended.add((verb, bridged))
        assert ip(host, "br0" if bridged else "eth0") == address, (verb, number)
        assert (host.run("find /run/systemd/system -name 'tapbridge-br0.conf'").stdout != "") is bridged, (verb, number)
        if bridged:
            host.run(*DOWN)
        assert_nothing_left(host, generated)
        host.wait_for("nmcli -t -f DEVICE,STATE device | grep -qx eth0:connected")
    assert {("up", False), ("down", True)} <= ended
