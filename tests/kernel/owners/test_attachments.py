"""What names or holds a NIC is seen, with the process that has it; what survives the move is not told."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from kit.command import run
from kit.netns import new_netns
from tapbridge.linux.attachments import observe_attachments
from tapbridge.model.state import Attachment, Link
from tapbridge.model.values import IfName

NIC = IfName("eth0")


def _seen(link: str = "eth0", kind: str = "") -> tuple[Attachment, ...]:
    return observe_attachments([Link(name=IfName(link), index=socket.if_nametoindex(link), kind=kind)])


def _kinds() -> list[tuple[str, str]]:
    return [(found.kind, found.detail) for found in _seen()]


def test_nothing_on_a_bare_nic_and_no_process_is_started(lan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", never)
    assert _seen() == ()


def test_bound_sockets_with_their_process(lan: Any) -> None:
    run("ip", "addr", "add", "fe80::5/64", "dev", "eth0", "nodad")
    with ExitStack() as stack:
        datagrams = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        datagrams.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0\0")
        datagrams.bind(("0.0.0.0", 5000))
        listening = stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_STREAM))
        listening.bind(("fe80::5", 5001, 0, socket.if_nametoindex("eth0")))
        listening.listen()
        free = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        free.bind(("0.0.0.0", 5002))
        elsewhere = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        elsewhere.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo\0")
        elsewhere.bind(("127.0.0.1", 5003))
        found = _seen()
        assert [(x.kind, x.detail) for x in found] == [
            ("socket", "TCP socket [fe80::5]:5001"),
            ("socket", "UDP socket 0.0.0.0:5000"),
        ]
        assert {(x.link, x.program, x.pid) for x in found} == {
            ("eth0", Path("/proc/self/comm").read_text().strip(), os.getpid())
        }
    assert _seen() == ()


@pytest.mark.parametrize(
    ("protocol", "dies"),
    [(0x0800, True), (0x0806, True), (0x8863, True), (0x0003, False), (0x888E, False), (0x88CC, False), (0, False)],
    ids=["ip", "arp", "pppoe", "all", "eapol", "lldp", "none"],
)
def test_packet_sockets_that_will_be_deaf(lan: Any, protocol: int, dies: bool) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as packets:
        packets.bind(("eth0", protocol))
        expected = [("packet-socket", f"packet socket for protocol {protocol:#06x}")] if dies else []
        assert _kinds() == expected


@pytest.mark.parametrize("protocol", [0x0800, 0x88CC])
def test_the_kernel_agrees_on_which_packet_sockets_are_deaf(lan: Any, protocol: int) -> None:
    """The claim itself: on a port of a bridge the one hears nothing and the other goes on."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as packets:
        packets.bind(("eth0", protocol))
        told = bool(_seen())
        run("ip", "link", "add", "br0", "up", "type", "bridge")
        run("ip", "link", "set", "eth0", "master", "br0")
        packets.settimeout(0.3)
        group = "0180c200000e" if protocol == 0x88CC else "020000000102"
        with lan.netns.entered(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sender:
            sender.bind(("p0", 0))
            for _ in range(3):
                sender.send(bytes.fromhex(group + "020000000101") + struct.pack(">H", protocol) + bytes(50))
        try:
            heard = bool(packets.recv(100))
        except TimeoutError:
            heard = False
        assert heard is not told


def test_multicast_groups_with_whoever_may_have_joined(lan: Any) -> None:
    index = socket.if_nametoindex("eth0")
    with ExitStack() as stack:
        mdns = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        mdns.bind(("0.0.0.0", 5353))
        request = socket.inet_aton("224.0.0.251") + bytes(4) + struct.pack("@i", index)
        mdns.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
        unknown = stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
        group = socket.inet_pton(socket.AF_INET6, "ff02::4242") + struct.pack("@i", index)
        unknown.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group)
        found = _seen()
        assert [(x.kind, x.detail) for x in found] == [
            ("membership", "multicast group 224.0.0.251"),
            ("membership", "multicast group ff02::4242"),
        ]
        assert [x.pid for x in found] == [os.getpid(), None]


def test_groups_of_the_kernels_own_are_not_told(lan: Any) -> None:
    run("ip", "addr", "add", "192.0.2.2/24", "dev", "eth0")
    run("ip", "addr", "add", "2001:db8::2/64", "dev", "eth0", "nodad")
    Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text("1")
    assert "ff020000000000000000000000000002" in Path("/proc/thread-self/net/igmp6").read_text()
    assert _seen() == ()


INPUT = "chain i {; type filter hook input priority 0; policy drop;"
OPEN = "chain i {; type filter hook input priority 0;"
VITAL = {
    "by name": INPUT + 'iifname "eth0" tcp dport 22 accept;}',
    "by pattern": INPUT + 'iifname "eth*" accept;}',
    "in a set": INPUT + 'iifname { "lo", "eth0" } accept;}',
    "in a map": "chain x {; accept;};" + INPUT + 'iifname vmap { "lo" : accept, "eth0" : jump x };}',
    "in a named set of pairs": 'set s {; type ifname . inet_service; elements = { "eth0" . 22 };};'
    + INPUT
    + "iifname . tcp dport @s accept;}",
    "in a set of patterns": 'set s {; type ifname; flags interval; elements = { "eth*", "lo" };};'
    + INPUT
    + "iifname @s accept;}",
    "a drop at the end": OPEN + 'iifname "eth0" accept; counter drop;}',
    "a reject at the end": OPEN + 'iifname "eth0" accept; reject;}',
    "all others dropped": OPEN + 'iifname != "eth0" drop;}',
    "in a chain that input leads to": 'chain z {; iifname "eth0" accept;};'
    + INPUT
    + "tcp dport vmap { 22 : jump z };}",
    "on the way out": 'chain o {; type filter hook output priority 0; policy drop; oifname "eth0" accept;}',
}
HARMLESS = {
    "in a chain that nothing leads to": 'chain z {; iifname "eth0" accept;};' + INPUT + "tcp dport 22 accept;}",
    "where the policy accepts": OPEN + 'iifname "eth0" accept;}',
    "of what is forwarded": 'chain f {; type filter hook forward priority 0; policy drop; iifname "eth0" accept;}',
    "masquerade": 'chain n {; type nat hook postrouting priority 100; oifname "eth0" masquerade;}',
    "that drops": INPUT + 'iifname "eth0" drop; accept;}',
}
OTHERS = {
    "another name": INPUT + 'iifname "eth1" accept;}',
    "another pattern": INPUT + 'iifname "ens*" accept;}',
    "a longer name": INPUT + 'iifname { "lo", "eth01" } accept;}',
    "other patterns": 'set s {; type ifname; flags interval; elements = { "ens*", "eth00*" };};'
    + INPUT
    + "iifname @s accept;}",
    "no name": INPUT + "tcp dport 22 accept;}",
}


