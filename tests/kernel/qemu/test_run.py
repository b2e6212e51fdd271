"""`run` and `args` as whole processes, with a script in QEMU's place that tells what it was given."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kit.command import run
from kit.netns import named_netns, new_netns
from tapbridge.qemu.argv import parse_command, parse_pairs

TAPBRIDGE = (sys.executable, "-m", "tapbridge")
UPLINK = "02:00:00:00:01:02"
STAND_IN = f"""#!{sys.executable}
import json, os, subprocess, sys
def shown(*words):
    return json.loads(subprocess.run(("ip", "-j", *words), capture_output=True, check=True).stdout or "[]")
told = {{
    "words": sys.argv[1:], "pid": os.getpid(), "links": shown("-d", "link"), "addresses": shown("addr"),
    "files": {{n: os.readlink(f) for n in os.listdir("/proc/self/fd") if os.path.islink(f := f"/proc/self/fd/{{n}}")}},
    "signals": [line for line in open("/proc/self/status") if line.startswith(("SigBlk", "SigIgn"))],
}}
print(json.dumps(told), flush=True)
if os.environ.get("STAY"):
    sys.stdin.read()
sys.exit(int(os.environ.get("EXIT", "0")))
"""


@dataclass(frozen=True)
class Host:
    """A host with a bridge br0 whose uplink is eth0; commands run in its namespace."""

    folder: Path
    qemu: str

    @property
    def env(self) -> dict[str, str]:
        return {"TAPBRIDGE_RUN_DIR": str(self.folder / "run"), "TAPBRIDGE_STATE_DIR": str(self.folder / "state")}

    def tapbridge(self, *words: str, exit_code: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
        done = run(*TAPBRIDGE, *words, check=False, env=self.env | env)
        assert done.returncode == exit_code, done.stdout + done.stderr
        return done

    def told(self, *words: str, exit_code: int = 0, **env: str) -> dict[str, Any]:
        """What the script in QEMU's place found."""
        found: dict[str, Any] = json.loads(self.tapbridge(*words, exit_code=exit_code, **env).stdout)
        return found

    @contextmanager
    def started(self, *words: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
        """A guest that stays until the end, or until it is killed."""
        with subprocess.Popen(
            [*TAPBRIDGE, *words],
            env={**os.environ, **self.env, "STAY": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as guest:
            assert guest.stdout is not None
            yield guest, json.loads(guest.stdout.readline())
            guest.communicate(timeout=30)  # its stdin ends, and so does it


def stand_in(folder: Path) -> str:
    """A script in QEMU's place, under QEMU's name."""
    qemu = folder / "qemu-system-x86_64"
    qemu.write_text(STAND_IN)
    qemu.chmod(0o755)
    return str(qemu)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    qemu = stand_in(tmp_path)
    with new_netns() as here, new_netns() as lan, here.entered():
        run("ip", "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
        run("ip", "link", "set", "br0", "alias", f"tapbridge uplink={UPLINK} nic=eth0")
        run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "lan0", "netns", lan.path)
        run("ip", "link", "set", "eth0", "address", UPLINK, "master", "br0", "up")
        run("ip", "link", "set", "br0", "up")
        with lan.entered():
            run("ip", "link", "set", "lan0", "up")
        yield Host(tmp_path, qemu)


def links() -> list[str]:
    return [link["ifname"] for link in json.loads(run("ip", "-j", "link").stdout)]


def pairs(words: Sequence[str], option: str) -> dict[str, str]:
    (value,) = parse_command(["qemu", *words]).values(option)
    return dict(parse_pairs(value, "model"))


def test_the_guest_has_a_tap_on_the_bridge_while_it_runs(host: Host) -> None:
    told = host.told("run", "--name", "web", "--", host.qemu, "-m", "64")
    netdev, card = pairs(told["words"], "netdev"), pairs(told["words"], "device")
    assert told["words"][:2] == ["-m", "64"]
    assert (netdev["model"], card["model"], card["netdev"]) == ("tap", "virtio-net-pci", netdev["id"])
    (tap,) = (link for link in told["links"] if link["ifname"].startswith("tbtap"))
    assert told["files"][netdev["fds"]] == "/dev/net/tun"
    assert (tap["master"], tap["mtu"], tap["ifalias"]) == ("br0", 1500, "tapbridge guest=web")
    assert tap["address"] == "fe" + card["mac"][2:]
    assert "LOWER_UP" in tap["flags"]
    assert "tbtap0" not in links()


# As udev does which has seen the tap while its address was random still.
LATE = """
import subprocess, sys
import tapbridge.cli.run as module
from tapbridge.__main__ import main
def late(*args, **more):
    subprocess.run(("ip", "link", "set", "tbtap0", "address", "0a:73:99:90:0e:67"), check=True)
module.print_result = late
main()
"""


def test_a_tap_that_udev_gives_an_address_of_its_own_has_the_right_one(host: Host) -> None:
    done = run(sys.executable, "-c", LATE, "run", "--", host.qemu, env=host.env)
    told = json.loads(done.stdout)
    (tap,) = (link for link in told["links"] if link["ifname"].startswith("tbtap"))
    assert tap["address"] == "fe" + pairs(told["words"], "device")["mac"][2:]


def test_the_host_takes_no_address_on_the_guests_wire(host: Host) -> None:
    told = host.told("run", "--", host.qemu)
    (tap,) = (link for link in told["addresses"] if link["ifname"].startswith("tbtap"))
    assert tap["addr_info"] == []


@pytest.mark.parametrize(("mtu", "of_tap"), [(9000, 9000), (576, 576), (65535, 65521)])
def test_a_bridge_keeps_its_mtu_and_the_guest_is_told(host: Host, mtu: int, of_tap: int) -> None:
    for link in ("eth0", "br0"):
        run("ip", "link", "set", link, "mtu", str(mtu))
    told = host.told("run", "--", host.qemu)
    mtus = {link["ifname"]: link["mtu"] for link in told["links"] if link["ifname"] != "lo"}
    assert mtus == {"br0": of_tap, "eth0": mtu, "tbtap0": of_tap}  # a tap of 1500 would pull the bridge down
    assert pairs(told["words"], "device")["host_mtu"] == str(of_tap)


def test_a_smaller_mtu_is_told_to_the_guest_alone(host: Host) -> None:
    told = host.told("run", "--mtu", "1400", "--", host.qemu)
    assert pairs(told["words"], "device")["host_mtu"] == "1400"
    assert {link["mtu"] for link in told["links"] if link["ifname"] != "lo"} == {1500}
    assert "mtu-too-large" in host.tapbridge("args", "--mtu", "1501", "--json", exit_code=3).stdout


def test_nothing_is_open_but_the_terminal_and_the_tap(host: Host) -> None:
    with open(host.folder / "mine", "w") as mine, open(host.folder / "meant", "w") as meant:
        done = subprocess.run(
            [*TAPBRIDGE, "run", "--queues", "2", "--", host.qemu, "-add-fd", f"fd={meant.fileno()},set=1"],
            env={**os.environ, **host.env},
            pass_fds=(mine.fileno(), meant.fileno()),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    told = json.loads(done.stdout)
    files = {path for number, path in told["files"].items() if int(number) > 2 and not path.startswith("/proc/")}
    assert files == {"/dev/net/tun", str(host.folder / "meant")}
    assert list(told["files"].values()).count("/dev/net/tun") == 2


def test_it_is_the_same_process_with_signals_as_they_were(host: Host) -> None:
    bare = json.loads(run(host.qemu).stdout)
    with host.started("run", "--", host.qemu) as (guest, told):
        assert told["pid"] == guest.pid
        assert told["signals"] == bare["signals"]
        assert "tbtap0" in links()
        guest.send_signal(signal.SIGTERM)
    assert guest.returncode == -signal.SIGTERM
    assert "tbtap0" not in links()


def test_the_exit_code_is_the_programs(host: Host) -> None:
    assert host.told("run", "--", host.qemu, EXIT="7", exit_code=7)  # told() compares the exit code


def test_a_program_that_does_not_start_leaves_nothing(host: Host) -> None:
    broken = host.folder / "qemu-system-i386"
    broken.write_bytes(b"\x7fELF, or not")
    broken.chmod(0o755)
    assert "could not be started: Exec format error" in host.tapbridge("run", "--", str(broken), exit_code=1).stderr
    assert "tbtap0" not in links()


def test_an_address_is_the_same_at_every_start_and_another_for_every_guest(host: Host) -> None:
    macs = [
        pairs(host.told("run", "--name", name, "--", host.qemu)["words"], "device")["mac"]
        for name in ("web", "web", "db")
    ]
    assert macs[0] == macs[1] != macs[2]
    printed = json.loads(host.tapbridge("args", "--name", "web", "--json").stdout)["args"]
    assert pairs(printed, "device")["mac"] == macs[0]


def test_a_new_network_card_does_not_change_the_guests(tmp_path: Path) -> None:
    qemu = stand_in(tmp_path)
    host = Host(tmp_path, qemu)
    with named_netns("run-seed") as named, named.entered():
        run("ip", "link", "add", "br0", "type", "bridge")
        run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "lan0")
        run("ip", "link", "set", "br0", "alias", f"tapbridge uplink={UPLINK} nic=eth0")
        run("ip", "link", "set", "eth0", "address", UPLINK, "master", "br0", "up")
        first = pairs(host.told("run", "--", qemu)["words"], "device")["mac"]
        run("ip", "link", "set", "eth0", "address", "02:00:00:00:09:09")
        run("ip", "link", "set", "br0", "alias", "tapbridge uplink=02:00:00:00:09:09 nic=eth0")
        assert pairs(host.told("run", "--", qemu)["words"], "device")["mac"] == first
        (tmp_path / "state/mac-seed").unlink()
        assert pairs(host.told("run", "--", qemu)["words"], "device")["mac"] != first


def test_a_user_without_rights_may_use_user_mode_alone(host: Host) -> None:
    dropped = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", *TAPBRIDGE, "run")
    done = run(*dropped, "--", host.qemu, check=False, env=host.env)
    assert (done.returncode, done.stdout) == (5, "")
    assert "sudo" in done.stderr
    told = json.loads(run(*dropped, "--net", "user", "--", host.qemu, env=host.env).stdout)
    assert pairs(told["words"], "netdev")["model"] == "user"
    assert "fds=3" in run(*dropped[:-1], "args", env=host.env).stdout


def test_a_guest_that_runs_is_not_started_twice(host: Host) -> None:
    with host.started("run", "--name", "web", "--", host.qemu) as (guest, told):
        mac = pairs(told["words"], "device")["mac"]
        twice = host.tapbridge("run", "--", host.qemu, "-name", "web", exit_code=3).stderr
        assert f"PID {guest.pid}" in twice
        clash = host.tapbridge("run", "--name", "db", "--mac", mac, "--", host.qemu, exit_code=3).stderr
        assert "guest 'web'" in clash
    host.told("run", "--name", "web", "--", host.qemu)


def test_an_address_of_somebody_on_the_lan_is_refused(host: Host) -> None:
    mac = "52:54:00:00:00:77"
    run("bridge", "fdb", "add", mac, "dev", "eth0", "master", "static")
    assert "behind eth0" in host.tapbridge("run", "--mac", mac, "--", host.qemu, exit_code=3).stderr
    run("bridge", "fdb", "del", mac, "dev", "eth0", "master")
    run("ip", "neigh", "add", "192.0.2.9", "lladdr", mac, "dev", "br0", "nud", "stale")
    host.told("run", "--mac", mac, "--", host.qemu)  # nobody answers: a ghost


def test_several_nics_each_have_their_own_options(host: Host) -> None:
    words = (
        "--net",
        "br0",
        "--model",
        "e1000",
        "--net",
        "user",
        "--net",
        "br0",
        "--queues",
        "2",
        "--mac",
        "52:54:00:0:1:2",
    )
    assert "is no Ethernet address" in host.tapbridge("run", *words, "--", host.qemu, exit_code=2).stderr
    told = host.told("run", *words[:-1], "52:54:00:00:01:02", "--", host.qemu)
    line = parse_command(["qemu", *told["words"]])
    cards = [dict(parse_pairs(card, "model")) for card in line.values("device")]
    assert [card["model"] for card in cards] == ["e1000", "virtio-net-pci", "virtio-net-pci"]
    assert [value.partition(",")[0] for value in line.values("netdev")] == ["tap", "user", "tap"]
    assert cards[2]["mac"] == "52:54:00:00:01:02"
    assert len({card["mac"] for card in cards}) == 3
    assert len(told["files"]) - 3 >= 3


def test_user_mode_makes_no_tap(host: Host) -> None:
    told = host.told("run", "--net", "user", "--", host.qemu)
    assert {link["ifname"] for link in told["links"]} == {"lo", "br0", "eth0"}
    assert pairs(told["words"], "netdev")["model"] == "user"


@pytest.mark.parametrize(
    ("words", "exit_code", "code"),
    [
        (("--net", "br1"), 3, "no-such-bridge"),
        (("--net", "eth0"), 3, "not-a-bridge"),
        (("--net", "passt"), 3, "not-built"),
        (("--net", "vde:/run/vde"), 3, "not-built"),
        (("--net", "a b"), 3, "invalid-name"),
        (("--mac", "52:54:00:12:34:56"), 3, "mac-unusable"),
        (("--mac", "01:00:5e:00:00:01"), 3, "mac-unusable"),
        (("--mac", UPLINK), 3, "mac-unusable"),
        (("--model", "e1000", "--queues", "2"), 3, "one-queue"),
        (("--net", "user", "--vhost", "on"), 3, "no-vhost"),
        (("--queues", "0"), 2, "usage"),
        (("--queues", "257"), 2, "usage"),
        (("--mtu", "67"), 2, "usage"),
        (("--vhost", "maybe"), 2, "usage"),
        (("--mac", "x"), 2, "usage"),
        (("--model", "a b"), 2, "usage"),
        (("--name", "a\tb"), 2, "usage"),
        (("--mac", "52:54:00:00:00:01", "--net", "br0", "--net", "user"), 2, "usage"),
        (("--tap", "tap0"), 3, "no-such-tap"),
        (("--tap", "eth0"), 3, "no-such-tap"),
        (("--tap", "tap0", "--fd", "3"), 2, "usage"),
        (("--fd", "3:4"), 2, "usage"),
        (("--net", "user", "--fd", "3"), 2, "usage"),
        (("--", "qemu-system-x86_64", "-nic", "user"), 3, "nic-configured"),
        (("--", "qemu-system-x86_64", "-m"), 2, "usage"),
        (("--", "qemu-system-x86_64", "-M", "none"), 3, "machine-without-nic"),
    ],
)
def test_what_cannot_be_is_refused_with_a_reason(host: Host, words: tuple[str, ...], exit_code: int, code: str) -> None:
    front = ("args", "--json")
    document = json.loads(host.tapbridge(*front, *words, exit_code=exit_code).stdout)
    assert [finding["code"] for finding in document["findings"]] == [code]
    assert links() == ["lo", "br0", "eth0"]


@pytest.mark.parametrize(
    ("words", "exit_code", "message"),
    [
        ((), 2, "behind --"),
        (("--",), 2, "behind --"),
        (("--json", "--", "true"), 2, "no document"),
        (("--", "qemu-system-none"), 3, "no command 'qemu-system-none'"),
        (("--", "/proc/version"), 3, "cannot be executed"),
        (("--", "true", "-nic", "user"), 3, "already configure a NIC"),
    ],
)
def test_run_refuses_before_it_makes_a_tap(host: Host, words: tuple[str, ...], exit_code: int, message: str) -> None:
    done = host.tapbridge("run", *words, exit_code=exit_code)
    assert message in done.stdout + done.stderr


def test_vhost_is_refused_where_the_kernel_has_none(host: Host) -> None:
    if os.path.exists("/dev/vhost-net"):
        told = host.told("run", "--vhost", "on", "--", host.qemu)
        assert "vhostfds" in pairs(told["words"], "netdev")
    else:
        assert "no vhost" in host.tapbridge("run", "--vhost", "on", "--", host.qemu, exit_code=3).stderr
        assert "tbtap0" not in links()


def test_the_default_network_is_the_one_with_an_uplink(host: Host) -> None:
    run("ip", "link", "add", "virbr0", "type", "bridge")
    told = host.told("run", "--", host.qemu)
    assert [link["master"] for link in told["links"] if link["ifname"] == "tbtap0"] == ["br0"]
    run("ip", "link", "set", "eth0", "nomaster")
    none = host.tapbridge("run", "--", host.qemu, exit_code=3).stderr
    assert "no bridge leads to the network" in none
    assert "virbr0" in none
    assert "tapbridge up" in none


def test_nics_of_qemus_own_stay_beside_ours_when_asked(host: Host) -> None:
    words = ("-netdev", "user,id=tapbridge0", "-device", "e1000,netdev=tapbridge0")
    told = host.told("run", "--keep-nics", "--", host.qemu, *words)
    given = [dict(parse_pairs(v, "type"))["id"] for v in parse_command(["qemu", *told["words"]]).values("netdev")]
    assert given == ["tapbridge0", "tapbridge0x"]


def test_args_prints_what_run_adds(host: Host) -> None:
    command = (host.qemu, "-M", "microvm", "-name", "web")
    told = host.told("run", "--queues", "2", "--", *command)
    added = told["words"][4:]
    files = pairs(added, "netdev")["fds"]
    printed = host.tapbridge("args", "--queues", "2", "--fd", files, "--", *command)
    assert printed.stdout.split() == added
    assert json.loads(host.tapbridge("args", "--queues", "2", "--format", "json", "--", *command).stdout) == [
        word.replace(f"fds={files}", "fds=3:4") for word in added
    ]


def test_args_names_a_tap_that_is_there(host: Host) -> None:
    run("ip", "tuntap", "add", "tap0", "mode", "tap", "vnet_hdr")
    assert "is no port of br0" in host.tapbridge("args", "--tap", "tap0", exit_code=3).stderr
    run("ip", "link", "set", "tap0", "master", "br0", "up")
    words = host.tapbridge("args", "--tap", "tap0").stdout.split()
    assert pairs(words, "netdev") | {"vhost": "?"} == {
        "model": "tap", "id": "tapbridge0", "ifname": "tap0", "script": "no", "downscript": "no", "vhost": "?",
    }  # fmt: skip
    assert "one pair of queues" in host.tapbridge("args", "--tap", "tap0", "--queues", "2", exit_code=3).stderr
    assert "args makes no tap" in host.tapbridge("args", "--tap", "tap0", "--rate", "10M", exit_code=2).stderr
    run("ip", "link", "del", "tap0")
