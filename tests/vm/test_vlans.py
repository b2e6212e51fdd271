"""A bridge that tells VLANs apart: guests in VLANs of the LAN, the host and plain guests as on any other bridge."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from kit.container import GATEWAY
from kit.vm import NICS, Vm

FIRST, SECOND, THIRD = NICS
UP = ("tapbridge", "up", "--yes", "--quiet", "--confirm", "0")
HOST = f"ip link set {FIRST} up; ip addr add 192.0.2.7/24 dev {FIRST}; ip route add default via {GATEWAY}"
NEIGHBOURS = f"""
ip netns add trunk
ip link set {THIRD} netns trunk
ip -n trunk link set {THIRD} up
ip -n trunk addr add 198.51.100.3/24 dev {THIRD}
for vlan in 7 8; do
    ip netns add vlan$vlan
    ip -n trunk link add link {THIRD} name vlan$vlan type vlan id $vlan
    ip -n trunk link set vlan$vlan netns vlan$vlan
    ip -n vlan$vlan link set vlan$vlan up
    ip -n vlan$vlan addr add 198.51.100.$vlan/24 dev vlan$vlan
done
"""
"""Machines on the LAN with addresses of one network: without a VLAN, in VLAN 7, and in VLAN 8."""

GUEST = """\
#!/usr/bin/python3
import fcntl, os, re, select, struct, subprocess, sys
(tap,) = [int(number) for word in sys.argv for number in re.findall(r"fds=([0-9]+)", word)]
name = sys.argv[sys.argv.index("-name") + 1]
subprocess.run(["ip", "netns", "add", name], check=True)
if os.fork() == 0:
    os.execvp("ip", ["ip", "netns", "exec", name, "python3", "-c", '''
import fcntl, os, select, struct, subprocess, sys
tap, inside = int(sys.argv[1]), os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(inside, 0x400454CA, struct.pack("16sH22x", b"eth0", 0x1002))
subprocess.run(["ip", "link", "set", "eth0", "up"], check=True)
subprocess.run(["ip", "addr", "add", sys.argv[2] + "/24", "dev", "eth0"], check=True)
while True:
    for ready in select.select([tap, inside], [], [])[0]:
        frame = os.read(ready, 65536)
        os.write(*((inside, frame[10:]) if ready == tap else (tap, bytes(10) + frame)))
''', str(tap), sys.argv[sys.argv.index("-m") + 1]])
os.wait()
"""
"""A guest of a network namespace: what it takes for QEMU hands frames between the tap and a tap inside of it."""

CLEAN = f"""
for guest in one two plain; do systemctl stop guest-$guest 2>/dev/null; ip netns del $guest 2>/dev/null; done
tapbridge rollback --quiet 2>/dev/null
systemctl stop broker 2>/dev/null; rm -f /etc/tapbridge/broker.policy; userdel --remove alice 2>/dev/null
for link in br0 {FIRST}.7 waiting; do ip link del $link 2>/dev/null; done
for space in vlan7 vlan8 trunk; do ip netns del $space 2>/dev/null; done
ip addr flush dev {FIRST}; ip link set {FIRST} nomaster down; udevadm settle; rm -rf /root/bin
"""

CONTRACT = """
from tapbridge.model.noun import replace
from tapbridge.core.access import restore_vlans
from tapbridge.core.compare import comparable
from tapbridge.core.effect import effect
from tapbridge.linux.host import LinuxHost
from tapbridge.model.state import Bridge, Vlans
from tapbridge.model.step import *
aware = Bridge(vlan_filtering=True, mcast_snooping=False)
def vlans(first, last=None, **more): return Vlans(first=first, last=last or first, **more)
steps = [
    AddLink(name="br8", kind="bridge", mac="02:00:00:00:00:08", mtu=1500, bridge=aware),
    AddLink(name="br9", kind="bridge", mac="02:00:00:00:00:09", mtu=1500, bridge=replace(aware, vlan_filtering=False)),
    SetMaster(link="port0", master="br9"), SetMaster(link="port1", master="br8"),
    SetVlanFiltering(link="br9", on=True), SetVlanFiltering(link="br9", on=True),
    PutVlans(link="port0", vlans=vlans(7)), PutVlans(link="port0", vlans=vlans(10, 20)),
    PutVlans(link="port0", vlans=vlans(21)), PutVlans(link="port0", vlans=vlans(15, untagged=True)),
    DeleteVlans(link="port0", vlans=vlans(18)), DeleteVlans(link="port0", vlans=vlans(99)),
    PutVlans(link="port1", vlans=vlans(7, pvid=True, untagged=True)), DeleteVlans(link="port1", vlans=vlans(1)),
    SetMaster(link="port1", master=None), SetMaster(link="port1", master="br8"),
    SetVlanFiltering(link="br8", on=False), SetVlanFiltering(link="br8", on=True), DeleteLink(link="br8"),
]
def same(kernel, model):
    seen, foretold = comparable(kernel.observe()), comparable(model)
    assert seen.links == foretold.links, (seen.links, foretold.links)
