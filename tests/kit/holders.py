"""Real processes that hold taps, and what is found of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pytest

from kit.command import run
from tapbridge.guests.listen import Ears
from tapbridge.guests.survey import Survey, survey
from tapbridge.linux.host import LinuxHost
from tapbridge.model.guest import Guest, GuestNic

NOW = 1_700_000_000.0
OF_OTHERS = ("other-netns", "leases-hidden")
QEMU = (
    *("qemu-system-x86_64", "-accel", "tcg", "-M", "pc", "-m", "16", "-nodefaults"),
    *("-display", "none", "-S", "-qmp", "stdio"),
)
NOBODY = ("setpriv", "--reuid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all")

# Holds the taps that it is told, says "ready", then obeys: `TAP HEX` writes a frame, `TAP` reads one, or nothing.
HOLDER = """
import fcntl, os, struct, sys
taps = {}
for word in sys.argv[1:]:
    name = word.rstrip(":")
    flags = 0x1002 if name == word else 0x1102  # IFF_TAP, IFF_NO_PI, and for one queue of several IFF_MULTI_QUEUE
    fd = taps[name] = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", os.fsencode(name), flags))
print("ready", flush=True)
for line in sys.stdin:
    name, _, frame = line.strip().partition(" ")
    try:
        if frame:
            os.write(taps[name], bytes.fromhex(frame))
        print("written" if frame else os.read(taps[name], 65536).hex(), flush=True)
    except BlockingIOError:
        print(flush=True)
"""


@dataclass
class Processes:
    """What a test started; all of it is dead at the test's end."""

    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *words: str, until: str = "", **more: Any) -> subprocess.Popen[str]:
        """Start a process, and wait until it has said a line with `until` in it."""
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        process = subprocess.Popen(words, text=True, errors="surrogateescape", **{**pipes, **more})
        self.started.append(process)
        lines = _pipes(process)[1]
        said = [line := lines.readline()]
        while line and until not in line:
            said.append(line := lines.readline())
        assert line, f"{words[0]} ended: {''.join(said)}"
        return process

    def hold(self, *taps: str) -> subprocess.Popen[str]:
        """A process of no known hypervisor that holds taps; `tap0:` is one queue of a tap of several."""
        return self.start(sys.executable, "-c", HOLDER, *taps, until="ready")

    def qemu(self, *words: str, **more: Any) -> subprocess.Popen[str]:
        """A QEMU that waits before its first instruction."""
        return self.start(*QEMU, *words, until='{"QMP"', **more)

    def end(self) -> None:
        """Kill what still lives, the youngest first."""
        for process in reversed(self.started):
            process.kill()
        for process in self.started:
            process.communicate()


def write(process: subprocess.Popen[str], tap: str, *frames: bytes) -> None:
    """Let a holder say something on its tap, and wait until it has."""
    stdin, stdout = _pipes(process)
    for frame in frames:
        stdin.write(f"{tap} {frame.hex()}\n")
        stdin.flush()
        assert stdout.readline() == "written\n"


def read(process: subprocess.Popen[str], tap: str) -> list[bytes]:
    """Let a holder take what has come for it on its tap."""
    stdin, stdout = _pipes(process)
    frames: list[bytes] = []
    while len(frames) < 1000:
        stdin.write(f"{tap}\n")
        stdin.flush()
        line = stdout.readline().strip()
        if not line:
            break
        frames.append(bytes.fromhex(line))
    return frames


def _pipes(process: subprocess.Popen[str]) -> tuple[IO[str], IO[str]]:
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout


def dhcp_server(processes: Processes, leases: Path | None) -> None:
    """A dnsmasq on br0 that gives out 192.0.2.50 to 99 for an hour, and writes its leases down or does not."""
    processes.start(
        *("dnsmasq", "--conf-file=/dev/null", "-d", "--port=0", "--user=root", "--interface=br0", "--bind-interfaces"),
        *("--dhcp-authoritative", "--dhcp-range=192.0.2.50,192.0.2.99,255.255.255.0,1h"),
        "--leasefile-ro" if leases is None else f"--dhcp-leasefile={leases}",
        until="bound exclusively",
    )


def make_bridge(name: str = "br0") -> None:
    """A bridge that is up and says nothing by itself."""
    run("ip", "link", "add", name, "address", "02:00:00:00:00:10", "type", "bridge", "mcast_snooping", "0")
    run("ip", "link", "set", name, "up")


def attach(*taps: str, bridge: str = "br0") -> None:
    """Make taps ports of the bridge, up."""
    for tap in taps:
        run("ip", "link", "set", tap, "master", bridge, "up")


def look(listen_s: float = 0) -> Survey:
    """What is known of the guests of this thread's network namespace."""
    with LinuxHost() as host, Ears() as ears:
        if listen_s:
            ears.follow([nic for guest in survey(host.observe(), now=NOW).guests for nic in guest.nics])
            ears.hear(listen_s)
        return survey(host.observe(), now=NOW, heard=ears.sightings(), deaf=ears.deaf)


def by_link(found: Survey | Sequence[Guest]) -> dict[str, tuple[Guest, GuestNic]]:
    """Guest and NIC of each tap."""
    guests = found.guests if isinstance(found, Survey) else found
    return {nic.link: (guest, nic) for guest in guests for nic in guest.nics}


def said(found: Survey) -> list[tuple[str, str]]:
    """Code and subject of the findings, but those that speak of others' processes on the same machine."""
    return [(item.code, item.subject) for item in found.findings if item.code not in OF_OTHERS]


def tapbridge(*words: str, check: bool = True, prefix: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """The program as a process of its own."""
    return run(*prefix, sys.executable, "-m", "tapbridge", *words, check=check)


def listed(*words: str, prefix: Sequence[str] = ()) -> dict[str, Any]:
    """`tapbridge ps --json`, less the findings that speak of others' processes."""
    document: dict[str, Any] = json.loads(tapbridge("ps", "--json", *words, prefix=prefix).stdout)
    document["findings"] = [item for item in document["findings"] if item["code"] not in OF_OTHERS]
    return document


def unprivileged() -> tuple[str, ...]:
    """What to put before a command so that a user without any right runs it."""
    if run(*NOBODY, sys.executable, "-c", "import tapbridge", check=False).returncode != 0:
        pytest.skip("no other user here, or one who may not read the program")
    return NOBODY
