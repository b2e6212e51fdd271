"""A NIC of systemd-networkd's goes to the bridge and back, as seen by networkd, the DHCP server and the kernel."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kit.changes import until
from kit.container import GATEWAY, NIC_MAC, Container, container
from kit.tally import WHOLE

RENEWAL_S = 5
WINDOW_S = 3
OWN = f"[Match]\nMACAddress={NIC_MAC}\n[Network]\nDHCP=yes\nDomains=example.net\n"
PINNED = "[DHCPv4]\nIAID=16909060\n[DHCPv6]\nIAID=16909060\n"
STATIC = f"""[Match]
MACAddress={NIC_MAC}
[Network]
Address=192.0.2.7/24
Gateway={GATEWAY}
DNS=192.0.2.1 \\
# the first of the two
  192.0.2.3
[Address]
Address=2001:db8::7/64
[Route]
Destination=203.0.113.0/24
Gateway=192.0.2.9
Metric=50
"""
UP = ("tapbridge", "up", "--yes", "--quiet", "--confirm", "0")
DOWN = ("tapbridge", "down", "--quiet")
TAKE_NAME = (*UP, "--take-name")
RECOVER = ("tapbridge", "recover", "--quiet")
OF_NAME = OWN.replace(f"MACAddress={NIC_MAC}", "Name=eth0")
DROP_IN = "/etc/systemd/network/eth0.network.d/id.conf"
FILES = "/run/systemd/network"
POINTS_UP = ["ReloadClient#1", "PauseClient#1", "SetMaster#1", "AwaitClient#3"]
POINTS_DOWN = ["PauseClient#1", "ReloadClient#1", "AwaitClient#2", "DeleteLink#1"]
if WHOLE:
    POINTS_UP += ["WriteFile#1", "AwaitClient#1", "Shield#1", "ResumeClient#1", "AwaitClient#2", "WriteFile#2"]
    POINTS_UP += ["ReloadClient#2"]
    POINTS_DOWN += ["SetMaster#1", "ResumeClient#1", "WriteFile#1", "WriteFile#2", "AwaitClient#1", "WriteFile#3"]


each_file = pytest.mark.parametrize(
    ("suite", "own"),
    [(suite, own) for suite in ("bookworm", "trixie") for own in (OWN, OF_NAME)],
    ids=["bookworm by MAC", "bookworm by name", "trixie by MAC", "trixie by name"],
)


@contextmanager
def started(suite: str, own: str) -> Iterator[Container]:
    """A host whose networkd has this file for its NIC."""
    options = (f"--dhcp-option=58,{RENEWAL_S}", "--enable-ra", "--dhcp-range=2001:db8::100,2001:db8::1ff,64,300")
    with container(suite, server=options) as booted:
        with booted.lan.entered():
            Path("/proc/sys/net/ipv6/conf/lan0/forwarding").write_text("1")  # or it is no router by its word
        booted.path("/etc/systemd/network/eth0.network").write_text(own)
        booted.path(DROP_IN).parent.mkdir()
        booted.path(DROP_IN).write_text(PINNED)
        booted.run("systemctl", "start", "systemd-resolved", "systemd-networkd")
        yield booted


@pytest.fixture(scope="module")
def host() -> Iterator[Container]:
    """A host whose networkd renews its IPv4 lease every five seconds, with an identity that no other link has."""
    with started("bookworm", OWN) as booted:
        yield booted


@pytest.fixture
def leased(host: Container) -> Iterator[Container]:
    """The same, with its leases on eth0, before and after."""
    wait_for_leases(host)
    yield host
    host.run(*DOWN, check=False)


def wait_for_leases(host: Container) -> None:
    """Until the NIC has both."""
    host.wait_for_ip()
    host.wait_for("ip -6 -o addr show dev eth0 | grep 2001:db8:: | grep -qv tentative")
    host.wait_for("networkctl | grep -q 'eth0 .*routable *configured'")


def ip(host: Container, link: str) -> str | None:
    """The IPv4 address of a link."""
    found = re.search(r"inet (\S+)", host.run("ip", "-4", "-o", "addr", "show", "dev", link, check=False).stdout)
    return found[1] if found else None


def network(host: Container, link: str) -> list[str]:
    """Addresses and routes of a link, without what passes, and with the link's name left out.

    networkd 252 forgets the metric of an address that it finds in place, and so of the connected route. Later versions
    have objects for the routes by router advertisements, of which our copy stays until its lifetime ends.
    """
    shown = host.run(f"ip -o addr show dev {link}; ip -4 route show dev {link}; ip -6 route show dev {link}").stdout
    passing = r"valid_lft \S+ preferred_lft \S+| expires \S+| nhid \d+| tentative|^\d+: |\\ *|^.* metric 1025 .*\n"
    shown = re.sub(passing, "", shown, flags=re.MULTILINE).replace(link, "LINK")
    lines = (" ".join(line.split()) for line in shown.splitlines())
    return sorted({re.sub(r" metric 1024(?=$| brd)", "", line) for line in lines})


def setups(host: Container) -> dict[str, tuple[str, str]]:
    """What networkd says of each link: operational state and setup."""
    rows = (line.split() for line in host.run("networkctl", "--no-legend", "--no-pager", "list").stdout.splitlines())
    return {row[1]: (row[3], row[4]) for row in rows if row[1] != "lo"}


def assert_renewed(host: Container, mark: int) -> None:
    """Two renewals, of the address that it has, and never a word that gives it up."""
    there = len(host.served())
    assert until(lambda: host.served()[there:].count("DHCPACK") >= 1, 2 * RENEWAL_S), host.log()
    assert "DISCOVER" not in host.served()[there:]
    assert not re.search("RELEASE|DECLINE|NAK|NOADDR", host.served()[mark:])


def assert_held(host: Container, before: list[str], bridge: str = "br0", port: str = "eth0") -> None:
    """The bridge has what the NIC had, and networkd says that it looks after it."""
    assert until(lambda: setups(host) == {bridge: ("routable", "configured"), port: ("enslaved", "unmanaged")})
    assert until(lambda: network(host, bridge) == before), network(host, bridge)
    assert network(host, port) == []


def assert_back(host: Container, before: list[str]) -> None:
    """The NIC has it again, by its own file, and nothing of ours is left."""
    assert until(lambda: setups(host) == {"eth0": ("routable", "configured")}), setups(host)
    assert until(lambda: network(host, "eth0") == before), network(host, "eth0")
    assert host.run(f"ls {FILES} 2>/dev/null", check=False).stdout == ""
    assert "T" not in host.run("ps", "-o", "stat=", "-C", "systemd-networkd").stdout
    assert host.run("ip", "-o", "addr", "show", "dev", "lo").stdout.count("inet") == 2


def test_the_leases_go_to_the_bridge_and_back(leased: Container) -> None:
    address, before, identity = ip(leased, "eth0"), network(leased, "eth0"), leased.lease()
    assert identity[3].startswith("ff:01:02:03:04:")
    mark = len(leased.served())
    leased.run(*UP)
    assert_held(leased, before)
    assert ip(leased, "br0") == address
    assert "example.net" in leased.run("resolvectl", "domain", "br0").stdout
    assert_renewed(leased, mark)
    assert leased.lease() == identity
    leased.run("networkctl", "reload")
    assert_held(leased, before)

    mark = len(leased.served())
    leased.run(*DOWN)
    assert ip(leased, "eth0") == address
    assert_back(leased, before)
    assert_renewed(leased, mark)
    assert leased.lease() == identity


@pytest.mark.skipif(not WHOLE, reason="one of them is tried below: script/test system --all")
@each_file
def test_the_bridge_takes_the_name_and_gives_it_back_by_either_file(suite: str, own: str) -> None:
    with started(suite, own) as host:
        wait_for_leases(host)
        assert_the_name_goes_and_comes_back(host)


def test_the_bridge_takes_the_name_and_gives_it_back(leased: Container) -> None:
    assert_the_name_goes_and_comes_back(leased)


def assert_the_name_goes_and_comes_back(host: Container) -> None:
    """There and back; networkd hears of four names meanwhile, of which each may be in a file."""
    address, before, identity, mark = ip(host, "eth0"), network(host, "eth0"), host.lease(), len(host.served())
    host.run(*TAKE_NAME)
    assert_held(host, before, "eth0", "reth0")
    if WHOLE:
        assert_renewed(host, mark)
        host.run("systemctl", "restart", "systemd-networkd")
        assert_held(host, before, "eth0", "reth0")
    host.run(*DOWN)
    assert ip(host, "eth0") == address
    assert_back(host, before)
    if WHOLE:
        assert_renewed(host, len(host.served()))
    assert "RELEASE" not in host.served()[mark:]
    assert host.lease() == identity


@pytest.mark.skipif(not WHOLE, reason="without --take-name it is the same: script/test system --all")
@each_file
def test_killed_anywhere_where_the_bridge_takes_the_name(suite: str, own: str) -> None:
    """Before every act but those of the kernel's the journal is synced: so these are the points between all acts."""
    with started(suite, own) as host:
        wait_for_leases(host)
        before = network(host, "eth0")
        points = [(verb, host.syncs(verb)) for verb in (TAKE_NAME, DOWN)]
        for verb, last in points:
            assert_back(host, before)
            for number in range(1, last + 1):
                if verb == DOWN:
                    host.run(*TAKE_NAME)
                    assert_held(host, before, "eth0", "reth0")
                host.syncs(verb, str(number))
                host.run(*RECOVER)
                if host.path("/sys/class/net/eth0/bridge").exists():
                    assert_held(host, before, "eth0", "reth0")
                    host.run(*DOWN)
                assert_back(host, before)


