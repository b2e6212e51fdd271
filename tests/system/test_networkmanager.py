"""A NIC of NetworkManager's goes to the bridge and back, as seen by NetworkManager, the DHCP server and the kernel."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kit.changes import until
from kit.container import GATEWAY, NIC_MAC, Container, container
from kit.tally import WHOLE, sample

SUITES = ("bookworm", "trixie") if WHOLE else ("bookworm",)
RENEWAL_S = 10
UP = ("tapbridge", "up", "--yes", "--quiet", "--confirm", "0")
DOWN = ("tapbridge", "down", "--quiet")
RECOVER = ("tapbridge", "recover", "--quiet")
OURS = "/run/NetworkManager/system-connections/tapbridge-*"
STATIC = """[connection]
id=office \\t= [x]
uuid=6c0f2d4e-7f1b-4d7b-9d40-0f6b8f5f1a01
type=ethernet
interface-name=eth0

[ipv4]
method=manual
address1=192.0.2.7/24,192.0.2.1
address2=198.51.100.7/24
dns=192.0.2.1;
dns-search=example.net;
route1=203.0.113.0/24,192.0.2.9,50

[ipv6]
method=manual
address1=2001:db8::7/64
addr-gen-mode=eui64
"""
named = pytest.mark.parametrize(
    ("bridge", "port", "words"),
    [("br0", "eth0", ()), *([("eth0", "reth0", ("--take-name",))] if WHOLE else [])],
    ids=["own name", "the NIC's name"][: 2 if WHOLE else 1],
)
"""What the bridge is called, and the NIC as its port. NetworkManager knows links by their names."""

KILLED = 4
"""The points at which it is killed in CI."""


@pytest.fixture(scope="module", params=SUITES)
def host(request: pytest.FixtureRequest) -> Iterator[Container]:
    """A host whose NetworkManager renews its lease every ten seconds."""
    with container(request.param, server=(f"--dhcp-option=58,{RENEWAL_S}",)) as booted:
        booted.run("systemctl", "start", "NetworkManager")
        yield booted


@pytest.fixture
def leased(host: Container) -> Iterator[Container]:
    """The same with a lease on eth0, before and after."""
    host.wait_for("nmcli -t -f DEVICE,STATE device | grep -qx eth0:connected")
    host.wait_for_ip()
    yield host
    host.run(*DOWN, check=False)
    host.run("nmcli", "connection", "delete", "office \t= [x]", check=False)


def ip(host: Container, link: str) -> str | None:
    """The IPv4 address of a link."""
    found = re.search(r"inet (\S+)", host.run("ip", "-4", "-o", "addr", "show", "dev", link, check=False).stdout)
    return found[1] if found else None


def held(host: Container) -> dict[str, str]:
    """By which profile NetworkManager holds each link; only where it does more than look on."""
    told = host.run("nmcli", "-t", "-f", "DEVICE,STATE,CON-UUID", "device").stdout.splitlines()
    rows = [line.split(":") for line in told]
    return {link: profile for link, state, profile in rows if state == "connected"}


def is_bridged(host: Container, bridge: str) -> bool:
    """Whether there is a bridge of that name."""
    return Path(host.path(f"/sys/class/net/{bridge}/bridge")).exists()


def network(host: Container, link: str) -> list[str]:
    """Addresses and routes of a link, without what passes, and with the link's name left out."""
    shown = host.run(f"ip -o addr show dev {link}; ip -4 route show dev {link}; ip -6 route show dev {link}").stdout
    shown = re.sub(r"valid_lft \S+ preferred_lft \S+| tentative|^\d+: |\\ *", "", shown, flags=re.MULTILINE)
    return sorted(" ".join(line.replace(link, "LINK").split()) for line in shown.splitlines())


def since(host: Container, mark: int) -> str:
    """What the DHCP server has said since its log was so long: the messages and the identities."""
    return host.served()[mark:]


def assert_renewed(host: Container, mark: int) -> None:
    """The client asks for its lease at its start, and again when it is to be renewed; nothing else."""
    assert until(lambda: since(host, mark).count("DHCPACK") >= 2, 2 * RENEWAL_S), since(host, mark)
    assert not re.search("DISCOVER|RELEASE|DECLINE|NAK", since(host, mark))


