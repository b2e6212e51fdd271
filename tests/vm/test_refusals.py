"""What cannot be the uplink, on a kernel that has it: refused with what to do instead, and nothing is touched."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from kit.container import GATEWAY
from kit.vm import NICS, Vm

FIRST, SECOND, _ = NICS
ADDRESS = f"ip addr add 192.0.2.7/24 dev {{}}; ip route add default via {GATEWAY}"
ON_NIC = f"ip link set {FIRST} up; {ADDRESS.format(FIRST)}"
OPENVSWITCH = f"""
import socket, struct, sys

def pack(kind, value):
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)

def ask(family, command, flags, *words):
    body = struct.pack("=BBH", command, 2, 0) + b"".join(words)
    netlink.send(struct.pack("=IHHII", 16 + len(body), family, flags, 1, 0) + body)
    return netlink.recv(65536)[16:]

def find(name):
    rest = ask(16, 3, 1, pack(2, name + b"\\0"))[4:]  # CTRL_CMD_GETFAMILY
    while struct.unpack_from("=H", rest, 2) != (1,):
        size = struct.unpack_from("=H", rest)[0]
        rest = rest[size + -size % 4:]
    return struct.unpack_from("=H", rest, 4)[0]

def order(*words):
    assert ask(words[0], words[1], 5, *words[2:])[:4] == bytes(4)  # NLM_F_REQUEST | NLM_F_ACK

netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 16)
datapath, port = find(b"ovs_datapath"), find(b"ovs_vport")
if not sys.argv[1:]:
    order(datapath, 1, bytes(4), pack(1, b"ovs0\\0"), pack(2, bytes(4)))  # OVS_DP_CMD_NEW
index = struct.pack("=i", socket.if_nametoindex("ovs0"))
if sys.argv[1:]:
    order(datapath, 2, index)  # OVS_DP_CMD_DEL
else:
    netdev = struct.pack("=I", 1)
    order(port, 1, index, pack(2, netdev), pack(3, b"{SECOND}\\0"), pack(5, bytes(4)))  # OVS_VPORT_CMD_NEW
"""
"""What `ovs-vsctl add-br ovs0; ovs-vsctl add-port ovs0 NIC` ask of the kernel, after struct ovs_header; or del-br."""

CASES = [
    (
        f"ip link add bond0 type bond mode active-backup; ip link set {SECOND} down; ip link set {SECOND} master bond0",
        SECOND,
        "has-master",
        "tapbridge up bond0",
    ),
    (f"ip link add team0 type team; ip link set {SECOND} master team0", SECOND, "has-master", "tapbridge up team0"),
    (f"ip link add vrf0 type vrf table 7; ip link set {SECOND} master vrf0", SECOND, "has-master", "nomaster"),
    ("ip link add vrf0 type vrf table 7; ip link set vrf0 up", "vrf0", "not-bridgeable", "the NIC that reaches"),
    (f"modprobe openvswitch; python3 -c '{OPENVSWITCH}'", SECOND, "has-master", "ovs-vsctl add-port"),
    (f"modprobe openvswitch; python3 -c '{OPENVSWITCH}'", "ovs0", "not-bridgeable", "ovs-vsctl add-port"),
    (f"ip link add link {SECOND} name ipvl0 type ipvlan", SECOND, "has-macvlan", "ip link del ipvl0"),
]
IDS = ["bond", "team", "vrf", "vrf-itself", "openvswitch", "openvswitch-itself", "ipvlan"]
CLEAN = f"""
systemctl stop point 2>/dev/null; modprobe -r mac80211_hwsim
[ ! -e /sys/class/net/ovs0 ] || python3 -c '{OPENVSWITCH}' del
for link in bond0 team0 vrf0 ipvl0; do ip link del $link 2>/dev/null; done
ip netns del point 2>/dev/null
for link in {FIRST} {SECOND}; do ip addr flush dev $link; ip link set $link nomaster down; done
"""
POINT = """
modprobe mac80211_hwsim radios=2
ip netns add point
iw phy $(cat /sys/class/net/wlan1/phy80211/name) set netns name point
ip -n point addr add 203.0.113.1/24 dev wlan1
printf 'interface=wlan1\\nssid=lan\\nchannel=1\\nhw_mode=g\\nwds_sta=1\\n' >/run/point.conf
"""


@pytest.fixture
def host(machine: Vm) -> Iterator[Vm]:
    """The machine with a configured NIC, which no test here may touch; afterwards as before."""
    machine.run(ON_NIC)
    try:
        yield machine
    finally:
        machine.run(CLEAN, check=False)


def network(machine: Vm) -> str:
    """The machine's bridges, IPv4 addresses and routes; with new links the kernel still has to do."""
    return machine.run("ip -br link show type bridge; ip -4 -o addr; ip -4 route show table all").stdout


def refusal(machine: Vm, *words: str) -> dict[str, str]:
    """What `up` says when it refuses, with exit code 3 and nothing touched."""
    before = network(machine)
    done = machine.run("tapbridge", "up", "--json", "--yes", "--force", "--confirm", "0", *words, check=False)
    document = json.loads(done.stdout)
    assert (done.returncode, document["outcome"]) == (3, "refused"), document
    assert network(machine) == before
    (finding,) = document["findings"]
    return dict(finding)


@pytest.mark.parametrize(("scene", "nic", "code", "fix"), CASES, ids=IDS)
def test_what_cannot_carry_the_host_is_refused_with_what_helps(
    host: Vm, scene: str, nic: str, code: str, fix: str
) -> None:
    host.run(scene)
    finding = refusal(host, nic)
    assert (finding["code"], finding["subject"]) == (code, nic)
    assert fix in finding["fix"]


def test_a_station_of_a_wireless_lan_is_refused_also_where_nobody_has_named_it(host: Vm) -> None:
    host.run(POINT)
    host.run("systemd-run --quiet --unit=point ip netns exec point hostapd /run/point.conf")
    host.run("ip link set wlan0 up; ip route del default")
    host.wait_for("iw dev wlan0 link | grep -q Connected || { iw dev wlan0 connect lan; sleep 0.5; false; }")
    host.run("ip addr add 203.0.113.7/24 dev wlan0; ip route add default via 203.0.113.1")
    host.wait_for("ping -c 1 -W 1 203.0.113.1")
    for words in ((), ("wlan0",)):
        finding = refusal(host, *words)
        assert (finding["code"], finding["subject"]) == ("not-bridgeable", "wlan0")
        assert "Wi-Fi" in finding["message"]
        assert "--net user" in finding["fix"]
    host.run("ping -c 3 -W 10 203.0.113.1")
