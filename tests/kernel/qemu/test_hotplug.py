"""`attach` and `detach` with a real QEMU that waits before its first instruction.

A guest whose system does not run lets no PCI card go, but a USB card needs nobody's consent.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kit.brokers import as_user
from kit.command import run
from kit.holders import QEMU, Processes, make_bridge, tapbridge
from kit.injection import Call, Where, calls_of, fail, kill
from kit.netns import in_netns

# Speaks QMP in QEMU's place, takes the open file, and says no more.
SILENT = """
import json, socket, sys
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen()
print("ready", flush=True)
peer, _ = server.accept()
peer.sendall(b'{"QMP": {"version": {}, "capabilities": []}}\\n')
kept = []
while True:
    more, files, _, _ = socket.recv_fds(peer, 65536, 8)
    kept += files
    if not more.strip():  # what an open file came with
        continue
    order = json.loads(more)
    if order["execute"] == "netdev_add":
        sys.stdin.read()
    answer = {"qom-list": [], "device-list-properties": []}.get(order.pop("execute"), {})
    peer.sendall(json.dumps({"return": answer, **order}).encode() + b"\\n")
"""
USB = ("-usb",)


@dataclass(frozen=True)
class Place:
    """A bridge br0, and guests that are called plugged."""

    processes: Processes
    folder: Path

    @property
    def path(self) -> Path:
        """The socket of the guest's monitor."""
        return self.folder / "web.qmp"

    def guest(self, *words: str) -> int:
        """Start a guest with a monitor; its PID."""
        qmp = f"unix:{self.path},server=on,wait=off"
        return self.processes.qemu("-name", "plugged", "-qmp", qmp, *words).pid

    def attached(self, *words: str) -> dict[str, Any]:
        """The document of an attach that succeeds."""
        document: dict[str, Any] = json.loads(tapbridge("attach", "plugged", "--net", "br0", "--json", *words).stdout)
        return document


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    for name in ("RUN", "STATE"):
        monkeypatch.setenv(f"TAPBRIDGE_{name}_DIR", str(tmp_path / name.lower()))
    with in_netns():
        make_bridge()
        processes = Processes()
        try:
            yield Place(processes, tmp_path)
        finally:
            processes.end()


def refused(*words: str, code: int = 3) -> dict[str, Any]:
    """The finding with which a command refuses."""
    done = run(sys.executable, "-m", "tapbridge", *words, "--json", check=False)
    assert done.returncode == code, done.stdout + done.stderr
    finding: dict[str, Any] = json.loads(done.stdout)["findings"][0]
    return finding


def taps() -> dict[str, dict[str, Any]]:
    """The taps by name, as iproute2 sees them."""
    links = json.loads(run("ip", "-d", "-j", "link").stdout)
    return {link["ifname"]: link for link in links if link.get("linkinfo", {}).get("info_kind") == "tun"}


def tun_files(pid: int) -> int:
    """How many open files of taps a process has."""
    folder = f"/proc/{pid}/fd"
    return sum(os.readlink(f"{folder}/{name}") == "/dev/net/tun" for name in os.listdir(folder))


def test_a_running_guest_gets_a_nic_and_gives_it_back(place: Place) -> None:
    pid = place.guest(*USB)
    done = place.attached("--model", "usb-net")
    nic = done["nic"]
    assert (done["outcome"], done["guest"]) == ("done", {"name": "plugged", "pid": pid})
    assert (nic["tap"], nic["bridge"], nic["model"]) == ("tbtap0", "br0", "usb-net")
    (tap,) = taps().values()
    assert (tap["master"], tap["ifalias"], tap["address"]) == ("br0", "tapbridge guest=plugged", "fe" + nic["mac"][2:])
    assert "LOWER_UP" in tap["flags"]  # somebody has it open, and this command has ended
    assert [step["command"].split('"')[3] for step in done["steps"][-3:]] == ["getfd", "netdev_add", "device_add"]
    assert "plugged" in tapbridge("ps").stdout
    assert json.loads(tapbridge("detach", "plugged", "tbtap0", "--json").stdout)["nic"] == nic
    assert (taps(), tun_files(pid)) == ({}, 0)
    again = json.loads(tapbridge("detach", "plugged", "tbtap0", "--json").stdout)
    assert again["outcome"] == "nothing"
    assert place.attached("--model", "usb-net", "--guard", "mac")["nic"] == nic  # the same address as before
    assert tapbridge("ps").stdout.split()[-1] == "mac"
    assert json.loads(tapbridge("detach", "plugged", "tbtap0", "--json").stdout)["outcome"] == "done"


