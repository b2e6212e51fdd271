"""Uplinks of other kinds: a bond, a VLAN link, a NIC with a VLAN on it; up, and the exact way back."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kit.changes import until
from kit.container import GATEWAY, NIC_MAC
from kit.lan import ping
from kit.tally import WHOLE
from kit.vm import NICS, Vm

FIRST, SECOND, THIRD = NICS
UP = ("tapbridge", "up", "--yes", "--quiet", "--confirm", "0")
ECHO = """
import socket, socketserver
class Server(socketserver.ThreadingTCPServer):
    address_family = socket.AF_INET6
class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line)
Server(("::", 7), Echo).serve_forever()
"""
BOND = f"""
ip link add bond0 type bond mode active-backup miimon 100
ip link set {FIRST} down; ip link set {FIRST} master bond0
ip link set {SECOND} down; ip link set {SECOND} master bond0
ip link set bond0 up
"""
VLAN = f"ip link set {FIRST} up; ip link add link {FIRST} name {FIRST}.7 type vlan id 7; ip link set {FIRST}.7 up"
NEIGHBOUR = f"""
ip netns add neighbour
ip link set {THIRD} netns neighbour
ip -n neighbour link set {THIRD} up
ip -n neighbour link add link {THIRD} name vlan7 type vlan id 7
ip -n neighbour link set vlan7 up
ip -n neighbour addr add 198.51.100.1/24 dev vlan7
ip -n neighbour addr add 2001:db8:7::1/64 dev vlan7 nodad
"""
NETWORKD = {
    "bond0.netdev": "[NetDev]\nName=bond0\nKind=bond\n[Bond]\nMode=active-backup\nMIIMonitorSec=100ms\n",
    "lan.netdev": "[NetDev]\nName=bond0.7\nKind=vlan\n[VLAN]\nId=7\n",
    "ports.network": f"[Match]\nName={FIRST} {SECOND}\n[Network]\nBond=bond0\n",
    "bond0.network": "[Match]\nName=bond0\n[Network]\nDHCP=ipv4\nVLAN=bond0.7\n",
    "lan.network": "[Match]\nName=bond0.7\n[Network]\nAddress=198.51.100.7/24\n",
}
NETWORKMANAGER = f"""
printf '[main]\\nno-auto-default=*\\n' >/etc/NetworkManager/conf.d/none.conf
systemctl start NetworkManager
nmcli connection add type ethernet con-name lan ifname {FIRST} ipv4.method auto ipv6.method disabled
nmcli connection add type vlan con-name office ifname {FIRST}.7 dev {FIRST} id 7 \\
    ipv4.method manual ipv4.addresses 198.51.100.7/24 ipv6.method disabled
