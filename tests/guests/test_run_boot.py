"""Real guests by `tapbridge run`: they take a lease from the LAN through the tap, with old cards and new ones."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from kit.booted import Lan, read_until
from kit.command import run
from tapbridge.lab.guest import ipxe_argv


@pytest.mark.parametrize(
    ("options", "card"),
    [
        (("--model", "e1000"), "e1000"),
        (("--model", "old"), "rtl8139"),
        (("--model", "ne2k"), "ne2k_pci"),
        (("--queues", "2"), "mq=on,vectors=6"),
    ],
)
def test_a_boot_rom_takes_a_lease_through_the_tap(lan: Lan, options: tuple[str, ...], card: str) -> None:
    with lan.guest("--name", "rom", "--net", "br0", *options, "--", *ipxe_argv()) as guest:
        ip, mac = lan.lease()
        argv = Path(f"/proc/{guest.pid}/cmdline").read_text().split("\0")
        assert ip.startswith("192.0.2.1")
        assert f"mac={mac}" in argv[-2]
        assert card in argv[-2]
        assert f"{mac} dev tbtap0" in run("bridge", "fdb", "show", "br", "br0").stdout
        guest.send_signal(signal.SIGTERM)
        assert guest.wait(20) == 0  # QEMU's own answer to SIGTERM
    assert "tbtap0" not in run("ip", "link").stdout


# A busy host disturbs how a kernel measures its clock, and microvm has no second one: it would wait for ever. With
# -icount, time is counted in instructions.
@pytest.mark.parametrize("machine", ["pc", "microvm -icount shift=auto"])
def test_linux_takes_a_lease_and_is_reached_with_large_frames(lan: Lan, linux: list[str], machine: str) -> None:
    for link in ("eth0", "br0"):
        run("ip", "link", "set", link, "mtu", "4000")
    with lan.guest("--name", "linux", "--net", "br0", "--", *linux, "-M", *machine.split()) as guest:
        ip, mac = lan.lease()
        read_until(guest.stdout, f"lease eth0 {ip}")
        # 192.0.2.1 never answers frames of this size: only the guest was told the MTU
        run("ping", "-c", "1", "-W", "5", "-M", "do", "-s", "3972", ip)
        argv = Path(f"/proc/{guest.pid}/cmdline").read_text()
        assert f"mac={mac}" in argv
        assert ("virtio-net-device" in argv) == machine.startswith("microvm")
        assert guest.stdin is not None
        guest.stdin.write(b"off\n")
        guest.stdin.flush()
        assert guest.wait(30) == 0


def test_two_guests_reach_one_another(lan: Lan, linux: list[str]) -> None:
    with lan.guest("--name", "one", "--net", "br0", "--", *linux) as one:
        first, _ = lan.lease()
        read_until(one.stdout, f"lease eth0 {first}")
        with lan.guest("--name", "two", "--net", "br0", "--model", "virtio", "--", *linux) as two:
            second, _ = lan.lease()
            read_until(two.stdout, f"lease eth0 {second}")
            assert one.stdin is not None
            one.stdin.write(f"ping {second}\n".encode())
            one.stdin.flush()
            read_until(one.stdout, f"answer {second}")
    assert first != second
