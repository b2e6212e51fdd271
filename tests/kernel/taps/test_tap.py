"""`tap add`, `del` and `list`: taps for users without rights, and what becomes of them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from kit.command import run
from kit.holders import HOLDER, Processes, attach
from kit.netns import named_netns
from tapbridge.cli.main import main
from tapbridge.core.compare import comparable, differences
from tapbridge.core.macs import lone_tap_mac
from tapbridge.linux import taps, tun
from tapbridge.linux.host import LinuxHost
from tapbridge.model.state import Link, State, Tap
from tapbridge.model.values import IfName

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all")
OF_GROUP = ("setpriv", "--reuid=12345", "--regid=54321", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all")
STRANGER = ("setpriv", "--reuid=12345", "--regid=12345", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all")


def observed() -> State:
    with LinuxHost() as host:
        return host.observe()


def found(name: str) -> Link:
    link = observed().link(name)
    assert link is not None, f"there is no {name}"
    return link


def told(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    """Exit code and document."""
    capsys.readouterr()
    code = main(["tap", *words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def codes(document: dict[str, Any]) -> list[str]:
    return [finding["code"] for finding in document["findings"]]


def opens(prefix: tuple[str, ...], tap: str) -> bool:
    """Whether a process with these rights can take the tap."""
    return run(*prefix, sys.executable, "-c", HOLDER, tap, check=False).stdout.startswith("ready")


@pytest.mark.usefixtures("processes", "open_tun")
def test_a_tap_is_as_qemu_wants_it_and_its_owner_alone_can_take_it(capsys: pytest.CaptureFixture[str]) -> None:
    run("ip", "link", "set", "br0", "mtu", "9000")
    assert told(capsys, "add", "t0", "--owner", "nobody", "--bridge", "br0")[1]["findings"] == []
    link = found("t0")
    assert link.tap == Tap(owner=65534, persist=True, vnet_hdr=True)
    assert (link.master, link.mtu, link.up, link.addr_gen_mode) == ("br0", 9000, True, 1)
    assert (link.alias, link.altnames) == ("tapbridge tap queues=1 bridge=br0", ("tapbridge-t0",))
    assert link.mac is not None and link.mac.startswith("fe:")
    assert found("br0").mtu == 9000
    assert opens(NOBODY, "t0")
    assert not opens(STRANGER, "t0")


@pytest.mark.usefixtures("processes", "open_tun")
def test_a_group_can_take_a_tap_of_several_queues(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "add", "t0", "--group", "54321", "--queues", "4")[1]["findings"] == []
    assert found("t0").tap == Tap(group=54321, persist=True, multi_queue=True, vnet_hdr=True)
    assert opens(OF_GROUP, "t0:")
    assert not opens(STRANGER, "t0:")
    (tap,) = told(capsys, "list")[1]["taps"]
    assert (tap["owner"], tap["group"], tap["queues"], tap["bridge"]) == (None, "54321", 4, None)


@pytest.mark.usefixtures("processes")
def test_a_tap_is_for_whoever_makes_it_unless_told_otherwise() -> None:
    assert main(["tap", "add", "t0"]) == 0
    assert found("t0").tap == Tap(owner=os.geteuid(), persist=True, vnet_hdr=True)


@pytest.mark.usefixtures("processes")
def test_a_tap_that_udev_gives_an_address_of_its_own_has_the_right_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(*words: Any) -> None:
        """As udev does which has seen the tap while its address was random still."""
        carry_out(*words)
        run("ip", "link", "set", "t0", "address", "0a:73:99:90:0e:67")

    carry_out = taps._carry_out
    monkeypatch.setattr(taps, "_carry_out", late)
    assert main(["tap", "add", "t0"]) == 0
    assert found("t0").mac == lone_tap_mac("t0")


@pytest.mark.usefixtures("processes", "open_tun")
def test_a_second_time_nothing_is_done_and_a_lost_bridge_is_joined_again(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("add", "t0", "--owner", "nobody", "--bridge", "br0")
    assert told(capsys, *words)[1]["outcome"] == "done"
    before = observed()
    code, document = told(capsys, *words)
    assert (code, document["outcome"], document["steps"]) == (0, "nothing", [])
    assert differences(before, observed(), ("t0", "br0")) == ()
    run("ip", "link", "set", "t0", "nomaster", "down")
    assert told(capsys, *words)[1]["outcome"] == "done"
    assert differences(before, observed(), ("t0", "br0")) == ()


@pytest.mark.parametrize("mode", [0o600, 0o666])
@pytest.mark.usefixtures("processes", "open_tun")
def test_a_closed_device_file_is_a_warning_with_the_fix(capsys: pytest.CaptureFixture[str], mode: int) -> None:
    os.chmod("/dev/net/tun", mode)
    code, document = told(capsys, "add", "t0", "--owner", "nobody")
    assert (code, document["outcome"]) == (0, "done")
    assert codes(document) == (["tun-closed"] if mode == 0o600 else [])
    assert opens(NOBODY, "t0") == (mode == 0o666)
    assert all("chmod 0666 /dev/net/tun" in finding["fix"] for finding in document["findings"])


REFUSALS = [
    (["add"], 2, "usage", "name"),
    (["add", "t0", "--owner", "nobody", "--group", "users"], 2, "usage", "both"),
    (["add", "t0", "--dead"], 2, "usage", "--dead"),
    (["add", "t0", "--queues", "0"], 2, "usage", "queues"),
    (["add", "t0", "--saved"], 2, "usage", "--saved"),
    (["list", "t0"], 2, "usage", "list"),
    (["list", "--dry-run"], 2, "usage", "list"),
    (["del"], 2, "usage", "--dead"),
    (["del", "mine", "--all"], 2, "usage", "--all"),
    (["del", "--dead", "--force"], 2, "usage", "--force"),
    (["add", "t0", "--owner", "no-such-user"], 3, "no-such-user", "no-such-user"),
    (["add", "t0", "--group", "no-such-group"], 3, "no-such-group", "no-such-group"),
    (["add", "t0", "--owner", "4294967295"], 3, "no-such-user", "4294967295"),
    (["add", "a/b"], 3, "invalid-name", "'/'"),
    (["add", "a-name-of-more-than-15"], 3, "invalid-name", "15"),
    (["add", "t0", "--bridge", "br1"], 3, "no-such-link", "br0"),
    (["add", "t0", "--bridge", "mine"], 3, "not-a-bridge", "mine"),
    (["add", "t0", "--persist"], 3, "not-lasting", "name"),
    (["add", "br0"], 3, "name-taken", "bridge"),
    (["add", "foreign"], 3, "name-taken", "foreign"),
    (["add", "tapbridge-mine"], 3, "name-taken", "mine"),
    (["add", "mine", "--owner", "nobody"], 3, "tap-differs", "owner"),
    (["add", "mine", "--queues", "2"], 3, "tap-differs", "queues"),
    (["add", "mine", "--bridge", "br0"], 3, "tap-differs", "bridge"),
    (["del", "br0"], 3, "not-a-tap", "br0"),
    (["del", "br0", "--force"], 3, "not-a-tap", "br0"),
    (["del", "foreign"], 3, "not-ours", "foreign"),
]


@pytest.mark.parametrize(("words", "exit_code", "code", "word"), REFUSALS, ids=[" ".join(case[0]) for case in REFUSALS])
@pytest.mark.usefixtures("processes")
def test_what_cannot_be_is_refused_and_nothing_is_touched(
    words: list[str], exit_code: int, code: str, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run("ip", "tuntap", "add", "dev", "foreign", "mode", "tap")
    assert main(["tap", "add", "mine"]) == 0
    before = observed()
    ended, document = told(capsys, *words)
    (finding,) = document["findings"]
    assert (ended, finding["code"]) == (exit_code, code)
    assert word in finding["message"] + (finding["fix"] or "")
    assert comparable(observed()) == comparable(before)


def test_a_tap_in_use_is_named_with_its_guest_and_goes_by_force_alone(
    processes: Processes, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tap", "add", "t0", "--bridge", "br0"]) == 0
    process = processes.qemu("-name", "web", "-nic", "tap,ifname=t0,script=no,downscript=no,model=e1000")
    (tap,) = told(capsys, "list")[1]["taps"]
    assert (tap["in_use"], tap["guest"], tap["pid"]) == (True, "web", process.pid)
    assert "web" in (capsys.readouterr(), main(["tap", "list"]), capsys.readouterr().out)[2]
    code, document = told(capsys, "del", "t0")
    assert (code, codes(document)) == (3, ["tap-in-use"])
    assert f"the guest 'web' (PID {process.pid})" in document["findings"][0]["message"]
    assert told(capsys, "del", "--dead")[1]["outcome"] == "nothing"
    code, document = told(capsys, "del", "--all")
    assert (code, document["outcome"], codes(document)) == (0, "nothing", ["tap-in-use"])
    assert found("t0").carrier
    assert told(capsys, "del", "t0", "--force")[0] == 0
    assert observed().link("t0") is None


def test_all_and_dead_take_ours_that_nobody_has_open(processes: Processes, capsys: pytest.CaptureFixture[str]) -> None:
    run("ip", "tuntap", "add", "dev", "foreign", "mode", "tap")
    run("ip", "link", "set", "lo", "group", "29794")  # somebody's group of that very number
    for number in range(5):
        assert main(["tap", "add", f"t{number}", "--bridge", "br0", "--quiet"]) == 0
    processes.hold("t3")
    assert told(capsys, "del", "--dead")[1]["outcome"] == "done"
    assert [link.name for link in observed().links] == ["br0", "foreign", "lo", "t3"]
    processes.end()
    processes.started.clear()
    assert told(capsys, "del", "--all")[1]["outcome"] == "done"
    assert [link.name for link in observed().links] == ["br0", "foreign", "lo"]
    assert told(capsys, "del", "t3")[1]["outcome"] == "nothing"
    assert main(["tap", "del", "foreign", "--force"]) == 0
    assert observed().link("foreign") is None


@pytest.mark.usefixtures("processes")
def test_a_tap_of_run_that_a_hostile_guest_made_persistent_counts_as_dead(processes: Processes) -> None:
    run("ip", "tuntap", "add", "dev", "tbtap0", "mode", "tap")
    run("ip", "link", "set", "dev", "tbtap0", "alias", "tapbridge guest=gone")
    attach("tbtap0")
    assert main(["tap", "del", "--dead"]) == 0
    assert observed().link("tbtap0") is None


@pytest.mark.usefixtures("processes")
def test_a_plan_is_shown_and_the_script_does_the_same(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["tap", "add", "t0", "--owner", "nobody", "--bridge", "br0", "--queues", "2"]
    before = observed()
    assert main([*words, "--dry-run"]) == 0
    assert "make the tap t0" in capsys.readouterr().out
    assert main([*words, "--script"]) == 0
    script = tmp_path / "script"
    script.write_text(capsys.readouterr().out)
    assert comparable(observed()) == comparable(before)
    run("sh", script)
    by_script = observed()
    run("sh", script, "--undo")
    assert comparable(observed()) == comparable(before)
    assert main(words) == 0
    assert differences(by_script, observed(), ("t0", "br0")) == ()


@pytest.mark.usefixtures("processes")
def test_a_kernel_without_taps_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tun, "TUN", str(tmp_path / "tun"))
    for words in (("add", "t0"), ("add", "--saved")):
        code, document = told(capsys, *words)
        assert (code, codes(document)) == (3, ["no-tun"])


def test_a_saved_tap_comes_back_and_joins_its_bridge_when_that_is_made(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with named_netns("tbsaved") as netns, netns.entered():
        run("ip", "link", "add", "br0", "address", "02:00:00:00:00:10", "type", "bridge")
        words = ("add", "t0", "--owner", "nobody", "--bridge", "br0", "--persist")
        assert told(capsys, *words)[1]["outcome"] == "done"
        assert told(capsys, *words)[1]["outcome"] == "nothing"
        assert told(capsys, "list")[1]["taps"][0]["persist"] is True
        whole = found("t0")
        run("ip", "link", "del", "t0")
        run("ip", "link", "del", "br0")
        assert told(capsys, "add", "--saved", "--dry-run")[1]["outcome"] == "planned"
        assert told(capsys, "add", "--saved")[1]["outcome"] == "done"
        assert found("t0").master is None
        run("ip", "link", "add", "br0", "address", "02:00:00:00:00:10", "type", "bridge")
        assert told(capsys, "add", "--saved")[1]["outcome"] == "done"
        assert told(capsys, "add", "--saved")[1]["outcome"] == "nothing"
        assert differences(State(links=(whole,)), State(links=(found("t0"),)), (IfName("t0"),)) == ()
        assert told(capsys, "del", "t0")[1]["outcome"] == "done"
        assert told(capsys, "add", "--saved")[1]["outcome"] == "nothing"
        assert json.loads((tmp_path / "state" / "taps").read_text())["taps"] == {}


def test_where_the_wish_cannot_be_written_down_there_is_no_tap(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "state" / "taps").mkdir(parents=True)
    with named_netns("tbsaved") as netns, netns.entered():
        before = observed()
        assert told(capsys, "add", "t0", "--persist")[0] == 1
        assert comparable(observed()) == comparable(before)
