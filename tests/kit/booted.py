"""A LAN with a DHCP server beyond a bridge br0, and real guests by `tapbridge run` on it."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from kit.command import run
from kit.netns import new_netns
from tapbridge.lab.guest import build_initramfs, find_busybox, guest_argv, load_kernel

_KERNEL = Path(__file__).parent.parent.parent / ".cache/guest-kernel"
LIMIT_S = 90


@dataclass(frozen=True)
class Lan:
    """A bridge br0 in the namespace of the test, and behind its uplink a DHCP server that says what it gives."""

    folder: Path
    server: subprocess.Popen[bytes]

    @property
    def env(self) -> dict[str, str]:
        """Where the program's own files are."""
        return {"TAPBRIDGE_RUN_DIR": str(self.folder / "run"), "TAPBRIDGE_STATE_DIR": str(self.folder / "state")}

    @contextmanager
    def guest(self, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        """A guest, by these words behind `run`; it is dead at the end."""
        env = {**os.environ, **self.env}
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


@contextmanager
def new_lan(folder: Path) -> Iterator[Lan]:
    """The LAN; until the end this thread is on the host."""
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
            served = ("--dhcp-range=192.0.2.100,192.0.2.120,1h", f"--dhcp-leasefile={folder / 'leases'}")
            server = subprocess.Popen(["dnsmasq", *options, *served], stderr=subprocess.PIPE)
        with server:
            try:
                read_until(server.stderr, "DHCP, IP range")
                yield Lan(folder, server)
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


def linux_argv(folder: Path) -> list[str]:
    """The command line of a Linux guest without a card. Raises Refused where the parts of one are missing."""
    kernel = load_kernel(_KERNEL)
    initramfs = folder / "initramfs"
    initramfs.write_bytes(build_initramfs(kernel, find_busybox()))
    return guest_argv(kernel, initramfs, limit_s=LIMIT_S)
