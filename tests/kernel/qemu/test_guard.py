"""What a guarded guest may say, frame by frame, on the kernel's bridge; and what is left of its filter when it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from kit.brokers import taps, until
from kit.claims import ALLOWED, HOST_IPS, IPS, MAC, ROUTER_IPS, claims, numbered, numbers_of
from kit.command import run
from kit.holders import Processes, make_bridge, tapbridge, unprivileged
from kit.injection import Where, calls_of, fail, kill
from kit.joining import join
from kit.netns import in_netns
from tapbridge.linux.channel import Channel
from tapbridge.linux.filters import _drop_empty_table, set_filter, sweep_filters
from tapbridge.linux.host import LinuxHost
from tapbridge.linux.tun import OpenTap, open_tap
from tapbridge.model.errors import Refused
from tapbridge.model.intent import Guard
from tapbridge.model.noun import replace
from tapbridge.model.state import Scope
from tapbridge.model.values import IfName, Mac

GUARDS = {
    "mac": Guard(mac=Mac(MAC), denied=(*HOST_IPS, *ROUTER_IPS)),
    "ip": Guard(mac=Mac(MAC), ips=IPS),
}
LAST = 9999
SHOW = (("status",), ("ps",), ("tap", "list"))


@pytest.fixture
def tap() -> Iterator[OpenTap]:
    """A tap beside a bridge br0, whose other port leads to lan0, and nobody else looks at what passes."""
    with in_netns():
        for tables in ("iptables", "ip6tables", "arptables"):  # they cut the numbers off, and count checksums
            run("sysctl", "-qw", f"net.bridge.bridge-nf-call-{tables}=0", check=False)
        make_bridge()
        run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "lan0")
        run("ip", "link", "set", "eth0", "master", "br0", "up")
        run("ip", "link", "set", "lan0", "up")
        opened = open_tap(Mac("fe:54:00:aa:00:01"))
        yield opened
        opened.close()


def number(link: str) -> int:
    with LinuxHost() as host:
        found = host.observe(Scope.LINKS).link(IfName(link))
    assert found is not None
    return found.index


def delivered(tap: OpenTap, frames: list[bytes], last: bytes = claims()[0].frame) -> set[int]:
    """Which of the frames that a guest sends come to the LAN; an end that the guard lets pass comes behind them."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as lan:
        lan.bind(("lan0", 3))
        lan.settimeout(10)
        for at, frame in [*enumerate(frames), (LAST, last)]:
            os.write(tap.descriptors[0], bytes(10) + numbered(frame, at))
        found: set[int] = set()
        while LAST not in found:
            found |= numbers_of([lan.recv(4096)])
        return found


def table() -> str:
    return run("nft", "list", "table", "bridge", "tapbridge", check=False).stdout


@pytest.mark.parametrize("name", ["mac", "ip", None])
def test_what_a_guard_lets_pass(tap: OpenTap, name: str | None) -> None:
    if name is not None:
        set_filter(number(tap.name), GUARDS[name])
    join(tap)
    every = claims()
    found = delivered(tap, [claim.frame for claim in every])
    came = {claim.name for at, claim in enumerate(every) if at in found}
    if name is None:  # but for what no bridge forwards, all of it
        assert {claim.name for claim in every} - came == {"lldp", "pause"}
    else:
        assert came == {claim.name for claim in every if name in claim.passes}
        assert len(came) == {"mac": 38, "ip": 29}[name]


@pytest.mark.parametrize("word", ALLOWED)
def test_what_is_allowed_passes_and_nothing_else(tap: OpenTap, word: str) -> None:
    join(tap, guard=replace(GUARDS["mac"], allowed=(word,)))
    every = claims()
    found = delivered(tap, [claim.frame for claim in every])
    came = {claim.name for at, claim in enumerate(every) if at in found}
    assert came == {claim.name for claim in every if "mac" in claim.passes} | ALLOWED[word]


def test_a_guest_without_an_ip_address_says_nothing_over_ip(tap: OpenTap) -> None:
    set_filter(number(tap.name), Guard(mac=Mac(MAC), ips=(IPS[1],)))
    join(tap)
    named = {claim.name: claim.frame for claim in claims()}
    said = [named[name] for name in ("arp request", "tcp", "dhcp discover", "tcp over ipv6")]
    assert delivered(tap, said, last=named["tcp over ipv6"]) == {2, 3, LAST}


def test_what_comes_from_elsewhere_is_nobodys_business(tap: OpenTap) -> None:
    join(tap, guard=GUARDS["ip"])
    os.set_blocking(tap.descriptors[0], False)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as lan:
        lan.bind(("lan0", 0))
        for at, claim in enumerate(claims()):
            lan.send(numbered(claim.frame[:6] + bytes.fromhex("020000000099") + claim.frame[12:], at))
    came: set[int] = set()

    def all_came() -> bool:
        with suppress(BlockingIOError):
            while True:
                came.update(numbers_of([os.read(tap.descriptors[0], 4096)]))
        return len(came) >= len(claims()) - 2

    assert until(all_came)