nmcli --wait 60 connection up lan
nmcli --wait 60 connection up office
"""
CLEAN = f"""
systemctl stop talk echo systemd-networkd.socket systemd-networkd NetworkManager 2>/dev/null; pkill -x dhclient
for link in br7 br0 bond0.7 bond0 {FIRST}.7; do ip link del $link 2>/dev/null; done
for link in {FIRST} {SECOND}; do ip addr flush dev $link; ip link set $link nomaster down; done
ip netns del neighbour 2>/dev/null; udevadm settle
rm -f /etc/systemd/network/* /etc/NetworkManager/system-connections/* /var/lib/dhcp/dhclient.bond0.leases
"""
TALK = """
import socket, sys, time
with socket.create_connection((sys.argv[1], 7)) as stream:
    lines = stream.makefile("rw")
    while True:
        print("said", file=lines, flush=True)
        assert lines.readline() == "said\\n"
        print("heard", flush=True)
        time.sleep(0.05)
"""
"""A connection from the neighbour to the host, as long as it lives."""


@pytest.fixture
def host(machine: Vm) -> Iterator[Vm]:
    """The machine with an echo server and nothing configured; afterwards as before."""
    service = ("systemd-run", "--quiet", "--unit=echo", "--property=Type=exec", "python3", "-c", ECHO)
    machine.run(*service)
    try:
        yield machine
    finally:
        machine.run(CLEAN, check=False)
        machine.wait_for(f"ip link show {THIRD}")


@contextmanager
def connected(machine: Vm, address: str) -> Iterator[socket.socket]:
    """A connection from the LAN to the echo server."""
    with machine.lan.entered():
        stream = socket.create_connection((address, 7), timeout=60)
    with stream:
        assert echoes(stream)
        yield stream


def echoes(stream: socket.socket) -> bool:
    """Whether what is said comes back."""
    stream.sendall(b"said\n")
    return stream.recv(100) == b"said\n"


def network(machine: Vm) -> str:
    """The links, addresses, routes and ports of the machine at rest, without numbers and lifetimes."""
    machine.wait_for("! ip -6 addr show tentative | grep -q inet6")  # its routes come when it is known to be nobody's
    words = (
        "-o link",
        "-o addr",
        "route show table all",
        "-6 route show table all",
        "rule",
        "neigh show nud permanent",
    )
    told = machine.run("; ".join(f"ip {word}" for word in words)).stdout
    numbers = r"^\d+: | tentative\b|\b(qlen|valid_lft|preferred_lft|expires) \w+|link-netns \S+|@if\d+"
    told = re.sub(numbers, "", told, flags=re.MULTILINE)
    return "\n".join(sorted(" ".join(line.split()) for line in told.splitlines()))


def test_a_bond_is_the_uplink_and_its_ports_still_take_over_from_one_another(host: Vm) -> None:
    host.run(f"{BOND} ip addr add 192.0.2.7/24 dev bond0; ip route add default via {GATEWAY}")
    host.run("ip -6 addr add 2001:db8::7/64 dev bond0 nodad; ip -6 route add default via 2001:db8::1")
    host.wait_for(f"ping -c 1 -W 1 {GATEWAY}; ip -6 addr show dev bond0 scope link | grep fe80 | grep -qv tentative")
    before = network(host)
    with connected(host, "192.0.2.7") as four, connected(host, "2001:db8::7") as six:
        host.run(*UP)  # the default route leads through the bond
        assert host.addresses("bond0") == []
        assert host.addresses("br0") == ["192.0.2.7"]
        assert "master br0" in host.run("ip link show bond0").stdout
        assert (echoes(four), echoes(six)) == (True, True)
        active = host.run("cat /sys/class/net/bond0/bonding/active_slave").stdout.strip()
        host.run(f"ip link set {active} down")
        assert until(lambda: ping(host.lan, "192.0.2.7"), 60)
        assert (echoes(four), echoes(six)) == (True, True)
        host.run(f"ip link set {active} up")
        host.wait_for(f"grep -q up /sys/class/net/{active}/operstate")
        host.run("tapbridge", "down", "--quiet")
        assert (echoes(four), echoes(six)) == (True, True)
        with connected(host, "192.0.2.7"):
            assert network(host) == before


def test_a_lease_goes_from_a_bond_to_the_bridge_and_back(host: Vm) -> None:
    host.run(BOND)
    host.run("systemd-run --quiet --unit=dhclient --property=Type=forking dhclient bond0")
    (address,) = host.addresses("bond0")
    with connected(host, address) as stream:
        host.run(*UP, "bond0")
        host.wait_for("pgrep -fx '.*dhclient.* br0'")
        assert host.addresses("br0") == [address]
        assert echoes(stream)
        host.run("tapbridge", "down", "--quiet")
        host.wait_for("pgrep -fx '.*dhclient.* bond0'")
        assert host.addresses("bond0") == [address]
        assert echoes(stream)
    assert "DHCPRELEASE" not in host.served()


def test_a_vlan_link_is_the_uplink(host: Vm) -> None:
    host.run(f"{NEIGHBOUR} {VLAN}; ip addr add 198.51.100.7/24 dev {FIRST}.7")
    host.run(f"ip route add default via 198.51.100.1; ip addr add 2001:db8:7::7/64 dev {FIRST}.7 nodad")
    host.wait_for("ping -c 1 -W 1 198.51.100.1; ping -c 1 -W 1 2001:db8:7::1")
    before = network(host)
    with talking(host, "198.51.100.7"):
        host.run(*UP, f"{FIRST}.7")
        assert host.addresses("br0") == ["198.51.100.7"]
        assert f"{FIRST}.7@{FIRST}" in host.run("ip -br link show master br0").stdout
        assert f'"mac": "{NIC_MAC}"' in host.run("tapbridge", "status", "--json").stdout
        host.run("ip netns exec neighbour ping -c 3 -W 10 2001:db8:7::7")
        host.run("tapbridge", "down", "--quiet")
    assert network(host) == before


@contextmanager
def talking(host: Vm, address: str) -> Iterator[None]:
    """A connection from the neighbour, which lives all the while."""
    words = ("systemd-run", "--quiet", "--unit=talk", "--property=Type=exec", "--collect")
    host.run(*words, "ip", "netns", "exec", "neighbour", "python3", "-u", "-c", TALK, address)
    heard = "journalctl --unit=talk --output=cat | grep -c heard"
    host.wait_for(f"[ $({heard}) -gt 0 ]")
    yield
    since = int(host.run(heard).stdout)
    host.wait_for(f"[ $({heard}) -gt {since + 1} ]")
    host.run("systemctl", "stop", "talk")


def test_a_vlan_on_the_nic_goes_on_beside_the_bridge(host: Vm) -> None:
    host.run(f"{NEIGHBOUR} {VLAN}; ip addr add 198.51.100.7/24 dev {FIRST}.7")
    host.run(f"ip addr add 192.0.2.7/24 dev {FIRST}; ip route add default via {GATEWAY}")
    host.wait_for(f"ping -c 1 -W 1 {GATEWAY} && ping -c 1 -W 1 198.51.100.1")
    host.wait_for("! ip -6 addr show tentative | grep -q fe80")
    before = network(host)
    told = json.loads(host.run("tapbridge", "up", "--dry-run", "--json").stdout)["findings"]
    assert [finding["subject"] for finding in told if finding["code"] == "vlan-stays"] == [f"{FIRST}.7"]
    with connected(host, "192.0.2.7") as stream, talking(host, "198.51.100.7"):
        host.run(*UP)
        assert host.addresses("br0") == ["192.0.2.7"]
        assert host.addresses(f"{FIRST}.7") == ["198.51.100.7"]
        assert echoes(stream)
        host.run("ip netns exec neighbour ip neigh flush all")
        host.run("ip netns exec neighbour ping -c 3 -W 10 198.51.100.7")
        host.run("tapbridge", "down", "--quiet")
        assert echoes(stream)
    assert network(host) == before


@pytest.mark.skipif(not WHOLE, reason="it takes a minute: script/test vm --all")
def test_a_bond_of_networkds_with_a_vlan_on_it_is_handed_over_and_back(host: Vm) -> None:
    host.run(NEIGHBOUR)
    for name, text in NETWORKD.items():
        host.run(f"cat >/etc/systemd/network/{name}", stdin=text)
    host.run("systemctl start systemd-networkd")
    host.wait_for("networkctl list bond0 bond0.7 | grep -c 'routable *configured' | grep -x 2")
    (address,) = host.addresses("bond0")
    before = network(host)
    with connected(host, address) as stream, talking(host, "198.51.100.7"):
        host.run(*UP)
        assert host.addresses("br0") == [address]
        assert host.addresses("bond0.7") == ["198.51.100.7"]
        host.run("systemctl restart systemd-networkd")
        host.wait_for("networkctl list br0 bond0.7 | grep -c 'routable *configured' | grep -x 2")
        assert host.addresses("br0") == [address]
        assert echoes(stream)
        host.run(*UP, "--bridge", "br7", "bond0.7")
        assert host.addresses("br7") == ["198.51.100.7"]
        host.run("tapbridge", "down", "--quiet", "br7")
        host.run("tapbridge", "down", "--quiet", "br0")
        assert echoes(stream)
    host.wait_for("networkctl list bond0 bond0.7 | grep -c 'routable *configured' | grep -x 2")
    assert host.addresses("bond0") == [address]
    assert network(host) == before
    assert "DHCPRELEASE" not in host.served()


@pytest.mark.skipif(not WHOLE, reason="it takes a minute: script/test vm --all")
def test_a_vlan_of_networkmanagers_goes_on_beside_the_bridge(host: Vm) -> None:
    host.run(NEIGHBOUR)
    host.run(NETWORKMANAGER)
    (address,) = host.addresses(FIRST)
    active = "nmcli -t -f DEVICE,STATE,CONNECTION device | grep '^{}:connected:{}$'"
    before = network(host)
    with connected(host, address) as stream, talking(host, "198.51.100.7"):
        host.run(*UP)
        assert host.addresses("br0") == [address]
        host.wait_for(active.format(f"{FIRST}.7", "office"))
        assert echoes(stream)
        host.run("tapbridge", "down", "--quiet")
        host.wait_for(active.format(FIRST, "lan"))
        host.wait_for(active.format(f"{FIRST}.7", "office"))
        assert echoes(stream)
    assert network(host) == before

    # by the UUID of the other profile NetworkManager would not find the parent again
    host.run("nmcli connection modify office vlan.parent $(nmcli -g connection.uuid connection show lan)")
    refused = host.run(*UP, check=False)
    assert refused.returncode == 3
    assert f"vlan.parent {FIRST}" in refused.stderr
    assert network(host) == before