@pytest.mark.parametrize("rules", VITAL.values(), ids=VITAL.keys())
def test_a_rule_that_the_hosts_own_traffic_lives_by(lan: Any, rules: str) -> None:
    _nft(f"table inet t {{; {rules};}}")
    found = _seen()
    assert [x.kind for x in found] == ["input-drop", "nft-rule"]
    assert all("eth0" in x.detail and " t " in x.detail for x in found)


def test_a_rule_by_number_is_told_apart_for_the_bridge_has_another_even_under_the_same_name(lan: Any) -> None:
    _nft(f"table inet t {{; {INPUT}" + 'iif "eth0" tcp dport 22 accept; iifname "eth0" tcp dport 80 accept;};}')
    assert [x.kind for x in _seen()] == ["input-drop", "input-drop-by-number", "nft-rule", "nft-rule-by-number"]


@pytest.mark.parametrize("rules", HARMLESS.values(), ids=HARMLESS.keys())
def test_a_rule_that_names_the_nic_and_is_not_vital(lan: Any, rules: str) -> None:
    _nft(f"table inet t {{; {rules};}}")
    assert [x.kind for x in _seen()] == ["nft-rule"]


@pytest.mark.parametrize("rules", OTHERS.values(), ids=OTHERS.keys())
def test_rules_that_name_others_are_not_told(lan: Any, rules: str) -> None:
    _nft(f"table inet t {{; {rules};}}")
    assert _seen() == ()


def test_the_kernel_agrees_that_the_host_would_be_cut_off(lan: Any) -> None:
    """The claim of input-drop itself: on a bridge the rule no longer matches."""
    run("ip", "addr", "add", "192.0.2.2/24", "dev", "eth0")
    _nft(f"table inet t {{; {VITAL['by name'].replace('tcp dport 22 ', '')};}}")
    assert "input-drop" in {found.kind for found in _seen()}
    ping = ("ping", "-c", "1", "-W", "1", "192.0.2.2")
    with lan.netns.entered():
        assert run(*ping, check=False).returncode == 0
    run("ip", "link", "add", "br0", "address", "02:00:00:00:01:02", "up", "type", "bridge")
    run("ip", "addr", "add", "192.0.2.2/24", "dev", "br0")
    run("ip", "link", "set", "eth0", "master", "br0")
    run("ip", "addr", "del", "192.0.2.2/24", "dev", "eth0")
    lan.wait_for(lambda: "state UP" in run("ip", "link", "show", "br0").stdout)
    with lan.netns.entered():
        assert run(*ping, check=False).returncode != 0


def test_chains_that_hang_on_the_nic(lan: Any) -> None:
    _nft(
        'table netdev t {; chain c {; type filter hook ingress device "eth0" priority 0; ip saddr 203.0.113.1 drop;};}'
    )
    assert _kinds() == [("nft-rule", "chain c of table netdev t hangs on it")]


def test_many_rules_are_told_as_a_number(lan: Any) -> None:
    rules = " ".join(f'iifname "eth0" tcp dport {port} accept;' for port in range(1, 26))
    _nft(f"table inet t {{; {OPEN} {rules}}};}}")
    assert len(_kinds()) == 21
    assert ("nft-rule", "5 more rules") in _kinds()


def test_tc_on_the_nic(lan: Any) -> None:
    run("tc", "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", "1mbit", "burst", "10k", "latency", "10ms")
    run("tc", "qdisc", "add", "dev", "eth0", "clsact")
    assert _kinds() == [("tc", "the clsact hook of tc"), ("tc", "the tbf queue of tc")]


def test_ports_and_taps_are_not_looked_at(lan: Any) -> None:
    run("tc", "qdisc", "add", "dev", "eth0", "clsact")
    index = socket.if_nametoindex("eth0")
    assert observe_attachments([Link(name=NIC, index=index, master=IfName("br0"))]) == ()
    assert observe_attachments([Link(name=NIC, index=index, kind="tap")]) == ()
    assert observe_attachments([Link(name=NIC, index=index)]) != ()


def test_a_socket_of_another_namespace_is_none_of_ours(lan: Any) -> None:
    with new_netns() as other, other.entered():
        run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "p0")
        bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0\0")
        bound.bind(("0.0.0.0", 5000))
        assert len(_seen()) == 1
    with bound:
        assert _seen() == ()


def _nft(text: str) -> None:
    """Load rules that stand in one line, `;` where nft wants a new one."""
    run("nft", "-f", "-", stdin=text.replace(";", "\n") + "\n")