def test_the_port_holds_the_address_where_somebody_flushes_all_rules(tap: OpenTap) -> None:
    join(tap, guard=GUARDS["ip"])
    named = {claim.name: claim.frame for claim in claims()}
    bad = [named["another source"], named["vlan 1"], named["ipv4 from the router's address"]]
    assert delivered(tap, bad) == {LAST}
    run("nft", "flush", "ruleset")
    assert delivered(tap, bad) == {1, 2, LAST}


def test_a_filter_is_set_again_and_again(tap: OpenTap) -> None:
    index = number(tap.name)
    for name in ("ip", "mac", "ip"):
        set_filter(index, GUARDS[name])
    once = table()
    assert once.count("iif vmap @ports") == 1
    set_filter(index, GUARDS["ip"])
    assert table() == once
    assert sweep_filters() == ()
    assert table() == once


def test_what_is_left_of_a_dead_guest_is_swept_away_also_where_it_is_not_whole(tap: OpenTap) -> None:
    set_filter(number("lan0"), GUARDS["mac"])
    kept = table()
    one = open_tap(Mac("fe:54:00:aa:00:02"))
    first = number(one.name)
    set_filter(first, GUARDS["ip"])
    one.close()
    other = open_tap(Mac("fe:54:00:aa:00:02"))
    second = number(other.name)
    assert other.name == one.name and second != first
    set_filter(second, GUARDS["ip"])
    assert f"chain g{first}" not in table()
    run("nft", "delete", "element", "bridge", "tapbridge", "ports", f"{{ {second} }}")
    run("nft", "flush", "chain", "bridge", "tapbridge", f"g{second}")
    run("nft", "delete", "chain", "bridge", "tapbridge", f"g{second}")
    other.close()
    assert f"chain g{second}arp" in table()
    assert sweep_filters() == (second,)
    assert table() == kept
    assert sweep_filters() == ()


def test_an_empty_table_goes_and_one_with_a_port_or_something_of_others_stays(tap: OpenTap) -> None:
    guarded = open_tap(Mac("fe:54:00:aa:00:02"))
    set_filter(number(guarded.name), GUARDS["mac"])
    full = table()
    _drop_empty_table()
    assert table() == full
    guarded.close()
    run("nft", "add", "chain", "bridge", "tapbridge", "mine")
    assert sweep_filters() != ()
    assert "chain mine" in table() and "icmp6" not in table() and "iif vmap @ports" in table()
    run("nft", "delete", "chain", "bridge", "tapbridge", "mine")
    assert sweep_filters() == ()
    assert run("nft", "list", "tables").stdout == ""


def guest(processes: Processes, *words: str, qemu: Path) -> None:
    qemu.write_text("#!/bin/sh\necho guest\nexec cat\n")
    qemu.chmod(0o755)
    processes.start(sys.executable, "-m", "tapbridge", "run", "--net", "br0", *words, "--", str(qemu), until="guest")


def test_run_guards_and_whoever_changes_something_next_sweeps(tmp_path: Path) -> None:
    processes = Processes()
    with in_netns():
        make_bridge()
        run("ip", "addr", "add", "192.0.2.2/24", "dev", "br0")
        run("ip", "route", "add", "default", "via", "192.0.2.1")
        qemu = tmp_path / "qemu-system-x86_64"
        try:
            guest(processes, "--mac", MAC, "--guard", "mac", qemu=qemu)
            (found,) = taps()
            assert found.port is not None and (found.port.locked, found.port.learning) == (True, False)
            assert "ip saddr { 192.0.2.1, 192.0.2.2 } counter" in table()
            assert f"{MAC} dev {found.name} master br0 static" in run("bridge", "fdb", "show").stdout
            processes.started[0].send_signal(signal.SIGKILL)
            processes.started[0].wait()
            assert f"g{found.index}icmp6" in table()
            said = tapbridge("recover").stdout
            assert table() == ""
            assert "There is nothing to recover" in tapbridge("recover").stdout, said
            guest(processes, "--guard", "ip", "--ip", "192.0.2.10,2001:db8::10", qemu=qemu)
            assert table().count("arp saddr ip 192.0.2.10 accept") == 1
        finally:
            processes.end()


def shown(*prefix: str) -> tuple[dict[str, object], list[str]]:
    """What status, ps and tap list say of the guard of one tap, and the codes of what they find."""
    documents = [json.loads(tapbridge(*words, "--json", prefix=prefix).stdout) for words in SHOW]
    (port,) = documents[0]["bridges"][0]["ports"]
    (nic,) = documents[1]["guests"][0]["nics"]
    (use,) = documents[2]["taps"]
    found = [finding for document in documents for finding in document["findings"]]
    told = {"status": port["guard"], "ps": nic["guard"], "tap list": use["guard"]}
    return told, [f"{finding['code']} {finding['subject']}" for finding in found if "guard" in finding["code"]]


