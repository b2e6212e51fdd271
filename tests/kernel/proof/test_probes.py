"""Who is there answers, who is not does not, and the answer is a new one each time."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kit.command import run
from kit.holders import Processes
from kit.lan import batch
from kit.netns import Netns, new_netns
from tapbridge.core.proof import judge, targets
from tapbridge.linux.host import LinuxHost
from tapbridge.linux.probes import probe
from tapbridge.model.errors import HostError
from tapbridge.model.proof import Answer, Target
from tapbridge.model.state import Scope
from tapbridge.model.values import Family, IfName

NIC = IfName("eth0")
FOUR = Target(kind="gateway", family=4, ip="192.0.2.1")
SIX = Target(kind="gateway", family=6, ip="2001:db8::1")
LOCAL = Target(kind="gateway", family=6, ip="fe80::1")
GATEWAYS = (FOUR, SIX, LOCAL)
FAR = ("203.0.113.9", "2001:db8:f::9")
DROP_ARP = "table arp t { chain c { type filter hook input priority 0; arp operation request drop; }; }"
DROP_ND = "table ip6 t { chain c { type filter hook input priority 0; icmpv6 type nd-neighbor-solicit drop; }; }"
DROP_BROADCAST = """
table arp t {
  chain c { type filter hook input priority 0; arp operation request ether daddr ff:ff:ff:ff:ff:ff counter drop; }
}
"""
ONLY_KNOWN = """
table bridge t {
  chain unknown { arp operation request drop; icmpv6 type nd-neighbor-solicit drop; }
  chain c { type filter hook forward priority 0; ether daddr != 02:00:00:00:01:01 jump unknown; }
}
"""
SWITCH = """
link add br0 up type bridge mcast_snooping 0
link set dev a master br0 up
link set dev b master br0 up
"""
SILENT = {
    "the cable is pulled": "ip link set p0 down",
    "it is gone": "ip addr flush dev p0",
    "it says nothing more": f"nft '{DROP_ARP}; {DROP_ND}'",
}


def ask(*whom: Target, anew: bool = True, limit_s: float = 3) -> list[bool]:
    return [answer.answered for answer in probe(whom, NIC, anew=anew, limit_s=limit_s)]


def visitor(ip: str, port: int = 50123) -> Target:
    family: Family = 6 if ":" in ip else 4
    return Target(kind="visitor", family=family, ip=ip, port=port)


def entry(ip: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(run("ip", "-j", "neigh", "show", ip, "dev", "eth0").stdout)
    return found[0] if found else {}


def counted(netns: Netns) -> int:
    with netns.entered():
        return int(run("nft", "list", "ruleset").stdout.partition("packets ")[2].split()[0])


@pytest.mark.parametrize("anew", [False, True])
def test_gateways_that_are_there_answer_known_or_not(lan: Netns, anew: bool) -> None:
    for _ in range(3):
        answers = probe(GATEWAYS, NIC, anew=anew, limit_s=5)
        assert answers == tuple(
            Answer(target=target, answered=True, detail="is at 02:00:00:00:01:01") for target in GATEWAYS
        )
    assert entry("192.0.2.1")["state"] == ["REACHABLE"]


@pytest.mark.parametrize("anew", [False, True])
@pytest.mark.parametrize("how", SILENT.values(), ids=SILENT.keys())
def test_a_gateway_that_answered_and_does_not_any_more(lan: Netns, how: str, anew: bool) -> None:
    before = probe((FOUR, SIX), NIC, anew=False, limit_s=5)
    with lan.entered():
        run("sh", "-c", how)
    after = probe((FOUR, SIX), NIC, anew=anew, limit_s=0.3)
    assert [finding.code for finding in judge(before, after).findings] == ["gateway-silent"] * 2
    assert [answer.detail for answer in after] == ["no answer within 0.3 s"] * 2


def test_a_gateway_that_never_answered_is_not_missed(lan: Netns) -> None:
    batch("route add 10.0.0.0/8 via 192.0.2.9\nroute add 10.1.0.0/16 via 10.54.0.1 dev eth0 onlink")
    with LinuxHost() as host:
        asked = targets(host.observe(Scope.KERNEL), NIC)
    assert {target.ip for target in asked} == {"192.0.2.1", "2001:db8::1", "192.0.2.9", "10.54.0.1"}
    before = probe(asked, NIC, anew=False, limit_s=0.3)
    assert {answer.target.ip for answer in before if answer.answered} == {"192.0.2.1", "2001:db8::1"}
    assert judge(before, probe(asked, NIC, anew=True, limit_s=0.3)).ok


def test_the_kernel_asks_everybody_anew_and_only_who_is_known_else(lan: Netns) -> None:
    assert ask(FOUR, limit_s=5) == [True]
    with lan.entered():
        run("nft", "-f", "-", stdin=DROP_BROADCAST)
    assert ask(FOUR, anew=False) == [True]
    assert counted(lan) == 0
    assert ask(FOUR, limit_s=0.3) == [False]
    assert counted(lan) > 0


def test_a_question_of_the_gateways_own_is_no_answer(lan: Netns) -> None:
    """It makes its MAC known, and the kernel would ask nothing more."""
    assert ask(FOUR, limit_s=5) == [True]
    with lan.entered():
        run("nft", "-f", "-", stdin=DROP_BROADCAST)
        words = "for _ in 1 2 3 4; do sleep 0.2; ip neigh flush dev p0; ping -c 1 -W 1 192.0.2.2; done"
        speaking = subprocess.Popen(["sh", "-c", words], stdout=subprocess.DEVNULL)
    with speaking:
        assert ask(FOUR, limit_s=1) == [False]
        assert entry("192.0.2.1")["lladdr"] == "02:00:00:00:01:01"
        assert ask(FOUR, anew=False, limit_s=5) == [True]


def test_one_lost_question_does_not_count_and_costs_a_flow_nothing(lan: Netns) -> None:
    """The kernel itself would ask again after a second."""
    assert ask(FOUR, limit_s=5) == [True]
    with lan.entered():
        run(
            "nft", "-f", "-", stdin=DROP_BROADCAST.replace("drop", "limit rate over 1/day burst 2 packets accept; drop")
        )
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    flow = "import socket, time\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\nprint('ready', flush=True)\n"
    flow += "for _ in range(200): time.sleep(0.002); s.sendto(b'x', ('192.0.2.1', 7))"
    with receiver:
        receiver.bind(("192.0.2.1", 7))
        with subprocess.Popen([sys.executable, "-c", flow], stdout=subprocess.PIPE) as sending:
            assert sending.stdout is not None
            assert sending.stdout.readline()
            assert ask(FOUR, limit_s=0.9) == [True]
        receiver.settimeout(1)
        assert [receiver.recv(9) for _ in range(200)] == [b"x"] * 200


def test_a_configured_entry_is_not_touched_and_others_stand_in(lan: Netns) -> None:
    batch("neigh replace 192.0.2.1 lladdr 02:00:00:00:01:01 dev eth0 nud permanent")
    before = probe((FOUR,), NIC, anew=True, limit_s=5)
    assert [answer.answered for answer in before] == [True]
    assert entry("192.0.2.1")["state"] == ["PERMANENT"]
    with lan.entered():
        run("nft", "table ip t { chain c { type filter hook input priority 0; icmp type echo-request drop; }; }")
    (answer,) = probe((FOUR,), NIC, anew=True, limit_s=5)
    assert answer == Answer(target=FOUR, answered=True, detail="refused a connection")
    with lan.entered():
        run("nft", "add rule ip t c drop")
    assert [finding.code for finding in judge(before, probe((FOUR,), NIC, anew=True, limit_s=0.3)).findings] == [
        "gateway-silent"
    ]
    assert entry("192.0.2.1")["state"] == ["PERMANENT"]


def test_an_echo_of_either_family(lan: Netns) -> None:
    for target in (FOUR, SIX):
        run("ip", "neigh", "replace", target.ip, "lladdr", "02:00:00:00:01:01", "dev", "eth0", "nud", "permanent")
    with lan.entered():
        run("nft", "table inet t { chain c { type filter hook input priority 0; meta l4proto tcp drop; }; }")
    assert [answer.detail for answer in probe((FOUR, SIX), NIC, anew=True, limit_s=5)] == [
        "answered an echo request",
        "answered an echo request",
    ]


def test_a_switch_that_passes_only_who_is_known() -> None:
    """An open connection goes on, and everything that exists answers; but nobody new would."""
    with switched() as (switch, lan):
        before = probe(GATEWAYS[:2], NIC, anew=True, limit_s=5)
        with lan.entered():
            door = socket.create_server(("192.0.2.1", 7))
        with door, socket.create_connection(("192.0.2.1", 7), timeout=5) as flow, door.accept()[0] as other:
            with switch.entered():
                run("nft", "-f", "-", stdin=ONLY_KNOWN)
            assert judge(before, probe(GATEWAYS[:2], NIC, anew=False, limit_s=5)).ok
            flow.sendall(b"x")
            assert other.recv(1) == b"x"
            after = probe(GATEWAYS[:2], NIC, anew=True, limit_s=0.3)
    assert [finding.code for finding in judge(before, after).findings] == ["gateway-silent"] * 2


@contextmanager
def switched() -> Iterator[tuple[Netns, Netns]]:
    """This thread is a host; the switch that its eth0 is on, and the LAN behind that."""
    with new_netns() as switch, new_netns() as lan, new_netns() as host, host.entered():
        batch(f"link add eth0 address 02:00:00:00:01:02 type veth peer name a netns {switch.path}")
        with lan.entered():
            batch(f"link add p0 address 02:00:00:00:01:01 type veth peer name b netns {switch.path}")
        with switch.entered():
            batch(SWITCH)
        for netns, link, number in ((lan, "p0", 1), (host, "eth0", 2)):
            with netns.entered():
                batch(
                    f"link set {link} up\naddr add 192.0.2.{number}/24 dev {link}\n"
                    f"addr add 2001:db8::{number}/64 dev {link} nodad\naddr add fe80::{number}/64 dev {link} nodad"
                )
        yield switch, lan


def test_a_link_that_is_not_there(lan: Netns) -> None:
    with pytest.raises(HostError, match="gone0"):
        probe((FOUR,), IfName("gone0"), anew=True, limit_s=1)


def test_a_dns_server_answers_whatever_it_knows(lan: Netns, processes: Processes) -> None:
    servers = tuple(Target(kind="dns", family=6 if ":" in ip else 4, ip=ip, port=53) for ip in ("192.0.2.1", "fe80::1"))
    assert ask(*servers, limit_s=0.3) == [False, False]
    words = ["--conf-file=/dev/null", "--bind-interfaces", "--no-resolv", "--no-hosts", "--user=root", "--pid-file="]
    words += ["--keep-in-foreground", "--log-facility=-", "--interface=p0"]
    with lan.entered():
        processes.start("dnsmasq", *words, until="started")
    answers = probe(servers, NIC, anew=True, limit_s=5)
    assert [answer.detail for answer in answers] == ["answered a DNS query"] * 2
    processes.end()
    after = probe(servers, NIC, anew=True, limit_s=0.3)
    assert [answer.detail for answer in after] == ["Connection refused"] * 2
    assert [finding.code for finding in judge(answers, after).findings] == ["dns-silent"] * 2


def test_a_server_for_tls_is_asked_for_a_connection(lan: Netns) -> None:
    target = Target(kind="dns", family=4, ip="192.0.2.1", port=853)
    with lan.entered():
        door = socket.create_server(("192.0.2.1", 853))
    with door:
        (answer,) = probe((target,), NIC, anew=True, limit_s=5)
    assert answer.detail == "took a connection"


def test_a_refused_connection_is_an_answer(lan: Netns) -> None:
    found = probe((visitor("192.0.2.1"), visitor("2001:db8::1"), visitor("fe80::1")), NIC, anew=True, limit_s=5)
    assert [answer.detail for answer in found] == ["refused a connection"] * 3


@pytest.mark.parametrize("reason", ["port-unreachable", "admin-prohibited"])
def test_what_a_router_says_of_the_visitor_is_no_answer_but_what_he_says_himself_is(lan: Netns, reason: str) -> None:
    rules = f"ip protocol tcp reject with icmp type {reason}; ip6 nexthdr tcp reject with icmpv6 type {reason};"
    batch(f"route add {FAR[0]} via 192.0.2.1\n-6 route add {FAR[1]} via 2001:db8::1")
    visitors = tuple(visitor(ip) for ip in FAR)
    with lan.entered():
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text("1")
        batch("link add q0 up type veth peer name q1\nlink set q1 up")
        batch(f"route add {FAR[0]} dev q0\n-6 route add {FAR[1]} dev q0")
        run("nft", f"table inet t {{ chain c {{ type filter hook forward priority 0; {rules} }}; }}")
    said = [answer.detail.partition(", says ")[2] for answer in probe(visitors, NIC, anew=True, limit_s=0.5)]
    assert ask(*visitors, limit_s=0.5) == [False, False]
    assert said == ["192.0.2.1", "2001:db8::1"]
    with lan.entered():
        run("nft", f"flush ruleset; table inet t {{ chain c {{ type filter hook input priority 0; {rules} }}; }}")
        batch(
            f"route flush {FAR[0]}\n-6 route flush {FAR[1]}\naddr add {FAR[0]}/32 dev lo\naddr add {FAR[1]}/128 dev lo"
        )
    assert [answer.detail for answer in probe(visitors, NIC, anew=True, limit_s=5)] == ["refused a connection"] * 2


def test_a_network_without_a_way_is_said_so(lan: Netns) -> None:
    batch("route add unreachable 203.0.113.0/24")
    (answer,) = probe((visitor(FAR[0]),), NIC, anew=True, limit_s=0.3)
    assert answer == Answer(target=visitor(FAR[0]), answered=False, detail="No route to host")
