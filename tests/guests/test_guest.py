"""The guests that the lab builds, booted on a bridge and a tap made by hand: nothing of `run` is needed for them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tapbridge.lab.build import Lab, lab
from tapbridge.lab.console import Console
from tapbridge.lab.guest import build_initramfs, find_busybox, guest_argv, load_kernel
from tapbridge.lab.spec import Spec
from tapbridge.model.errors import HostError
from tapbridge.model.values import contains

KERNELS = Path(__file__).parent.parent.parent / ".cache/guest-kernel"
MAC = "52:54:00:aa:bb:cc"
BRIDGE = """\
link add br0 type bridge stp_state 0 mcast_snooping 0
link set eth0 master br0
link set br0 up
tuntap add tap0 mode tap
link set tap0 master br0 up
"""


@pytest.fixture(scope="module")
def lan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab(Spec(name="guests", addresses="static", dad=False), tmp_path_factory.mktemp("run")) as made:
        made.run("h1", ["ip", "-batch", "-"], text=BRIDGE)
        yield made


def command(folder: Path, *, limit_s: int = 120) -> list[str]:
    initramfs = folder / "initramfs"
    kernel = load_kernel(KERNELS)
    initramfs.write_bytes(build_initramfs(kernel, find_busybox()))
    return guest_argv(kernel, initramfs, limit_s=limit_s)


@contextmanager
def booted(lan: Lab, argv: list[str]) -> Iterator[Console]:
    card = ["-netdev", "tap,id=n,ifname=tap0,script=no,downscript=no", "-device", f"virtio-net-pci,netdev=n,mac={MAC}"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with lan.popen("h1", [*argv, *card], **pipes) as process:
        try:
            yield Console(process)
        finally:
            process.kill()


def lease(lan: Lab) -> str | None:
    """The address that the LAN's DHCP server has given to the guest's card."""
    lines = lan.run("router", ["cat", "/var/lib/misc/dnsmasq.leases"]).stdout.splitlines()
    return next((line.split()[2] for line in lines if MAC in line.split()[1:2]), None)


def test_a_guest_of_debian_parts_is_on_the_lan_like_any_machine(lan: Lab, tmp_path: Path) -> None:
    with booted(lan, command(tmp_path)) as console:
        words = console.expect("lease", limit_s=90).split()
        assert words[1:3] == ["eth0", lease(lan)]
        assert words[4] == lan.record.spec.ip("router", 4)
        address = console.expect("address", limit_s=60).split()[2]
        assert contains(6, lan.record.spec.subnet6, address)
        for ip in (words[2], address):
            lan.run("peer", ["ping", "-n", "-c", "1", "-W", "5", ip])
        for place in ("peer", "beyond", "router"):
            for family in lan.record.spec.families:
                target = lan.record.spec.ip(place, family)
                console.order(f"ping {target}")
                assert console.expect("answer", "silence", limit_s=20) == f"answer {target}"
        console.order("ping 198.51.100.200")
        assert console.expect("answer", "silence", limit_s=20) == "silence 198.51.100.200"
        console.order("off")
        assert console.wait(limit_s=30) == 0


def test_a_guest_ends_when_its_time_is_over(lan: Lab, tmp_path: Path) -> None:
    with booted(lan, command(tmp_path, limit_s=5)) as console:
        console.expect("up", limit_s=60)
        with pytest.raises(HostError, match="ended before it told never"):
            console.expect("never", limit_s=60)
