"""A Wi-Fi card as the uplink, with four addresses in its frames: on simulated radios."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from kit.tally import WHOLE
from kit.vm import Vm

pytestmark = pytest.mark.skipif(not WHOLE, reason="the emulated machine takes minutes: script/test vm --all")

UP = ("tapbridge", "up", "wlan0", "--4addr", "--confirm", "0")
GATEWAY, HOST, GUEST = "203.0.113.1", "203.0.113.7", "203.0.113.8"
POINT = f"""
modprobe mac80211_hwsim radios=2
ip netns add point
iw phy $(cat /sys/class/net/wlan1/phy80211/name) set netns name point
ip -n point link add lan0 type bridge
ip -n point link set lan0 up
ip -n point addr add {GATEWAY}/24 dev lan0
cat >/run/point.conf <<X
interface=wlan1
bridge=lan0
ssid=lan
channel=1
hw_mode=g
wpa=2
wpa_key_mgmt=WPA-PSK
rsn_pairwise=CCMP
wpa_passphrase=only-a-test
X
wpa_passphrase lan only-a-test >/run/station.conf
"""
"""An access point whose LAN is a bridge in a namespace."""

SERVE = "(cat /run/point.conf; echo wds_sta={}) >/run/point.now; systemctl stop point 2>/dev/null; sleep 0.2; \
systemd-run --quiet --unit=point ip netns exec point hostapd /run/point.now"
JOIN = f"""
systemd-run --quiet --unit=station wpa_supplicant -i wlan0 -c /run/station.conf -C /run/wpa_supplicant
ip addr add {HOST}/24 dev wlan0
ip link set wlan0 up
ip route add default via {GATEWAY}
"""
REACHED = f"ip -br link show wlan0 | grep -q ' UP ' && ping -c 1 -W 1 {GATEWAY}"
BEHIND = f"""
ip netns add guest
ip link add port9 type veth peer name eth0 netns guest
ip link set port9 up master br0
ip -n guest link set eth0 up
ip -n guest addr add {GUEST}/24 dev eth0
"""
SWITCH = "nlmsg_len=36, nlmsg_type=nl80211"
CLEAN = """
tapbridge recover; tapbridge down --force
systemctl stop dhclient dhcp station point
ip link del br0; ip netns del guest; ip netns del point; modprobe -r mac80211_hwsim
"""
FLOW = """
import socket, struct, sys, time
(_, ip, seconds), sent, heard = sys.argv, 0, set()
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as flow:
    flow.connect((ip, 7))
    flow.setblocking(False)
    began = time.monotonic()
    while (now := time.monotonic() - began) < float(seconds) + 1:
        while sent < min(now, float(seconds)) * 50:
            flow.send(struct.pack("!I", sent))
            sent += 1
        time.sleep(0.005)
        try:
            while True:
                heard |= {struct.unpack("!I", flow.recv(4))[0]}
        except BlockingIOError:
            pass
print(sent, sent - len(heard))
"""
"""Fifty numbered datagrams a second to an echo server: how many were sent, and how many did not come back."""

ECHO = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as echo:
    echo.bind(("", 7))
    while True:
        echo.sendto(*echo.recvfrom(100))
"""


@pytest.fixture(scope="module")
def joined(machine: Vm) -> Iterator[Vm]:
    """The machine with an access point that takes four addresses, and an echo server behind it."""
    machine.run(POINT)
    try:
        machine.run(SERVE.format(1))
        machine.run("systemd-run", "--quiet", "--unit=echo", "ip", "netns", "exec", "point", "python3", "-c", ECHO)
        machine.run(JOIN)
        machine.wait_for(REACHED)
        yield machine
    finally:
        machine.run("systemctl stop echo", check=False)
        machine.run(CLEAN, check=False)