with LinuxHost() as kernel:
    before = model = kernel.observe()
    for step in steps:
        kernel.perform([step]); model = effect(step, model); same(kernel, model)
    wanted = kernel.observe()
    pairs = lambda now: [(x, now.link(x.name)) for x in wanted.links if now.link(x.name)]
    for spoilt in ([DeleteVlans(link="port0", vlans=vlans(1, 21))], [SetVlanFiltering(link="br9", on=False)],
                   [PutVlans(link="port0", vlans=vlans(30, 4094, untagged=True))],
                   [SetMaster(link="port0", master=None), SetMaster(link="port0", master="br9")]):
        kernel.perform(spoilt)
        assert kernel.observe().links != wanted.links
        kernel.perform(list(restore_vlans(pairs(kernel.observe())))); same(kernel, wanted)
        assert list(restore_vlans(pairs(kernel.observe()))) == []
print("same")
"""


@pytest.fixture
def host(machine: Vm) -> Iterator[Vm]:
    """The machine with an address on the LAN, and neighbours in two VLANs; afterwards as before."""
    machine.run(f"{NEIGHBOURS} {HOST}; mkdir /root/bin")
    machine.run("cat >/root/bin/qemu-system-x86_64; chmod +x /root/bin/qemu-system-x86_64", stdin=GUEST)
    try:
        machine.wait_for(f"ping -c 1 -W 1 {GATEWAY}")
        machine.wait_for(f"! ip -6 addr show dev {FIRST} tentative | grep -q fe80")
        yield machine
    finally:
        machine.run(CLEAN, check=False)
        machine.wait_for(f"ip link show {THIRD}")


def start(host: Vm, name: str, address: str, *options: str) -> None:
    """Start a guest, and wait until it is on the network."""
    unit = ("systemd-run", "--quiet", f"--unit=guest-{name}", "--property=Type=exec", "--collect")
    qemu = ("/root/bin/qemu-system-x86_64", "-name", name, "-m", address)
    host.run(*unit, "tapbridge", "run", *options, "--", *qemu)
    host.wait_for(f"ip -n {name} addr show dev eth0 | grep -q {address}")


def answers(host: Vm, one: str, other: str) -> bool:
    """Whether somebody is answered by another; who is in another VLAN gets not even an answer to ARP."""
    return host.run(f"ip netns exec {one} ping -c 1 -W 4 {other}", check=False).returncode == 0


def vlans(host: Vm, link: str) -> str:
    """The VLANs of a port, by other means than the program's."""
    (one,) = json.loads(host.run(f"bridge -j vlan show dev {link}").stdout) or [{"vlans": []}]
    return " ".join(f"{x['vlan']}{'u' * ('Egress Untagged' in x.get('flags', []))}" for x in one["vlans"])


def network(host: Vm) -> str:
    """Links, addresses, routes and VLANs, without numbers and lifetimes."""
    words = (
        "ip -br link",
        "ip -br addr",
        "ip route show table all",
        "bridge vlan show",
        "ip -d link show type bridge | { grep -o 'vlan_filtering .' || :; }",
    )
    return host.run("; ".join(words)).stdout


