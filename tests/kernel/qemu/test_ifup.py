"""The scripts of `install-ifup`, run by a real QEMU, and by each shell at hand."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kit.command import run
from kit.holders import QEMU, Processes
from kit.netns import in_netns, new_netns

MARK = "tapbridge uplink=02:00:00:00:01:02 nic=eth0"
SHELLS = [shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)]

# /sys shows the network of whoever mounted it.
WITH_SYS = (
    *("unshare", "--mount", "--propagation", "private"),
    *("sh", "-c", 'mount -t sysfs sysfs /sys && exec "$@"', "sh"),
)


@dataclass(frozen=True)
class Place:
    """A bridge br0 of ours with an MTU of 4000, and the scripts."""

    processes: Processes
    folder: Path

    def script(self, name: str, *words: str, shell: str = "dash", code: int = 0) -> str:
        """Run a script; what it said."""
        shells = ("busybox", "sh") if shell == "busybox" else (shell,)
        done = run(*WITH_SYS, *shells, self.folder / f"etc/qemu-{name}", *words, check=False)
        assert done.returncode == code, done.stderr
        return done.stderr


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    run(sys.executable, "-m", "tapbridge", "install-ifup", "--root", tmp_path)
    with in_netns(), new_netns() as lan:
        run("ip", "link", "add", "br0", "mtu", "4000", "type", "bridge", "mcast_snooping", "0")
        run("ip", "link", "add", "eth0", "mtu", "4000", "type", "veth", "peer", "name", "lan0", "netns", lan.path)
        run("ip", "link", "set", "br0", "alias", MARK)
        run("ip", "link", "set", "eth0", "address", "02:00:00:00:01:02", "master", "br0", "up")
        run("ip", "link", "set", "br0", "up")
        processes = Processes()
        try:
            yield Place(processes, tmp_path)
        finally:
            processes.end()


def link(name: str) -> dict[str, Any]:
    """A link as iproute2 sees it; {} if there is none."""
    found: list[dict[str, Any]] = json.loads(run("ip", "-d", "-j", "link").stdout)
    return next((each for each in found if each["ifname"] == name), {})


def test_qemu_s_tap_is_a_port_while_the_guest_runs(place: Place) -> None:
    etc = place.folder / "etc"
    netdev = f"tap,id=n0,ifname=tap7,script={etc / 'qemu-ifup'},downscript={etc / 'qemu-ifdown'}"
    guest = place.processes.start(*WITH_SYS, *QEMU, "-netdev", netdev, "-device", "e1000,netdev=n0", until='{"QMP"')
    tap = link("tap7")
    assert (tap["master"], tap["mtu"], tap["address"][:3]) == ("br0", 4000, "fe:")
    assert "LOWER_UP" in tap["flags"]
    assert tap["inet6_addr_gen_mode"] == "none"
    assert link("br0")["mtu"] == 4000
    assert guest.stdin is not None
    guest.stdin.write('{"execute": "qmp_capabilities"} {"execute": "quit"}\n')
    guest.stdin.flush()
    assert guest.wait(20) == 0
    assert link("tap7") == {}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_tap_that_outlives_its_guest_comes_and_goes(place: Place, shell: str) -> None:
    run("ip", "tuntap", "add", "tap7", "mode", "tap")
    place.script("ifup", "tap7", shell=shell)
    place.script("ifup", "tap7", shell=shell)
    assert (link("tap7")["master"], link("br0")["mtu"], "UP" in link("tap7")["flags"]) == ("br0", 4000, True)
    place.script("ifdown", "tap7", shell=shell)
    assert ("master" in link("tap7"), "UP" in link("tap7")["flags"], "ifalias" in link("tap7")) == (False,) * 3
    place.script("ifdown", "tap8", shell=shell)


def test_a_tap_that_has_its_place_keeps_it(place: Place) -> None:
    run("ip", "link", "add", "br1", "type", "bridge")
    run("ip", "tuntap", "add", "tap7", "mode", "tap")
    run("ip", "link", "set", "tap7", "address", "fe:00:00:00:00:07", "master", "br1")
    run("ip", "link", "add", "br2", "type", "bridge")
    run(sys.executable, "-m", "tapbridge", "tap", "add", "tap8", "--bridge", "br2")
    for tap, bridge in (("tap7", "br1"), ("tap8", "br2")):
        place.script("ifup", tap)
        place.script("ifdown", tap)
        assert (link(tap)["master"], "UP" in link(tap)["flags"]) == (bridge, True)


def test_where_the_bridge_is_not_clear_qemu_does_not_start(place: Place) -> None:
    assert "there is no tap 'tap7'" in place.script("ifup", "tap7", code=1)
    run("ip", "tuntap", "add", "tap7", "mode", "tap")
    run("ip", "link", "add", "br1", "type", "bridge")
    run("ip", "link", "set", "br1", "alias", MARK)
    assert "several bridges lead to the network (br0 br1)" in place.script("ifup", "tap7", code=1)
    for bridge in ("br0", "br1"):
        run("ip", "link", "set", bridge, "alias", "somebody's")
    assert "no bridge leads to the network" in place.script("ifup", "tap7", code=1)
    netdev = f"tap,id=n0,ifname=tap9,script={place.folder / 'etc/qemu-ifup'}"
    assert run(*WITH_SYS, *QEMU, "-netdev", netdev, check=False).returncode == 1
    assert "master" not in link("tap7")