@pytest.fixture
def lan(joined: Vm) -> Iterator[Vm]:
    """Likewise; whatever a test has left is taken back."""
    try:
        yield joined
    finally:
        joined.run(
            "tapbridge recover --quiet; [ ! -e /sys/class/net/br0 ] || tapbridge down --force --quiet", check=False
        )


def network(lan: Vm) -> str:
    """The station's mode, and what is on the links."""
    lan.wait_for("! ip -6 addr show tentative | grep -q fe80")
    return lan.run("iw dev wlan0 info | grep 4addr; ip -br link; ip -br addr; ip route; ip -6 route").stdout


def flow(lan: Vm, during: str) -> tuple[int, int]:
    """How many datagrams were sent while a command ran, and lost."""
    lan.run(f"rm -f /run/code; systemd-run --quiet --collect sh -c '{during} >/run/said 2>&1; echo $? >/run/code'")
    sent, lost = lan.run("python3", "-c", FLOW, GATEWAY, "25").stdout.split()
    lan.wait_for("test -s /run/code")
    assert lan.run("cat /run/code /run/said").stdout == "0\n"
    return int(sent), int(lost)


def test_a_guest_behind_a_wireless_card_is_on_the_lan_and_the_way_back_is_exact(lan: Vm) -> None:
    before = network(lan)
    sent, lost = flow(lan, f"{' '.join(UP)} --quiet")
    assert sent == 1250
    assert lost <= 50  # as long as the access point takes: a second, emulated
    assert lan.addresses("br0") == [HOST]
    assert lan.run("iw dev wlan0 info | grep 4addr").stdout.split() == ["4addr:", "on"]
    lan.run(BEHIND)
    lan.wait_for(f"ip netns exec guest ping -c 1 -W 1 {GATEWAY}")
    lan.run(f"ip netns exec point ping -c 3 -W 5 {GUEST}")
    lan.run("ip netns del guest")
    lan.wait_for("! ip link show port9")
    refused = lan.run("tapbridge", "save", "--json", check=False)
    assert (refused.returncode, json.loads(refused.stdout)["findings"][0]["code"]) == (3, "unsavable")
    lan.run("tapbridge", "down", "--quiet")  # the card joins its network anew
    lan.wait_for(REACHED)
    assert network(lan) == before
    assert json.loads(lan.run("tapbridge", "down", "--json").stdout)["outcome"] == "nothing"


def test_the_kernel_does_what_effect_foretells_of_four_addresses(lan: Vm) -> None:
    told = lan.run("python3", "-", stdin=CONTRACT)
    assert told.stdout == "same\n", told.stderr


CONTRACT = f"""
from tapbridge.core.compare import comparable
from tapbridge.core.effect import effect
from tapbridge.linux.host import LinuxHost
from tapbridge.model.state import Scope
from tapbridge.model.step import SetFourAddress
with LinuxHost() as kernel:
    model = kernel.observe(Scope.KERNEL)
    for on in (True, True, False, False):
        step = SetFourAddress(link="wlan0", on=on, asked=("{GATEWAY}",))
        kernel.perform([step]); model = effect(step, model)
        assert comparable(kernel.observe(Scope.KERNEL)).links == comparable(model).links
        assert not kernel.observe(Scope.LINKS).link("wlan0").four_address
print("same")
"""


def sends(lan: Vm, *words: str, kill: int | None = None) -> list[str]:
    """What a command sends, a line each; with `kill` it is killed before the message of that number."""
    inject = [] if kill is None else ["-e", f"inject=sendto,sendmsg:signal=SIGKILL:when={kill}"]
    trace = ("strace", "-qq", "-o", "/run/sends", "-e", "trace=sendto,sendmsg", *inject)
    lan.run(*trace, *words, "--quiet", check=kill is None)
    return lan.run("cut -c 1-100 /run/sends").stdout.splitlines()


