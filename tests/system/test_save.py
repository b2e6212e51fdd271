"""A saved bridge comes back at the next boot, with the NIC's address, by the files of whoever configures the host."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kit.command import run
from kit.container import DHCPCD, GATEWAY, Container, container
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
    status,
)
from kit.tally import WHOLE

STATIC = f"""auto eth0 eth0:1
iface eth0 inet static
    address 192.0.2.7/24
    gateway {GATEWAY}
    up ip route add 203.0.113.0/24 via 192.0.2.9 dev $IFACE
iface eth0:1 inet static
    address 192.0.2.8/24
iface eth0 inet6 static
    address 2001:db8::7
    netmask 64
    dad-attempts 0
"""
OFFICE = f"""[connection]
id=office \\t= [x]
uuid=6c0f2d4e-7f1b-4d7b-9d40-0f6b8f5f1a01
type=ethernet
interface-name=eth0
[ipv4]
method=manual
address1=192.0.2.7/24,{GATEWAY}
address2=192.0.2.8/24
dns={GATEWAY};
route1=203.0.113.0/24,192.0.2.9,50
[ipv6]
method=manual
address1=2001:db8::7/64
addr-gen-mode=eui64
"""
ADDRESSES = f"""[Match]
Name=eth0
[Network]
Address=192.0.2.7/24
Address=2001:db8::7/64
Gateway={GATEWAY}
IPv6AcceptRA=no
[Route]
Destination=203.0.113.0/24
Gateway=192.0.2.9
"""
NETPLAN = "network: {version: 2, renderer: networkd, ethernets: {eth0: {dhcp4: true}}}\n"
ROUTER = ("--enable-ra", "--dhcp-range=2001:db8::100,2001:db8::1ff,slaac,64,300")
INTERFACES = """# The host's own.
source /etc/network/interfaces.d/*

auto lo
iface lo inet loopback

auto eth0
iface eth0 inet dhcp
    # known by this name
    hostname me
"""

NG = """auto eth0
iface eth0
    use dhcp
    dhcp-program {}
"""
NG_STATIC = f"""auto eth0
iface eth0 inet static
    address 192.0.2.7/24
    address 192.0.2.8/24
    gateway {GATEWAY}
    mtu 1400
    up ip route add 203.0.113.0/24 via 192.0.2.9 dev $IFACE
iface eth0 inet6 static
    address 2001:db8::7
    netmask 64
"""


@pytest.fixture(params=("bookworm", "trixie") if WHOLE else ("bookworm",))
def host(request: pytest.FixtureRequest) -> Iterator[Container]:
    """A Debian on a LAN."""
    with container(request.param) as booted:
        yield booted


def assert_it_comes_and_goes(host: Container, owner: str | None, unsaid: str = "DECLINE") -> str:
    """Up --save, a reboot, unsave, down, a reboot: the same address all the time, the same files at the end.

    Of `unsaid` the server hears nothing before the last boot, at which the NIC is given up by its own file.
    """
    address, before, identity, mark = ip(host, "eth0"), files(host), host.lease(), len(host.served())
    everything = network(host, "eth0")
    assert address
    host.run(*UP)
    assert_bridged(host, address, owner)
    host.run("systemctl try-reload-or-restart systemd-networkd NetworkManager")
    again = host.run("tapbridge", "save", "--json")
    assert json.loads(again.stdout)["outcome"] == "nothing"
    host.reboot()
    assert_bridged(host, address, owner)
    assert_network(host, "br0", everything)
    assert host.lease() == identity
    host.run("tapbridge", "unsave", "--quiet")
    assert files(host) == before
    assert ip(host, "br0") == address
    host.run(*DOWN)
    assert ip(host, "eth0") == address
    assert_network(host, "eth0", everything)
    assert not re.search(unsaid, host.served()[mark:])
    host.reboot()
    host.wait_for(f"ip -4 -o addr show dev eth0 | grep -q ' {address} '")
    assert not Path(host.path("/sys/class/net/br0")).exists()
    assert (files(host), host.lease()) == (before, identity)
    assert "NAK" not in host.served()[mark:]
    return address


@pytest.fixture
def ifupdown(host: Container) -> Container:
    """The same, with a lease on eth0 that ifupdown asks for at boot."""
    host.path("/etc/network/interfaces").write_text(INTERFACES)
    host.run("systemctl enable networking; systemctl start networking")
    host.wait_for_ip()
    return host


def test_ifupdown_s_files_have_the_bridge(ifupdown: Container) -> None:
    assert_it_comes_and_goes(ifupdown, "dhclient")


def assert_static_comes_and_goes(host: Container) -> None:
    """The same with addresses that are in the files: the bridge has them and the routes, before and after a boot."""
    before, everything = files(host), network(host, "eth0")
    assert [line for line in everything if "2001:db8::7/64" in line or "192.0.2.8/24" in line or "203.0.113" in line]
    host.run(*UP)
    host.reboot()
    assert_network(host, "br0", everything)
    assert host.run("ping", "-c1", "-W2", GATEWAY).returncode == 0
    host.run("tapbridge", "unsave", "--quiet")
    host.run(*DOWN)
    assert files(host) == before
    assert_network(host, "eth0", everything)


def test_static_stanzas_of_ifupdown_s_are_the_bridge_s(host: Container) -> None:
    host.path("/etc/network/interfaces.d/lan").write_text(STATIC)
    host.run("systemctl enable networking; systemctl start networking")
    assert_static_comes_and_goes(host)


def test_ifdown_and_ifup_find_the_bridge(ifupdown: Container) -> None:
    address = ip(ifupdown, "eth0")
    ifupdown.run(*UP)
    assert set(ifupdown.run("ifquery", "--state").stdout.split()) == {"lo=lo", "br0=br0"}
    ifupdown.run("systemctl", "restart", "networking")
    assert_bridged(ifupdown, address, "dhclient")
    assert ifupdown.run("pgrep", "-xc", "dhclient").stdout == "1\n"
    ifupdown.run("tapbridge", "down", "--quiet")
    told = json.loads(ifupdown.run(*UP[:-1], "--json").stdout)["findings"]
    assert "owner-files-stale" not in {finding["code"] for finding in told}
    ifupdown.run("tapbridge down --quiet; tapbridge unsave --quiet")
    assert set(ifupdown.run("ifquery", "--state").stdout.split()) == {"lo=lo", "eth0=eth0"}
    ifupdown.run("systemctl", "restart", "networking")
    assert ip(ifupdown, "eth0") == address


@pytest.fixture
def ng(host: Container) -> Container:
    """The same, with ifupdown-ng in the place of ifupdown."""
    host.run("dpkg --remove --force-depends ifupdown && dpkg --install --force-depends /opt/ifupdown-ng*.deb")
    host.run("systemctl", "enable", "networking")
    return host


@pytest.mark.parametrize("client", ["dhclient", "dhcpcd"] if WHOLE else ["dhclient"])
def test_ifupdown_ng_s_files_have_the_bridge(ng: Container, client: str) -> None:
    ng.path("/etc/network/interfaces").write_text(NG.format(client))
    ng.run("systemctl", "start", "networking")
    ng.wait_for_ip()
    assert_it_comes_and_goes(ng, client)


@pytest.mark.skipif(not WHOLE, reason="a lease goes the same way: script/test system --all")
def test_ifdown_and_ifup_of_ifupdown_ng_find_the_bridge(ng: Container) -> None:
    ng.path("/etc/network/interfaces").write_text(NG_STATIC)
    ng.run("systemctl", "start", "networking")
    everything, state = network(ng, "eth0"), ng.run("ifquery", "--state").stdout
    assert_static_comes_and_goes(ng)
    assert ng.path("/sys/class/net/eth0/mtu").read_text() == "1400\n"
    assert ng.run("ifquery", "--state").stdout == state
    ng.run(*UP)
    saved = state.replace("eth0=eth0 1 explicit", "eth0=eth0 2") + "br0=br0 1 explicit\n"
    assert ng.run("ifquery", "--state").stdout == saved
    ng.run("systemctl", "restart", "networking")
    assert_network(ng, "br0", everything)
    assert ng.run("ifquery", "--state").stdout == saved
    ng.run("tapbridge down --quiet; tapbridge unsave --quiet")
    assert ng.run("ifquery", "--state").stdout == state
    ng.run("systemctl", "restart", "networking")
    assert_network(ng, "eth0", everything)


@pytest.mark.parametrize("verb", ["save", "unsave"])
def test_a_power_cut_in_the_middle_is_taken_back_by_the_boot(ifupdown: Container, verb: str) -> None:
    ifupdown.run("tapbridge", "service", "install", "--quiet")
    address = ip(ifupdown, "eth0")
    ifupdown.run(*UP)
    if verb == "save":
        ifupdown.run("tapbridge", "unsave", "--quiet")
    seen = len(renames(ifupdown, verb, ""))
    ifupdown.run("tapbridge", "unsave" if verb == "save" else "save", "--quiet")
    start = files(ifupdown)
    assert len(renames(ifupdown, verb, str(seen))) == seen
    assert files(ifupdown) != start
    ifupdown.crash()
    assert files(ifupdown) == start
    if verb == "save":
        ifupdown.wait_for(f"ip -4 -o addr show dev eth0 | grep -q ' {address} '")
    else:
        assert_bridged(ifupdown, address, "dhclient")


def renames(host: Container, verb: str, when: str) -> list[str]:
    """The files that a command puts in place, but for Python's own; it is killed at the one of number `when`."""
    log = host.place / "strace"
    inject = [f"--inject=rename:signal=SIGKILL:when={when}"] if when else []
    words = (*host.words(), "tapbridge", verb, "--quiet")
    run("strace", "-qq", "-f", "-o", log, "--trace=rename", *inject, *words, check=not when)
    return [line for line in log.read_text().splitlines() if "rename(" in line and ".pyc" not in line]


def test_a_static_address_of_nobody_s_comes_by_a_unit(host: Container) -> None:
    host.run(f"ip link set eth0 up; ip addr add 192.0.2.7/24 dev eth0; ip route add default via {GATEWAY}")
    host.run("ip addr add 2001:db8::7/64 dev eth0 nodad; ip route add 203.0.113.0/24 via 192.0.2.9 metric 50")
    before, everything = files(host), network(host, "eth0")
    refused = host.run(*UP, check=False)
    assert refused.returncode == 3
    assert "nobody's files configure it" in refused.stderr
    host.run(*UP[:-1])
    host.run("tapbridge", "save", "--for", "systemd", "--yes", "--quiet")
    verified = host.run("systemd-analyze", "verify", "/etc/systemd/system/tapbridge-br0.service")
    assert verified.stdout + verified.stderr == ""
    host.reboot()
    assert_bridged(host, "192.0.2.7/24", None)
    assert_network(host, "br0", everything)
    host.run("tapbridge", "unsave", "--quiet")
    assert files(host) == before
    host.run(*DOWN)
    assert network(host, "eth0") == everything


def test_dhcpcd_takes_a_bridge_that_a_unit_makes(host: Container) -> None:
    host.run("rm -f /etc/resolv.conf; echo >/etc/resolv.conf; echo noarp >>/etc/dhcpcd.conf")
    host.path("/etc/systemd/system/dhcpcd.service").write_text(DHCPCD)
    host.run("systemctl enable --now dhcpcd")
    host.wait_for_ip()
    assert_it_comes_and_goes(host, "dhcpcd")


@pytest.fixture
def networkd(host: Container) -> Container:
    """The same, with a lease of systemd-networkd's on eth0."""
    start_networkd(host)
    return host


def test_networkd_s_files_have_the_bridge(networkd: Container) -> None:
    assert_it_comes_and_goes(networkd, "systemd-networkd")


def test_a_bridge_of_netplan_s_nic_is_networkd_s(host: Container) -> None:
    host.path("/etc/netplan/eth0.yaml").write_text(NETPLAN)
    host.path("/etc/netplan/eth0.yaml").chmod(0o600)
    host.run("systemctl", "enable", "systemd-networkd")
    host.reboot()
    host.wait_for_ip()
    host.wait_for("networkctl | grep -q 'eth0 .*routable *configured'")
    address = assert_it_comes_and_goes(host, "systemd-networkd")
    told = json.loads(host.run(*UP, "--json").stdout)["findings"]
    assert {"not-checked", "other-author"} == {finding["code"] for finding in told}
    host.run("netplan", "apply")
    assert_bridged(host, address, "systemd-networkd")


def test_networkmanager_s_profiles_are_the_bridge_s(host: Container) -> None:
    start_networkmanager(host)
    assert_it_comes_and_goes(host, "NetworkManager")


@pytest.mark.skipif(not WHOLE, reason="the profiles are those of NetworkManager: script/test system --all")
def test_the_bridge_of_a_boot_outlives_netplan_apply(host: Container) -> None:
    start_netplan(host)
    address, before, everything = ip(host, "eth0"), files(host), network(host, "eth0")
    told = json.loads(host.run(*UP, "--json").stdout)["findings"]
    assert "other-author" in {finding["code"] for finding in told}
    host.reboot()
    assert_bridged(host, address, "NetworkManager")
    host.run("netplan", "apply")
    host.wait_for("nmcli -t -f DEVICE,STATE device | grep -qx br0:connected")
    assert_bridged(host, address, "NetworkManager")
    host.run("tapbridge", "unsave", "--quiet")
    assert files(host) == before
    host.run("netplan", "apply")
    host.wait_for("nmcli -t -f DEVICE,STATE device | grep -qx br0:connected")
    assert_network(host, "br0", everything)
    host.run(*DOWN)
    host.run("netplan", "apply")
    assert_network(host, "eth0", everything)
    assert host.run("find /run -name '*tapbridge-*' -type f").stdout == ""


@pytest.mark.skipif(not WHOLE, reason="leased profiles go the same way: script/test system --all")
def test_a_static_profile_is_the_bridge_s(host: Container) -> None:
    path = host.path("/etc/NetworkManager/system-connections/office.nmconnection")
    path.write_text(OFFICE)
    path.chmod(0o600)
    start_networkmanager(host)
    assert_static_comes_and_goes(host)


@pytest.mark.skipif(not WHOLE, reason="leased links go the same way: script/test system --all")
def test_a_static_file_of_networkd_s_is_the_bridge_s(host: Container) -> None:
    host.path("/etc/systemd/network/eth0.network").write_text(ADDRESSES)
    host.run("systemctl", "enable", "--now", "systemd-networkd")
    host.wait_for("networkctl | grep -q 'eth0 .*routable *configured'")
    assert_static_comes_and_goes(host)


@pytest.fixture(params=("bookworm", "trixie"))
def routed(request: pytest.FixtureRequest) -> Iterator[Container]:
    """A Debian on a LAN whose router advertises itself, and gives leases by DHCPv6 as well."""
    with container(request.param, server=ROUTER) as booted:
        with booted.lan.entered():
            Path("/proc/sys/net/ipv6/conf/lan0/forwarding").write_text("1")  # or it is no router by its word
        yield booted


@pytest.mark.skipif(not WHOLE, reason="IPv4 goes the same way: script/test system --all")
@pytest.mark.parametrize(
    ("start", "owner"), [(start_networkd, "systemd-networkd"), (start_networkmanager, "NetworkManager")]
)
def test_ipv6_by_dhcp_and_by_a_router_is_the_bridge_s(
    routed: Container, start: Callable[[Container], None], owner: str
) -> None:
    start(routed)
    routed.wait_for("ip -6 -o addr show dev eth0 | grep ' 2001:db8::1..*/128' | grep -qv tentative", 20)
    routed.wait_for("ip -6 -o addr show dev eth0 | grep ' 2001:db8::.*/64' | grep -qv tentative", 20)
    routed.wait_for("ip -6 route show default dev eth0 | grep -q via", 20)
    assert_it_comes_and_goes(routed, owner, unsaid="RELEASE|DECLINE|NOADDR")