def test_each_nic_has_an_address_of_its_own_and_is_known_by_it(place: Place) -> None:
    place.guest()
    nics = [place.attached()["nic"], place.attached("--queues", "2", "--model", "virtio")["nic"]]
    assert nics[0]["mac"] != nics[1]["mac"]
    assert taps()["tbtap1"]["linkinfo"]["info_data"]["multi_queue"]
    finding = refused("detach", "plugged")
    assert finding["code"] == "several-nics"
    assert all(nic["mac"] in finding["message"] for nic in nics)
    assert refused("attach", "plugged", "--net", "br0", "--mac", nics[0]["mac"])["code"] == "mac-taken"


def test_user_mode_needs_no_tap(place: Place) -> None:
    place.guest(*USB)
    done = json.loads(tapbridge("attach", "plugged", "--net", "user", "--model", "usb-net", "--json").stdout)
    assert done["nic"]["tap"] is None
    assert taps() == {}
    assert json.loads(tapbridge("detach", "plugged", done["nic"]["mac"], "--json").stdout)["outcome"] == "done"


def test_a_card_goes_to_a_free_pcie_port_and_without_one_nothing_is_touched(place: Place) -> None:
    ports = [word for n in (1, 2) for word in ("-device", f"pcie-root-port,id=rp{n},chassis={n}")]
    place.guest("-M", "q35", *ports, "-device", "virtio-rng-pci,bus=rp1")
    assert '"bus": "rp2"' in place.attached()["steps"][-1]["command"]
    assert refused("attach", "plugged", "--net", "br0")["code"] == "no-free-port"
    assert list(taps()) == ["tbtap0"]


def test_what_qemu_refuses_leaves_nothing(place: Place) -> None:
    pid = place.guest("-M", "q35")  # pcie.0 takes nothing while the guest runs
    finding = refused("attach", "plugged", "--net", "br0", "--queues", "2", code=1)
    assert "does not support hotplugging" in finding["message"]
    assert "pcie-root-port" in finding["fix"]
    assert (taps(), tun_files(pid)) == ({}, 0)