def test_guests_are_in_vlans_of_the_lan_and_hear_nothing_of_others(host: Vm) -> None:
    before = network(host)
    host.run(*UP, "--vlan-aware")
    assert host.addresses("br0") == ["192.0.2.7"]
    start(host, "one", "198.51.100.71", "--vlan", "7")
    start(host, "two", "198.51.100.81", "--vlan", "8")
    start(host, "plain", "198.51.100.31")
    reached = {
        (one, other)
        for one in ("one", "two", "plain", "trunk", "vlan7", "vlan8")
        for other, ip in {"one": 71, "two": 81, "plain": 31, "trunk": 3, "vlan7": 7, "vlan8": 8}.items()
        if one != other and answers(host, one, f"198.51.100.{ip}")
    }
    together = ({"one", "vlan7"}, {"two", "vlan8"}, {"plain", "trunk"})
    assert reached == {(one, other) for each in together for one in each for other in each if one != other}
    assert vlans(host, FIRST) == "1u 7 8"
    (bridge,) = json.loads(host.run("tapbridge", "status", "--json").stdout)["bridges"]
    seen = {port["guest"]: [(x["first"], x["last"], x["untagged"]) for x in port["vlans"]] for port in bridge["ports"]}
    assert bridge["vlan_aware"]
    plain, tagged = (1, 1, True), (7, 8, False)
    assert seen == {None: [plain, tagged], "one": [(7, 7, True)], "two": [(8, 8, True)], "plain": [plain]}
    text = host.run("tapbridge", "status").stdout
    assert "VLAN-aware" in text
    assert "VLAN 1, with tags VLAN 7-8" in text
    for guest in ("one", "two", "plain"):
        host.run("systemctl", "stop", f"guest-{guest}")
    host.wait_for("! ip link show type tun | grep -q tbtap")
    host.run("tapbridge", "down", "--quiet")
    assert network(host) == before


def test_a_bridge_that_is_there_is_told_so_without_loss_and_takes_it_back(host: Vm) -> None:
    host.run(*UP)
    plain = network(host)
    refused = host.run("tapbridge", "run", "--vlan", "7", "--", "/root/bin/qemu-system-x86_64", check=False)
    assert (refused.returncode, f"tapbridge up {FIRST} --vlan-aware" in refused.stderr) == (3, True)
    (host.place / "flood").write_text("")
    host.run(f"ping -q -i 0.01 -c 2000 {GATEWAY} >/run/flood 2>&1 & echo")
    host.run("tapbridge", "up", FIRST, "--yes", "--vlan-aware", "--confirm", "60", "--no-wait")
    assert vlans(host, FIRST) == "1u"
    host.run("tapbridge", "rollback")
    assert network(host) == plain
    for _ in range(2):
        told = json.loads(host.run("tapbridge", "up", "--vlan-aware", "--json", "--confirm", "0").stdout)
    assert told["outcome"] == "nothing"
    host.wait_for("grep -q transmitted /run/flood")
    assert " 2000 received" in host.run("cat /run/flood").stdout
    host.run(f"ip link add link {FIRST} name {FIRST}.7 type vlan id 7")
    refused = host.run("tapbridge", "run", "--vlan", "7", "--", "/root/bin/qemu-system-x86_64", check=False)
    assert (refused.returncode, f"{FIRST}.7 on {FIRST} takes the frames of VLAN 7" in refused.stderr) == (3, True)


def test_a_tap_that_waits_is_in_its_vlan_and_comes_back_into_it(host: Vm) -> None:
    host.run(*UP, "--vlan-aware")
    told = host.run("tapbridge", "tap", "add", "waiting", "--bridge", "br0", "--vlan", "7").stdout
    assert "a port of br0 in VLAN 7" in told
    assert (vlans(host, "waiting"), vlans(host, FIRST)) == ("7u", "1u 7")
    (tap,) = json.loads(host.run("tapbridge", "tap", "list", "--json").stdout)["taps"]
    assert tap["vlan"] == 7
    words = ("tapbridge", "args", "--tap", "waiting", "--vlan")
    assert "ifname=waiting" in host.run(*words, "7").stdout
    assert "is not in VLAN 8" in host.run(*words, "8", check=False).stderr
    host.run("tapbridge", "down", "--quiet")
    host.run(*UP)  # to a bridge that tells none apart it does not belong
    assert "master" not in host.run("ip link show waiting").stdout
    host.run(*UP, "--vlan-aware", FIRST)
    host.run("tapbridge", "tap", "add", "waiting", "--bridge", "br0", "--vlan", "7")
    assert (vlans(host, "waiting"), vlans(host, FIRST)) == ("7u", "1u 7")
    host.run("tapbridge", "down", "--quiet")
    host.run(*UP, "--vlan-aware")
    assert (vlans(host, "waiting"), vlans(host, FIRST)) == ("7u", "1u 7")
    host.run("tapbridge", "tap", "del", "waiting")