def test_the_lease_goes_to_the_bridge_and_back(leased: Container) -> None:
    address, before, identity = ip(leased, "eth0"), held(leased), leased.lease()
    everything = network(leased, "eth0")
    assert identity[3] == f"01:{NIC_MAC}"
    mark = len(leased.served())
    leased.run(*UP)
    assert ip(leased, "br0") == address
    assert network(leased, "br0") == everything
    assert network(leased, "eth0") == []
    profiles = held(leased)
    assert profiles.keys() == {"eth0", "br0"}
    assert profiles["eth0"] != before["eth0"] != profiles["br0"]
    assert leased.run(f"stat -c %a {OURS}").stdout.split() == ["600", "600"]
    assert_renewed(leased, mark)
    assert leased.lease() == identity

    leased.run("ip tuntap add guest0 mode tap; ip link set guest0 master br0 up")
    leased.run("systemctl", "restart", "NetworkManager")
    leased.wait_for("nmcli -t -f DEVICE,STATE device | grep -qx br0:connected")
    assert until(lambda: held(leased) == profiles), held(leased)
    assert until(lambda: network(leased, "br0") == everything), network(leased, "br0")
    assert "master br0" in leased.run("ip", "link", "show", "dev", "guest0").stdout
    leased.run("ip", "tuntap", "del", "guest0", "mode", "tap")

    mark = len(leased.served())
    leased.run(*DOWN)
    assert ip(leased, "eth0") == address
    assert network(leased, "eth0") == everything
    assert held(leased) == before
    assert_renewed(leased, mark)
    assert leased.lease() == identity
    assert leased.run(f"ls {OURS}; ls /var/lib/NetworkManager/*br0*", check=False).stdout == ""
    assert leased.run("ls /run/NetworkManager/devices").stdout.split() == ["1", "2"]


def test_the_bridge_takes_the_name_and_gives_it_back(leased: Container) -> None:
    """NetworkManager knows a link by its name: eth0 is the bridge then, and the card is reth0."""
    before, identity, leases = held(leased), leased.lease(), leased.run("ls /var/lib/NetworkManager/*.lease").stdout
    everything, mark = network(leased, "eth0"), len(leased.served())
    leased.run(*UP, "--take-name")
    assert is_bridged(leased, "eth0")
    assert network(leased, "eth0") == everything
    assert network(leased, "reth0") == []
    profiles = held(leased)
    assert profiles.keys() == {"eth0", "reth0"}
    assert before["eth0"] not in profiles.values()
    if WHOLE:
        assert_renewed(leased, mark)
    leased.run("systemctl", "restart", "NetworkManager")
    leased.wait_for("nmcli -t -f DEVICE,STATE device | grep -qx reth0:connected")
    leased.wait_for("nmcli -t -f DEVICE,STATE device | grep -qx eth0:connected")
    assert until(lambda: (held(leased), network(leased, "eth0")) == (profiles, everything)), network(leased, "eth0")
    assert "master eth0" in leased.run("ip", "link", "show", "dev", "reth0").stdout

    mark = len(leased.served())
    leased.run(*DOWN)
    assert (network(leased, "eth0"), held(leased)) == (everything, before)
    if WHOLE:
        assert_renewed(leased, mark)
    assert not re.search("DISCOVER|RELEASE|DECLINE|NAK", leased.served()[mark:])
    assert leased.lease() == identity
    assert leased.run(f"ls {OURS}", check=False).stdout == ""
    assert leased.run("ls /var/lib/NetworkManager/*.lease").stdout == leases
    assert leased.run("ls /run/NetworkManager/devices").stdout.split() == ["1", "2"]


def test_a_static_profile_is_the_bridge_s_as_well(leased: Container) -> None:
    path = leased.path("/etc/NetworkManager/system-connections/office.nmconnection")
    path.write_text(STATIC)
    path.chmod(0o600)
    leased.run(f"nmcli connection load '/etc/NetworkManager/system-connections/{path.name}'")
    leased.run("nmcli", "connection", "up", "6c0f2d4e-7f1b-4d7b-9d40-0f6b8f5f1a01")
    everything, before = network(leased, "eth0"), held(leased)
    assert len([line for line in everything if "192.0.2.7" in line or "203.0.113.0" in line]) > 2
    leased.run(*UP)
    assert network(leased, "br0") == everything
    leased.run("systemctl", "restart", "NetworkManager")
    leased.wait_for("nmcli -t -f DEVICE,STATE device | grep -qx br0:connected")
    assert until(lambda: network(leased, "br0") == everything), network(leased, "br0")
    assert "example.net" in leased.run("nmcli", "-g", "IP4.SEARCHES,IP4.DNS", "device", "show", "br0").stdout
    leased.run(*DOWN)
    assert network(leased, "eth0") == everything
    assert held(leased) == before
    assert path.read_text() == STATIC