@pytest.mark.parametrize(
    ("machine", "words", "code"),
    [
        ("pc", ("--model", "nonsense"), "no-such-model"),
        ("pc", ("--model", "board"), "no-hot-plug"),
        ("microvm", (), "no-hot-plug"),
        ("pc", ("--net", "br7"), "no-such-bridge"),
        ("pc", ("--model", "virtio-net-pci,bootindex=first"), "usage"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(
    place: Place, machine: str, words: tuple[str, ...], code: str
) -> None:
    place.guest("-M", machine)
    net = () if "--net" in words else ("--net", "br0")
    assert refused("attach", "plugged", *net, *words, code=2 if code == "usage" else 3)["code"] == code
    assert taps() == {}


def test_one_nic_at_a_time(place: Place) -> None:
    assert refused("attach", "plugged", "--net", "br0", "--net", "br0", code=2)["code"] == "usage"
    assert taps() == {}


def test_a_nic_that_is_built_in_stays(place: Place) -> None:
    place.guest("-M", "q35", "-netdev", "user,id=n0", "-device", "virtio-net-pci,netdev=n0,id=first")
    assert refused("detach", "plugged", "first")["code"] == "no-hot-plug"


def test_a_guest_is_found_by_its_name_or_its_pid_and_not_guessed(place: Place) -> None:
    assert refused("attach", "plugged", "--net", "br0")["code"] == "no-such-guest"
    place.processes.qemu("-name", "plugged")
    finding = refused("attach", "plugged", "--net", "br0")
    assert (finding["code"], "-qmp unix:" in finding["fix"]) == ("no-monitor", True)
    pid = place.guest(*USB)
    assert refused("attach", "plugged", "--net", "br0")["code"] == "several-guests"
    assert tapbridge("attach", str(pid), "--net", "br0").returncode == 0


def test_a_name_that_a_user_has_given_is_not_taken_for_root_s_guest(place: Place) -> None:
    home = Path(tempfile.mkdtemp(dir="/run"))
    os.chown(home, 1234, 1234)
    monitor = f"unix:{home / 'q'},server=on,wait=off"
    his = place.processes.start(*as_user(1234), *QEMU, "-name", "plugged", "-qmp", monitor, until='{"QMP"')
    finding = refused("attach", "plugged", "--net", "br0")
    assert (finding["code"], str(his.pid) in finding["fix"]) == ("guest-of-another", True)
    ours = place.guest()
    assert place.attached()["guest"]["pid"] == ours
    done = json.loads(tapbridge("attach", str(his.pid), "--net", "br0", "--json").stdout)
    assert done["guest"] == {"name": "plugged", "pid": his.pid}
    place.processes.end()
    shutil.rmtree(home)


def test_a_relative_socket_is_where_the_guest_is(place: Place) -> None:
    folder = place.folder / ("long" * 30)
    folder.mkdir()
    place.processes.qemu(
        *("-name", "plugged", "-chardev", "socket,id=c,path=q,server=on,wait=off", "-mon", "chardev=c,mode=control"),
        cwd=folder,
    )
    assert place.attached()["outcome"] == "done"


def test_a_monitor_that_serves_somebody_else_is_busy(place: Place) -> None:
    place.guest()
    with socket.socket(socket.AF_UNIX) as other:
        other.connect(str(place.path))
        assert other.recv(4096)
        assert refused("attach", "plugged", "--net", "br0")["code"] == "monitor-busy"
    assert place.attached()["outcome"] == "done"


def test_a_tap_is_handed_to_nobody_but_the_guest(place: Place) -> None:
    place.guest()
    place.path.unlink()
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.bind(str(place.path))
        stranger.listen()
        assert refused("attach", "plugged", "--net", "br0")["code"] == "not-its-monitor"
    place.path.unlink()
    assert refused("attach", "plugged", "--net", "br0")["code"] == "no-monitor"
    assert taps() == {}


def test_who_may_not_use_the_monitor_is_told_so(place: Place) -> None:
    place.guest()
    place.path.chmod(0o600)
    for folder in (place.folder, *place.folder.parents):
        if folder.stat().st_uid == os.getuid() and not folder.stat().st_mode & 1:
            folder.chmod(0o755)
    words = (sys.executable, "-m", "tapbridge", "attach", "plugged", "--net", "br0", "--json")
    done = run(*as_user(1234), *words, check=False)
    assert done.returncode == 5, done.stdout + done.stderr
    assert json.loads(done.stdout)["findings"][0]["code"] == "not-permitted"


def test_a_guest_that_is_stopped_gets_nothing(place: Place) -> None:
    pid = place.guest()
    os.kill(pid, signal.SIGSTOP)
    assert refused("attach", "plugged", "--net", "br0")["code"] == "monitor-busy"
    os.kill(pid, signal.SIGCONT)
    assert (taps(), tun_files(pid)) == ({}, 0)


def test_the_tap_is_taken_from_a_guest_that_falls_silent(place: Place) -> None:
    program = place.folder / "qemu-system-x86_64"
    shutil.copy(os.path.realpath(sys.executable), program)
    place.processes.start(
        *(str(program), "-c", SILENT, str(place.path)),
        *("-name", "plugged", "-qmp", f"unix:{place.path},server=on,wait=off"),
        until="ready",
    )
    finding = refused("attach", "plugged", "--net", "br0", code=1)
    assert "has not answered within 10 s (netdev_add)" in finding["message"]
    assert taps() == {}


def test_a_nic_whose_tap_was_deleted_bars_no_other_of_its_name(place: Place) -> None:
    place.guest(*USB)
    first = place.attached("--model", "usb-net")["nic"]
    run("ip", "link", "del", "tbtap0")
    second = place.attached()["nic"]
    assert (first["tap"], second["tap"], second["id"]) == ("tbtap0", "tbtap0", "tbtap0x-nic")
    assert json.loads(tapbridge("detach", "plugged", first["id"], "--json").stdout)["outcome"] == "done"
    assert list(taps()) == ["tbtap0"]


def test_what_was_left_under_the_tap_s_name_is_taken_away_first(place: Place) -> None:
    place.guest()
    orders = place.processes.started[-1].stdin
    assert orders is not None
    orders.write('{"execute": "qmp_capabilities"}')
    orders.write('{"execute": "netdev_add", "arguments": {"type": "user", "id": "tbtap0"}}')
    orders.flush()
    assert place.attached()["nic"]["id"] == "tbtap0-nic"


def where(place: Place) -> Where:
    """Where an attach runs: here."""
    return Where(environment=dict(os.environ), folder=place.folder, there=str(place.folder))


def points(place: Place, words: list[str]) -> list[Call]:
    """The calls by which an attach changes something: from the making of its tap on."""
    calls = calls_of(words, where(place))
    first = next(number for number, call in enumerate(calls) if "TUNSETIFF" in call.text)
    found = [call for call in calls[first:] if call.kind in ("ioctl", "sendmsg", "sendto")]
    return [call for call in found if call.role != "asks"]


def test_an_attach_that_is_killed_anywhere_is_taken_back_by_the_next(place: Place) -> None:
    pid = place.guest(*USB)
    words = [sys.executable, "-m", "tapbridge", "attach", "plugged", "--net", "br0", "--model", "usb-net"]
    found = points(place, words)
    assert len(found) > 6
    tapbridge("detach", "plugged")
    recovered = missed = 0
    for call in found:
        ended = kill(call, words, where(place), alone=True)
        assert ended.reached or call.kind == "ioctl", str(call)
        missed += not ended.reached
        done = json.loads(tapbridge("detach", "plugged", "--json").stdout)
        recovered += [finding["code"] for finding in done["findings"]].count("recovered")
        assert (taps(), tun_files(pid)) == ({}, 0), str(call)
    assert recovered
    assert missed < len(found) // 4  # one ioctl for each tap of anybody's on this machine


def test_an_attach_whose_calls_fail_leaves_nothing(place: Place) -> None:
    pid = place.guest(*USB)
    words = [sys.executable, "-m", "tapbridge", "attach", "plugged", "--net", "br0", "--model", "usb-net"]
    found = points(place, words)
    tapbridge("detach", "plugged")
    codes, missed = set(), 0
    for call in found:
        ended = fail(call, "error=EIO", words, where(place), alone=True)
        codes.add(ended.code)
        assert ended.reached or call.kind == "ioctl", str(call)
        missed += not ended.reached
        assert ended.code in (0, 1, 5), f"{call}: {ended.output}"
        if ended.code == 0:  # a call that nothing depends on
            tapbridge("detach", "plugged")
        assert (taps(), tun_files(pid)) == ({}, 0), f"{call}: {ended.output}"
    assert 1 in codes
    assert missed < len(found) // 4