def test_what_is_not_confirmed_is_not_saved(networkd: Container) -> None:
    before = files(networkd)
    words = (*UP[:-3], "--save", "--confirm", "60")
    networkd.run(*words, "--no-wait")
    assert (files(networkd), status(networkd)["saved"]) == (before, False)
    confirmed = json.loads(networkd.run("tapbridge", "confirm", "--json").stdout)
    assert confirmed["outcome"] == "done"
    assert [step["done"] for step in confirmed["steps"]] == [True] * 5
    assert status(networkd)["saved"] is True
    networkd.run("tapbridge unsave --quiet; tapbridge down --quiet")

    line = f"{' '.join(words)} --wait 30 --json >/run/said; echo $? >/run/ended"
    networkd.run("systemd-run", "--quiet", "--collect", "--unit=up", "sh", "-c", line)
    networkd.wait_for("tapbridge confirm --quiet 2>/dev/null")
    networkd.wait_for("test -s /run/ended")
    said = json.loads(networkd.path("/run/said").read_text())
    assert (networkd.path("/run/ended").read_text(), said["outcome"]) == ("0\n", "done")
    assert status(networkd)["saved"] is True
    networkd.run("tapbridge unsave --quiet; tapbridge down --quiet")
    assert files(networkd) == before

    networkd.run(*words[:-1], "1", "--no-wait")
    networkd.wait_for("! test -e /sys/class/net/br0")
    networkd.run("tapbridge", "recover", "--wait", "20")
    assert files(networkd) == before
