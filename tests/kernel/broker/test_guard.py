"""Taps that the broker lends with a filter: what their guests may say, and that the filter ends with the tap."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from kit.brokers import ALICE, EVE, WITH_SYS, Site, as_user, site, taps, until
from kit.claims import ALLOWED, IPS, MAC, claims, numbered, numbers_of
from kit.command import run

ADDRESSES = " ".join(f"ip {ip}" for ip in IPS)


def table() -> str:
    return run("nft", "list", "table", "bridge", "tapbridge", check=False).stdout


def await_guards(broker: Site, count: int) -> None:
    """Wait for the broker's word: the rules are there before it has looked whether they are whole."""
    assert until(lambda: broker.log.count("is guarded again") == count), broker.log


def delivered(site: Site, guest: subprocess.Popen[str]) -> set[str]:
    """Which frames of a guest come to the LAN."""
    every = claims()
    with site.lan.entered():
        lan = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    with lan:
        lan.bind(("lan0", 3))
        lan.settimeout(10)
        for at, frame in [*enumerate(claim.frame for claim in every), (len(every), every[0].frame)]:
            said = site.tell(guest, f"os.write(taps[0], bytes.fromhex('{(bytes(10) + numbered(frame, at)).hex()}'))")
            assert said.startswith("said"), said
        came: set[int] = set()
        while len(every) not in came:
            came |= numbers_of([lan.recv(4096)])
    return {claim.name for at, claim in enumerate(every) if at in came}


@pytest.mark.parametrize(
    ("words", "guard", "allowed"),
    [
        ("guard mac", "mac", ()),
        (f"guard ip {ADDRESSES}", "ip", ()),
        ("guard mac allow macs,vlan", "mac", ("macs", "vlan")),
    ],
)
def test_a_guest_is_held_to_what_the_policy_says(words: str, guard: str, allowed: tuple[str, ...]) -> None:
    with site(f"allow user {ALICE} bridge br0 {words}\n") as broker:
        for tables in ("iptables", "ip6tables", "arptables"):
            run("sysctl", "-qw", f"net.bridge.bridge-nf-call-{tables}=0", check=False)
        run("ip", "addr", "add", "2001:db8::2/64", "dev", "br0", "nodad")
        run("ip", "route", "add", "default", "via", "192.0.2.1")
        run("ip", "-6", "route", "add", "default", "via", "2001:db8::1")
        guest = broker.guest(ALICE, "--mac", MAC)
        besides = {name for word in allowed for name in ALLOWED[word]}
        assert delivered(broker, guest) == {claim.name for claim in claims() if guard in claim.passes} | besides
        assert f"guarded{' but for ' * bool(allowed)}{' and '.join(allowed)}, by line 1" in broker.log


def test_the_filter_ends_with_the_tap_however_that_ends() -> None:
    with site(f"allow user {ALICE} bridge br0 taps 9 guard mac\n") as broker:
        killed, closed, kept = (broker.guest(ALICE, "--name", name) for name in ("killed", "closed", "kept"))
        last = max(tap.index for tap in taps())
        assert table().count("icmp6 {") == 3
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert broker.tell(closed, "[os.close(n) for n in taps]") == "said [None]"
        assert until(lambda: table().count("icmp6 {") == 1)
        assert f"chain g{last}icmp6 {{" in table()
        assert kept.poll() is None


def test_a_broker_that_is_started_again_sweeps_and_keeps_what_is_in_use() -> None:
    with site(f"allow user {ALICE} bridge br0 taps 9 guard mac\n") as broker:
        gone, kept = (broker.guest(ALICE, "--name", name) for name in ("gone", "kept"))
        assert broker.stop(signal.SIGKILL) != 0
        before = table()
        gone.kill()
        gone.wait()
        broker.start()
        assert until(lambda: table().count("icmp6 {") == 1)
        assert before.count("icmp6 {") == 2
        assert kept.poll() is None
        assert broker.guest(ALICE, "--name", "next").poll() is None
        assert table().count("icmp6 {") == 2


def test_a_guard_that_somebody_has_flushed_comes_back() -> None:
    with site(f"allow user {ALICE} bridge br0 taps 9 guard mac allow vlan\n") as broker:
        guests = [broker.guest(ALICE, "--name", name) for name in ("one", "two", "three")]
        before = table()
        for times, act in enumerate(("flush ruleset", "flush table bridge tapbridge"), 1):
            run("nft", *act.split())
            await_guards(broker, times * len(guests))
            assert table() == before
        guests[0].kill()
        guests[0].wait()
        assert until(lambda: table().count("icmp6 {") == 2)
        assert "not guarded" not in broker.log


