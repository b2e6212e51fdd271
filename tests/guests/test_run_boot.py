"""Real guests by `tapbridge run`: they take a lease from the LAN through the tap, with old cards and new ones."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest

from kit.command import run
from kit.netns import new_netns
from tapbridge.lab.guest import build_initramfs, find_busybox, guest_argv, ipxe_argv, load_kernel
from tapbridge.model.errors import Refused

KERNEL = Path(__file__).parent.parent.parent / ".cache/guest-kernel"
LIMIT_S = 90


@dataclass(frozen=True)
class Lan:
    """A bridge br0 in the namespace of the test, and behind its uplink a DHCP server that says what it gives."""

    folder: Path
    server: subprocess.Popen[bytes]

    @contextmanager
    def guest(self, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        env = {
            **os.environ,
            "TAPBRIDGE_RUN_DIR": str(self.folder / "run"),
            "TAPBRIDGE_STATE_DIR": str(self.folder / "state"),
        }
        with subprocess.Popen(
            [sys.executable, "-m", "tapbridge", "run", *words], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as guest:
            try:
                yield guest
            finally:
                guest.kill()

    def lease(self) -> tuple[str, str]:
        """The next lease that the server gives: address and MAC."""
        line = read_until(self.server.stderr, "DHCPACK(")
        ip, mac = line.partition(") ")[2].split()[:2]
        return ip, mac


@pytest.fixture
def lan(tmp_path: Path) -> Iterator[Lan]:
    with new_netns() as here, new_netns() as there, here.entered():
        run("ip", "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
        run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "lan0", "netns", there.path)
        run("ip", "link", "set", "eth0", "master", "br0", "up")
        run("ip", "link", "set", "br0", "up")
        run("ip", "addr", "add", "192.0.2.2/24", "dev", "br0")
        with there.entered():
            run("ip", "link", "set", "lan0", "up")
            run("ip", "addr", "add", "192.0.2.1/24", "dev", "lan0")
            options = ("--no-daemon", "--conf-file=/dev/null", "--port=0", "--interface=lan0", "--bind-interfaces")
            served = ("--dhcp-range=192.0.2.100,192.0.2.120,1h", f"--dhcp-leasefile={tmp_path / 'leases'}")
            server = subprocess.Popen(["dnsmasq", *options, *served], stderr=subprocess.PIPE)
        with server:
            try:
                read_until(server.stderr, "DHCP, IP range")
                yield Lan(tmp_path, server)
            finally:
                server.terminate()


def read_until(stream: IO[bytes] | None, wanted: str) -> str:
    """The next line of a process's output with this in it; within the limit, or the test has failed."""
    assert stream is not None
    os.set_blocking(stream.fileno(), False)
    deadline, seen, rest = time.monotonic() + LIMIT_S, "", ""
    while (left := deadline - time.monotonic()) > 0 and select.select([stream], [], [], left)[0]:
        part = os.read(stream.fileno(), 4096)
        if not part:
            break
        seen += part.decode(errors="replace")
        *lines, rest = (rest + part.decode(errors="replace")).split("\n")
        for line in lines:
            if wanted in line:
                return line
    raise AssertionError(f"{wanted!r} was not said: {seen[-2000:]}")


@pytest.fixture(scope="session")
def linux(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command line of a Linux guest without a card."""
    try:
        kernel = load_kernel(KERNEL)
        initramfs = tmp_path_factory.mktemp("guest") / "initramfs"
        initramfs.write_bytes(build_initramfs(kernel, find_busybox()))
    except Refused as refused:
        pytest.skip(f"{refused.message}: {refused.hint}")
    return guest_argv(kernel, initramfs, limit_s=LIMIT_S)


@pytest.mark.parametrize(
    ("options", "card"),
    [(("--model", "e1000"), "e1000"), (("--queues", "2"), "mq=on,vectors=6")],
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
