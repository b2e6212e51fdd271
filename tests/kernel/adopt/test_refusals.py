"""Bad input: one sentence, a hint, the right exit code, and nothing touched."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from kit.command import run
from kit.lan import batch, host_on_lan
from kit.netns import named_netns
from tapbridge.cli.main import main
from tapbridge.core.compare import comparable
from tapbridge.linux.host import LinuxHost

CASES = [
    ("", ["up", "eht0"], 3, "no-such-link", "eth0"),
    ("", ["up", "lo"], 3, "not-bridgeable", "loopback"),
    ("link add br7 type bridge", ["up", "br7"], 3, "not-bridgeable", "bridge already"),
    ("tuntap add dev t0 mode tap", ["up", "t0"], 3, "not-bridgeable", "tap"),
    ("link add mv0 link eth0 type macvlan", ["up", "eth0"], 3, "has-macvlan", "mv0"),
    ("link add mv0 link eth0 type macvtap", ["up", "eth0"], 3, "has-macvlan", "mv0"),
    ("", ["up", "--bridge", "a-name-of-more-than-15"], 3, "invalid-name", "15"),
    ("", ["up", "--bridge", "a/b"], 3, "invalid-name", "'/'"),
    ("", ["up", "--bridge", "a b"], 3, "invalid-name", "white space"),
    ("", ["up", "--bridge", ""], 3, "invalid-name", "empty"),
    ("", ["up", "e h0"], 3, "invalid-name", "white space"),
    ("", ["up", "--bridge", "eth0"], 3, "name-taken", "--take-name"),
    ("link property add dev eth0 altname lan0", ["up", "--bridge", "lan0"], 3, "name-taken", "eth0"),
    ("link add br0 type bridge\naddr add 10.0.0.1/24 dev br0", ["up"], 3, "bridge-not-ours", "--bridge"),
    (
        "link add br0 type bridge\ntuntap add dev t0 mode tap\nlink set t0 master br0",
        ["up"],
        3,
        "bridge-not-ours",
        "t0",
    ),
    ("link add br0 type bridge stp_state 1", ["up"], 3, "stp-on", "STP"),
    ("link add reth0 type bridge", ["up", "--take-name"], 3, "name-taken", "--port-name"),
    ("route del default\n-6 route del default", ["up"], 3, "no-default-route", "tapbridge up NIC"),
    ("link set eth0 down", ["up", "eth0"], 3, "no-carrier", "set down"),
    (
        "route add 10.8.0.0/16 encap ip id 1 dst 192.0.2.1 via 192.0.2.1 dev eth0",
        ["up"],
        3,
        "route-not-movable",
        "encap",
    ),
    (
        "nexthop add id 7 via 192.0.2.1 dev eth0\nroute add 10.8.0.0/16 nhid 7",
        ["up"],
        3,
        "route-not-movable",
        "nexthop",
    ),
    ("", ["up", "--undo"], 2, "usage", "--script"),
    ("", ["up", "--bridge"], 2, "usage", "argument"),
    ("", ["down", "br9"], 3, "no-such-link", "br9"),
    ("", ["down", "eth0"], 3, "not-a-bridge", "no bridge"),
    ("link add br7 type bridge", ["down", "br7"], 3, "bridge-not-ours", "br7"),
]


@pytest.mark.parametrize(("world", "words", "code", "finding", "phrase"), CASES, ids=[" ".join(c[1]) for c in CASES])
def test_bad_input_is_refused_in_one_sentence_and_touches_nothing(
    world: str, words: list[str], code: int, finding: str, phrase: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with host_on_lan(), LinuxHost() as host:
        batch(world)
        before = host.observe()
        assert main(words) == code
        told = capsys.readouterr()
        assert told.out == ""
        assert re.match(r"error: [^\n]+\n(\n?hint: [^\n]+\n)?\Z", told.err.replace("\n\n", "\n")), told.err
        assert phrase in told.err
        assert main([*words, "--json"]) == code
        document = json.loads(capsys.readouterr().out)
        assert [f["code"] for f in document["findings"]] == [finding]
        assert document["outcome"] == "refused"
        assert comparable(host.observe()) == comparable(before)


def test_a_nic_of_another_namespace_is_found_there(capsys: pytest.CaptureFixture[str]) -> None:
    with named_netns("tb-elsewhere") as other, host_on_lan():
        with other.entered():
            batch("link add far0 type veth peer name far1")
        assert main(["up", "far0"]) == 3
        assert "tb-elsewhere" in capsys.readouterr().err


def test_who_may_not_change_the_network_is_told_so_with_exit_5(tmp_path: Path) -> None:
    with host_on_lan():
        code = "import sys; from tapbridge.cli.main import main; sys.exit(main(['up']))"
        done = run("setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-c", code, check=False)
    assert done.returncode == 5
    assert "sudo" in done.stderr


def test_an_input_rule_that_names_the_nic_under_a_dropping_policy_is_refused_but_with_take_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rules = "table inet f { chain input { type filter hook input priority 0; policy drop; iifname eth0 accept\n }\n}"
    with host_on_lan():
        run("nft", "-f", "-", stdin=rules)
        assert main(["up", "--yes"]) == 3
        assert "--take-name" in capsys.readouterr().err
        assert main(["up", "--yes", "--take-name"]) == 0
        assert main(["down", "--yes"]) == 0


def test_guests_on_the_bridge_keep_it_up_unless_forced(capsys: pytest.CaptureFixture[str]) -> None:
    with host_on_lan(), LinuxHost() as host:
        before = host.observe()
        assert main(["up"]) == 0
        batch("tuntap add dev g0 mode tap\nlink set g0 master br0")
        assert main(["down"]) == 3
        assert "g0" in capsys.readouterr().err
        assert main(["down", "--force"]) == 0
        batch("link del g0")
        assert comparable(host.observe()) == comparable(before)


def test_a_foreign_port_keeps_the_bridge_up_even_if_forced(capsys: pytest.CaptureFixture[str]) -> None:
    with host_on_lan():
        assert main(["up"]) == 0
        batch("link add v0 type veth peer name v1\nlink set v0 master br0")
        assert main(["down", "--force"]) == 3
        assert "v0" in capsys.readouterr().err


def test_an_empty_bridge_of_somebody_is_used_and_given_back(capsys: pytest.CaptureFixture[str]) -> None:
    with host_on_lan(), LinuxHost() as host:
        batch("link add br0 address 02:00:00:00:00:99 type bridge mcast_snooping 0\nlink set br0 addrgenmode none")
        before = host.observe()
        assert main(["up"]) == 0
        assert main(["down"]) == 0
        end = host.observe()
        there = next(link for link in end.links if link.name == "br0")
        assert there.mac == "02:00:00:00:00:99"
        assert there.alias is None
        assert end.addresses_of("eth0") == before.addresses_of("eth0")


def test_what_is_bound_to_the_nic_is_foretold_by_process_and_asked_about(capsys: pytest.CaptureFixture[str]) -> None:
    with host_on_lan(), ExitStack() as open_sockets:
        bound = open_sockets.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
        bound.bind(("", 5555))
        member = open_sockets.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        group = socket.inet_aton("239.1.2.3") + socket.inet_aton("192.0.2.2")
        member.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
        assert main(["up", "--dry-run", "--json"]) == 0
        told = {f["code"]: f["message"] for f in json.loads(capsys.readouterr().out)["findings"]}
        assert str(os.getpid()) in told["bound-socket"]
        assert "239.1.2.3" in told["multicast-membership"]
        assert main(["up"]) == 3
        assert "--yes" in capsys.readouterr().err
        assert main(["up", "--yes"]) == 0
        assert main(["down"]) == 0