def test_a_guarded_guest_is_in_its_vlan_under_its_own_addresses_alone(host: Vm) -> None:
    host.run(*UP, "--vlan-aware")
    mac = "52:54:00:aa:00:01"
    start(host, "one", "198.51.100.71", "--vlan", "7", "--mac", mac, "--guard", "ip", "--ip", "198.51.100.71")
    (guest,) = json.loads(host.run("tapbridge", "ps", "--json").stdout)["guests"]
    assert [(nic["vlan"], nic["rate"], nic["guard"]) for nic in guest["nics"]] == [(7, None, "ip")]
    assert not answers(host, "one", "198.51.100.7")  # its card has another address than was asked for
    host.run(f"ip -n one link set eth0 down; ip -n one link set eth0 address {mac} up")
    assert answers(host, "one", "198.51.100.7")
    host.run("ip -n one addr add 198.51.100.72/24 dev eth0")
    assert host.run("ip netns exec one ping -c 1 -W 2 -I 198.51.100.72 198.51.100.7", check=False).returncode == 1
    assert answers(host, "one", "198.51.100.7")


def test_a_user_is_in_the_vlan_of_the_policy_and_in_no_other(host: Vm) -> None:
    host.run(*UP, "--vlan-aware")
    policy = "allow user alice bridge br0 vlan 7\n"
    host.run("useradd alice; mkdir -p /etc/tapbridge; cat >/etc/tapbridge/broker.policy", stdin=policy)
    assert "in VLAN 7" in host.run("tapbridge", "broker", "--check").stdout
    host.run("systemd-run --unit broker --service-type=exec tapbridge broker")
    host.wait_for("test -S /run/tapbridge/broker.sock")
    asked = ("runuser", "-u", "alice", "--", "tapbridge", "run", "--net", "br0")
    shown = ("sh", "-c", "bridge -j vlan show; bridge fdb show br br0; : fds=")
    said = host.run(*asked, "--", *shown).stdout
    ports = {port["ifname"]: [vlan["vlan"] for vlan in port["vlans"]] for port in json.loads(said.splitlines()[0])}
    assert ports == {FIRST: [1, 7], "br0": [1], "tbtap0": [7]}
    assert [line for line in said.splitlines() if "dev tbtap0 vlan 7 master br0 static" in line]
    refused = host.run(*asked, "--vlan", "8", "--", *shown, check=False)
    assert (refused.returncode, "the broker's policy says in which VLAN" in refused.stderr) == (3, True)
    host.wait_for("! ip link show tbtap0")


def test_the_kernel_does_what_effect_foretells_of_vlans(machine: Vm) -> None:
    machine.run(
        "ip netns add contract; for n in 0 1; do ip -n contract link add port$n type veth peer name far$n; done"
    )
    try:
        machine.run(
            "ip netns exec contract sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1"
        )
        told = machine.run("ip", "netns", "exec", "contract", "python3", "-", stdin=CONTRACT)
        assert told.stdout == "same\n", told.stderr
    finally:
        machine.run("ip netns del contract")


def test_what_the_script_does_is_the_same(host: Vm) -> None:
    host.run("tapbridge up --vlan-aware --script >/run/up; sh -e /run/up")
    assert vlans(host, FIRST) == "1u"
    host.run("tapbridge tap add waiting --bridge br0 --vlan 7 --script >/run/tap; sh -e /run/tap")
    assert (vlans(host, "waiting"), vlans(host, FIRST)) == ("7u", "1u 7")
    assert host.run("tapbridge tap add waiting --bridge br0 --vlan 7").stdout == "There is nothing to do.\n"