def test_killed_on_the_way_there_the_card_is_as_before_after_one_recover(lan: Vm) -> None:
    before = network(lan)
    lines = sends(lan, *UP)
    (switch,) = [number for number, line in enumerate(lines, 1) if SWITCH in line]
    lan.run("tapbridge", "down", "--quiet")
    for kill in (switch, switch + 1, (switch + len(lines)) // 2, len(lines)):
        sends(lan, *UP, kill=kill)
        lan.run("tapbridge", "recover", "--quiet")
        lan.wait_for(REACHED)
        if lan.run("ip -br link show type bridge").stdout:  # all of it was there
            lan.run("tapbridge", "down", "--quiet")
        assert network(lan) == before, f"killed before message {kill} of {len(lines)}"


def test_killed_on_the_way_back_the_host_is_reached_after_one_recover(lan: Vm) -> None:
    before = network(lan)
    lan.run(*UP, "--quiet")
    bridged = network(lan)
    lines = sends(lan, "tapbridge", "down")
    join = next(number for number, line in enumerate(lines, 1) if '"REATTACH"' in line)
    for kill in (join, join + 1, join + 3):
        lan.run(*UP, "--quiet")
        sends(lan, "tapbridge", "down", kill=kill)
        lan.run("tapbridge", "recover", "--quiet")
        lan.wait_for(REACHED)
        assert network(lan) == bridged, f"killed before message {kill} of {len(lines)}"
        lan.run("tapbridge", "down", "--quiet")
        lan.wait_for(REACHED)
        assert network(lan) == before


def test_an_access_point_that_takes_no_four_addresses_is_found_out_and_nothing_is_changed(lan: Vm) -> None:
    lan.run(SERVE.format(0))
    lan.wait_for(REACHED)
    before = network(lan)
    done = lan.run(*UP, "--json", check=False)
    document = json.loads(done.stdout)
    assert (done.returncode, document["outcome"]) == (1, "rolled-back")
    assert "does not take frames with four addresses" in document["findings"][0]["message"]
    assert "wds_sta=1" in document["findings"][0]["fix"]
    assert network(lan) == before
    lan.run(f"ping -c 2 -W 5 {GATEWAY}")
    lan.run(SERVE.format(1))
    lan.wait_for(REACHED)


def test_a_lease_of_dhclient_s_goes_along(lan: Vm) -> None:
    lan.run("ip addr flush dev wlan0; mkdir -p /run/dhcp")
    serve = "dnsmasq --keep-in-foreground --port=0 --interface=lan0 --dhcp-range=203.0.113.50,203.0.113.60"
    lan.run(f"systemd-run --quiet --unit=dhcp ip netns exec point {serve} --dhcp-leasefile=/run/dhcp/leases")
    lan.run("systemd-run --quiet --unit=dhclient --property=Type=forking dhclient wlan0")
    (address,) = lan.addresses("wlan0")
    lan.run(*UP, "--quiet")
    lan.wait_for("pgrep -fx '.*dhclient.* br0'")
    assert lan.addresses("br0") == [address]
    lan.run("tapbridge", "down", "--quiet")
    lan.wait_for("pgrep -fx '.*dhclient.* wlan0'")
    lan.wait_for(f"ping -c 1 -W 1 {GATEWAY}")
    assert lan.addresses("wlan0") == [address]
    lan.run("systemctl stop dhclient dhcp", check=False)


def test_without_a_supplicant_that_listens_nobody_could_let_the_card_join_anew(lan: Vm) -> None:
    lan.run("systemctl stop station")
    lan.run("systemd-run --quiet --unit=station wpa_supplicant -i wlan0 -c /run/station.conf")
    lan.run(f"ip addr replace {HOST}/24 dev wlan0; ip route replace default via {GATEWAY}")
    lan.wait_for(REACHED)
    refused = lan.run(*UP, "--json", check=False)
    assert (refused.returncode, json.loads(refused.stdout)["findings"][0]["code"]) == (3, "no-supplicant")
    assert "4addr: on" not in lan.run("iw dev wlan0 info").stdout