@pytest.mark.parametrize("who", [f"user {ALICE}", "group 4711", "group 4712"])
@pytest.mark.parametrize("guard", ["guard mac allow vlan", f"guard ip {ADDRESSES}"])
def test_a_guard_that_was_flushed_while_no_broker_looked_comes_back(guard: str, who: str) -> None:
    with site(f"allow {who} bridge br0 taps 2 {guard}\n") as broker:
        first, second = (broker.guest(ALICE, "--name", name, groups=(4711, 4712)) for name in ("first", "second"))
        before = table()
        broker.stop()
        run("nft", "flush", "ruleset")
        broker.start()
        await_guards(broker, 2)
        assert table() == before
        run("nft", "flush", "ruleset")
        await_guards(broker, 4)
        assert table() == before
        assert (first.poll(), second.poll()) == (None, None)


@pytest.mark.parametrize(
    "policy",
    [
        "",
        f"allow user {ALICE} bridge br0\n",
        f"allow user {ALICE} bridge br0 guard ip ip 192.0.2.10\n",
        f"allow user {ALICE} bridge br0 guard mac mac 02\n",
        "allow\n",
    ],
)
def test_a_lost_guard_that_the_policy_does_not_know_any_more_is_missed(policy: str) -> None:
    with site(f"allow user {ALICE} bridge br0 guard mac\n") as broker:
        guest = broker.guest(ALICE)
        broker.stop()
        run("nft", "flush", "ruleset")
        broker.write_policy(policy)
        broker.start()
        assert "tbtap0 is not guarded any more" in broker.log
        assert (guest.poll(), table()) == (None, "")


def test_a_guard_that_is_there_stays_whatever_the_policy_has_become() -> None:
    with site(f"allow user {ALICE} bridge br0 guard ip {ADDRESSES}\n") as broker:
        guest = broker.guest(ALICE)
        before = table()
        broker.stop()
        broker.write_policy(f"allow user {ALICE} bridge br0 guard ip ip 192.0.2.77\n")
        broker.start()
        assert broker.ask(as_user(EVE)).startswith("refused")  # so it has done by now what it does at first
        assert table() == before
        assert guest.poll() is None


# On a kernel that tells nobody of rules that change.
DEAF = """
import sys
import tapbridge.linux.lent as module
from tapbridge.cli.main import main
module.watch_rules = lambda: None
raise SystemExit(main(["broker", "--root", sys.argv[1]]))
"""


def test_where_the_kernel_tells_nobody_of_rules_a_lost_guard_comes_back_at_the_start() -> None:
    with site(f"allow user {ALICE} bridge br0 taps 2 guard mac\n") as broker:
        broker.guest(ALICE)
        before = table()
        broker.stop()
        run("nft", "flush", "ruleset")
        words = (*WITH_SYS, sys.executable, "-c", DEAF, str(broker.folder))
        with open(broker.folder / "deaf", "w") as log, subprocess.Popen(words, stdout=log, stderr=log) as deaf:
            try:
                assert until(lambda: "broker: ready" in (broker.folder / "deaf").read_text())
                assert table() == before
                assert broker.ask(as_user(EVE)).startswith("refused")
            finally:
                deaf.terminate()
        assert deaf.returncode == 0


def test_a_user_cannot_loosen_the_guard_and_asks_for_none() -> None:
    with site(f"allow user {ALICE} bridge br0 taps 2 guard mac\n") as broker:
        done = broker.run(ALICE, "--guard", "ip", "--ip", IPS[0])
        assert done.returncode == 3
        assert "the policy's to say" in done.stderr
        broker.guest(ALICE, "--guard", "off")
        assert table().count("icmp6 {") == 1


def test_where_no_filter_can_be_set_there_is_no_tap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with site(f"allow user {ALICE} bridge br0 guard mac\n") as broker:
        broker.stop()
        for program in ("unshare", "sh", "mount"):
            (tmp_path / program).symlink_to(shutil.which(program) or "")
        with monkeypatch.context() as poor:
            poor.setenv("PATH", str(tmp_path))
            broker.start()
        done = broker.run(ALICE)
        assert (done.returncode, taps()) == (3, [])
        assert "the filter of a guest cannot be set: nft cannot be started" in done.stderr