@named
def test_what_nobody_confirms_is_taken_back(leased: Container, bridge: str, port: str, words: tuple[str, ...]) -> None:
    address, before, everything = ip(leased, "eth0"), held(leased), network(leased, "eth0")
    mark = len(leased.served())
    leased.run("tapbridge", "up", "--yes", "--quiet", "--confirm", "4", "--no-wait", *words)
    assert (ip(leased, bridge), ip(leased, port)) == (address, None)
    assert until(lambda: not is_bridged(leased, bridge), 30), leased.log()
    leased.run("tapbridge", "recover", "--wait", "20")
    assert network(leased, "eth0") == everything
    assert held(leased) == before
    assert leased.run(f"ls {OURS}; ls /var/lib/NetworkManager/*br0*", check=False).stdout == ""
    assert leased.run("ping", "-c1", "-W2", GATEWAY).returncode == 0
    assert not re.search("DISCOVER|RELEASE|DECLINE|NAK", since(leased, mark))


@pytest.mark.skipif(not WHOLE, reason="it takes ten seconds of waiting: script/test system --all")
def test_one_that_does_not_stop_is_killed(leased: Container) -> None:
    folder = "/run/systemd/system/NetworkManager.service.d"
    leased.run(f"mkdir -p {folder}; printf '[Service]\nExecStop=/bin/sleep 60\n' >{folder}/slow.conf")
    leased.run("systemctl", "daemon-reload")
    address, before, mark = ip(leased, "eth0"), held(leased), len(leased.served())
    leased.run(*UP)
    assert ip(leased, "br0") == address
    leased.run(f"rm -r {folder}; systemctl daemon-reload; tapbridge down --quiet")
    assert (ip(leased, "eth0"), held(leased)) == (address, before)
    assert not re.search("DISCOVER|RELEASE|DECLINE|NAK", since(leased, mark))


@named
def test_killed_anywhere_and_recovered_it_is_in_charge_again(
    leased: Container, bridge: str, port: str, words: tuple[str, ...]
) -> None:
    """Before every act but those of the kernel's the journal is synced: so these are the points between all acts."""
    address, before, everything = ip(leased, "eth0"), held(leased), network(leased, "eth0")
    mark, ended = len(leased.served()), set()
    up = (*UP, *words)
    points = [("up", number) for number in range(1, leased.syncs(up) + 1)]
    points += [("down", number) for number in range(1, leased.syncs(DOWN) + 1)]
    for verb, number in sample(points, KILLED):
        if verb == "down":
            leased.run(*up)
        leased.syncs(up if verb == "up" else DOWN, str(number))
        if number % 2:
            leased.syncs(RECOVER, str(1 + number % 7))
        leased.run(*RECOVER)
        bridged = is_bridged(leased, bridge)
        ended.add((verb, bridged))
        assert network(leased, bridge if bridged else "eth0") == everything, (verb, number)
        assert held(leased).keys() == ({bridge, port} if bridged else {"eth0"}), (verb, number)
        assert leased.run("ping", "-c1", "-W2", GATEWAY).returncode == 0
        if bridged:
            leased.run(*DOWN)
        assert (ip(leased, "eth0"), held(leased)) == (address, before), (verb, number)
    assert {("up", False), ("down", True)} <= ended
    time.sleep(0.1)
    assert not re.search("DISCOVER|RELEASE|DECLINE|NAK", since(leased, mark))


def test_a_reboot_brings_the_nic_s_own_profile_back(leased: Container) -> None:
    address, before, mark = ip(leased, "eth0"), held(leased), len(leased.served())
    leased.run("systemctl", "enable", "NetworkManager")
    leased.run(*UP)
    leased.reboot()
    leased.wait_for("nmcli -t -f DEVICE,STATE device | grep -qx eth0:connected")
    assert (ip(leased, "eth0"), held(leased)) == (address, before)
    assert not Path(leased.path("/sys/class/net/br0")).exists()
    assert not re.search("RELEASE|DECLINE|NAK", since(leased, mark))