def test_a_guard_is_shown_while_it_is_there_and_missed_when_somebody_has_taken_it_away(tmp_path: Path) -> None:
    processes = Processes()
    with in_netns():
        make_bridge()
        try:
            guest(processes, "--name", "web", "--guard", "mac", qemu=tmp_path / "qemu-system-x86_64")
            assert shown() == (dict.fromkeys(map(" ".join, SHOW), "mac"), [])
            assert "guard mac" in tapbridge("status").stdout
            hidden = ["guards-hidden tbtap0"] * 2
            assert shown(*unprivileged()) == (dict.fromkeys(map(" ".join, SHOW)), hidden), "who may not ask is told so"
            run("nft", "flush", "ruleset")
            assert shown() == (dict.fromkeys(map(" ".join, SHOW)), ["guard-lost tbtap0"] * 2)
            (index,) = (found.index for found in taps())
            set_filter(index, GUARDS["mac"])
            assert shown()[0]["ps"] == "mac"
            run("nft", "flush", "table", "bridge", "tapbridge")
            set_filter(number("br0"), GUARDS["mac"])
            assert shown()[1] == ["guard-lost tbtap0"] * 2, "the table is whole again, for another port"
            said = tapbridge("ps")
            assert f"web (tbtap0, PID {processes.started[0].pid}) is not guarded any more" in said.stderr
        finally:
            processes.end()


@pytest.mark.parametrize("act", ["kill", "fail"])
def test_a_run_that_is_cut_off_anywhere_leaves_nothing_that_recover_does_not_take_away(
    tmp_path: Path, act: str
) -> None:
    with in_netns():
        make_bridge()
        qemu = tmp_path / "qemu-system-x86_64"
        qemu.write_text("#!/bin/sh\n")
        qemu.chmod(0o755)
        words = [sys.executable, "-m", "tapbridge", "run", "--net", "br0", "--guard", "mac", "--", str(qemu)]
        where = Where(environment=dict(os.environ), folder=tmp_path, there=str(tmp_path))
        calls = calls_of(words, where)
        first = next(at for at, call in enumerate(calls) if "TUNSETIFF" in call.text)
        found = [call for call in calls[first:] if call.kind in ("ioctl", "sendmsg", "sendto")]
        assert len(found) > 10
        left = 0
        for call in found:
            if act == "kill":
                assert kill(call, words, where, alone=False).reached, str(call)
            else:
                ended = fail(call, "error=EIO", words, where, alone=False)
                assert ended.reached and ended.code in (0, 1, 3), f"{call}: {ended.output}"
            assert until(lambda: taps() == []), str(call)
            left += table() != ""
            tapbridge("recover")
            assert (table(), taps()) == ("", []), str(call)
        assert left


@pytest.mark.parametrize(
    ("words", "exit_code", "said"),
    [
        (("--guard", "ip"), 2, "--guard ip and --ip belong together"),
        (("--ip", "192.0.2.10"), 2, "--guard ip and --ip belong together"),
        (("--guard", "ip", "--ip", "192.0.2.300"), 2, "is no IP address"),
        (("--guard", "all"), 2, "is not mac, ip or off"),
        (("--allow", "vlan"), 2, "--allow is for a guest that is guarded"),
        (("--guard", "mac", "--allow", "vlan,all"), 2, "'all' is not dhcp, macs, router or vlan"),
        (("--net", "user", "--guard", "mac"), 3, "user mode needs no guard"),
    ],
)
def test_what_makes_no_sense_is_refused(words: tuple[str, ...], exit_code: int, said: str) -> None:
    with in_netns():
        make_bridge()
        net = () if "--net" in words else ("--net", "br0")
        done = tapbridge("run", *net, *words, "--", "qemu-system-x86_64", check=False)
        assert (done.returncode, taps()) == (exit_code, [])
        assert said in done.stderr


def test_without_nft_it_is_refused_before_anything_is_joined(tap: OpenTap, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Refused, match="nft cannot be started"):
        join(tap, guard=GUARDS["mac"])
    with LinuxHost() as host:
        left = host.observe(Scope.LINKS).link(tap.name)
    assert left is not None and (left.master, left.up) == (None, False)


def test_the_commands_of_the_steps_do_the_same(tap: OpenTap) -> None:
    from tapbridge.core.describe import describe
    from tapbridge.model.step import SetFilter

    set_filter(number(tap.name), GUARDS["ip"])
    before = table()
    run("nft", "flush", "ruleset")
    command = describe(SetFilter(link=tap.name, guard=GUARDS["ip"])).command
    assert command is not None
    run("unshare", "--mount", "sh", "-c", f"mount -t sysfs sysfs /sys && {command}")
    assert table() == before
    Channel().close()