@pytest.mark.parametrize("point", POINTS_UP)
def test_an_up_that_is_killed_is_taken_back(leased: Container, point: str) -> None:
    before = network(leased, "eth0")
    leased.cut_off(point, *UP[1:])
    leased.run("tapbridge", "recover")
    assert_back(leased, before)


@pytest.mark.parametrize("point", POINTS_DOWN)
def test_a_down_that_is_killed_is_taken_back_or_finished(leased: Container, point: str) -> None:
    before = network(leased, "eth0")
    leased.run(*UP)
    assert_held(leased, before)
    leased.cut_off(point, *DOWN[1:])
    leased.run("tapbridge", "recover")
    if point == "DeleteLink#1":
        assert_back(leased, before)
    else:
        assert_held(leased, before)


def test_a_change_that_nobody_confirms_is_taken_back_with_its_owner(leased: Container) -> None:
    before = network(leased, "eth0")
    leased.run(*UP[:-1], str(WINDOW_S), "--no-wait")
    assert "br0" in setups(leased)
    assert until(lambda: "br0" not in setups(leased), 5 * WINDOW_S), leased.log()
    leased.run("tapbridge", "recover", "--wait", "20")  # whoever took it back has ended by then
    assert_back(leased, before)


def test_what_a_bridge_cannot_take_over_is_refused(leased: Container) -> None:
    path = leased.path("/etc/systemd/network/eth0.network.d/lan.conf")
    path.write_text("[Network]\nMACVLAN=office\n")
    refused = leased.run(*UP, check=False)
    path.unlink()
    assert refused.returncode == 3
    assert "MACVLAN=office" in refused.stderr


def test_static_addresses_and_routes_go_along(host: Container) -> None:
    host.path("/etc/systemd/network/eth0.network").write_text(STATIC)
    host.run("networkctl", "reload")
    host.wait_for("ip -o addr show dev eth0 | grep -q 192.0.2.7 && ! ip -o addr show dev eth0 | grep -q dynamic")
    host.wait_for("networkctl | grep -q 'eth0 .*routable *configured'")
    before = network(host, "eth0")
    host.run(*UP)
    assert_held(host, before)
    assert "192.0.2.1 192.0.2.3" in host.run("resolvectl", "dns", "br0").stdout
    host.run(*DOWN)
    assert_back(host, before)
