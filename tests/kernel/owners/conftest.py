"""A host whose eth0 has a lease of a real DHCP server on its LAN, by a real dhclient; each in its own namespace."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kit.command import run
from kit.netns import Netns, new_netns

MAC = "02:00:00:00:01:02"
RENEWAL_S = 3
UDHCPC_SCRIPT = """\
#!/bin/sh
echo "$interface $1" >>{events}
case "$1" in
deconfig) ip -4 addr flush dev "$interface"; ip link set "$interface" up ;;
bound | renew)
    ip addr replace "$ip/$mask" dev "$interface"
    ip route replace default via 192.0.2.1 dev "$interface" ;;
esac
"""
"""As the scripts that come with udhcpc, but for /etc/resolv.conf."""


@dataclass
class Lan:
    """The LAN beside the host's namespace, in which the test's thread is. `folder` has the files of all programs."""

    netns: Netns
    folder: Path
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def serve(self) -> None:
        """Start the DHCP server, which renews after 3 seconds (option 58) and sends nothing that a script would write
        into /etc."""
        with self.netns.entered():
            self.started.append(
                subprocess.Popen(
                    [
                        *("dnsmasq", "--conf-file=/dev/null", "--keep-in-foreground", "--port=0", "--user=root"),
                        *("--interface=p0", "--bind-interfaces", "--dhcp-authoritative", "--no-ping", "--log-dhcp"),
                        f"--log-facility={self.folder}/server.log",
                        f"--dhcp-leasefile={self.folder}/server.leases",
                        f"--pid-file={self.folder}/server.pid",
                        "--dhcp-range=192.0.2.50,192.0.2.99,255.255.255.0,300",
                        "--dhcp-range=2001:db8::50,2001:db8::99,64,300",
                        f"--dhcp-option=58,{RENEWAL_S}",
                        "--dhcp-option=option:dns-server",
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
        self.wait_for(lambda: "DHCP" in self.log())

    def log(self) -> str:
        """What the server has said so far."""
        path = self.folder / "server.log"
        return path.read_text() if path.exists() else ""

    def log_since(self, mark: int) -> str:
        """What the server has said since its log was `mark` characters long."""
        return self.log()[mark:]

    def wait_for(self, true: Callable[[], object], limit_s: float = 20.0) -> None:
        """Wait until something is true. Raises AssertionError."""
        deadline = time.monotonic() + limit_s
        while not true():
            assert time.monotonic() < deadline, f"not within {limit_s} s; the server said:\n{self.log()[-3000:]}"
            time.sleep(0.02)

    def paths(self, link: str = "eth0", family: int = 4) -> list[str]:
        """The options of a dhclient with its files, named after the link as ifupdown does."""
        suffix = "6" if family == 6 else ""
        files = f"{self.folder}/dhclient{suffix}.{link}"
        return ["-pf", f"{files}.pid", "-lf", f"{files}.leases"]

    def udhcpc(self, *words: str) -> None:
        """Start udhcpc with a script of ours, which writes down what it is called for in the file `events`."""
        script = self.folder / "default.script"
        script.write_text(UDHCPC_SCRIPT.format(events=self.folder / "events"))
        script.chmod(0o755)
        run("busybox", "udhcpc", "-i", "eth0", "-s", script, *words)

    def events(self) -> list[str]:
        """What the script of udhcpc has been called for: link and event."""
        path = self.folder / "events"
        return path.read_text().splitlines() if path.exists() else []

    def dhclient(self, *words: str, **environment: str) -> None:
        """Start dhclient, which returns when it has an address (or at once with -nw)."""
        run("dhclient", *words, env=environment)


@pytest.fixture
def lan(tmp_path: Path) -> Iterator[Lan]:
    """A LAN with nothing on it but the host, whose eth0 is up and bare; this thread is the host."""
    with new_netns() as beyond, new_netns() as host, host.entered():
        run("ip", "link", "add", "eth0", "address", MAC, "type", "veth", "peer", "name", "p0", "netns", beyond.path)
        run("ip", "link", "set", "eth0", "up")
        with beyond.entered():
            run("ip", "link", "set", "p0", "up")
            run("ip", "addr", "add", "192.0.2.1/24", "dev", "p0")
            run("ip", "addr", "add", "2001:db8::1/64", "dev", "p0", "nodad")
        found = Lan(beyond, tmp_path)
        try:
            yield found
        finally:
            for one in found.started:
                one.terminate()
                one.wait(5)
            _end_everything_in(host)


@pytest.fixture
def served(lan: Lan) -> Lan:
    """The same with a DHCP server."""
    lan.serve()
    return lan


@pytest.fixture
def dhcpcd_files(tmp_path: Path) -> Iterator[None]:
    """Leases of dhcpcd's, and a resolv.conf for its hooks, that are the test's alone."""
    own = tmp_path / "resolv.conf"
    own.write_text("")
    run("mount", "-t", "tmpfs", "tmpfs", "/var/lib/dhcpcd")
    run("mount", "--bind", own, "/etc/resolv.conf")
    try:
        yield
    finally:
        run("umount", "/etc/resolv.conf", "/var/lib/dhcpcd")


def _end_everything_in(netns: Netns) -> None:
    """End the processes of the test's own namespace, but for the test's; also those that they start meanwhile."""
    inside = os.stat(netns.path).st_ino
    for _ in range(100):
        found = [pid for name in os.listdir("/proc") if name.isdecimal() and _is_inside(pid := int(name), inside)]
        if not found:
            return
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def _is_inside(pid: int, netns: int) -> bool:
    try:
        return pid != os.getpid() and os.stat(f"/proc/{pid}/ns/net").st_ino == netns
    except OSError:
        return False


@pytest.fixture
def start(lan: Lan) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a program called so, with those arguments, that does nothing until it is ended."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(name: str, *words: str, body: str = "", before: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
        path = lan.folder / name
        path.write_text(f"#!/usr/bin/python3 -IS\nimport signal, os\n{body}\nos.write(1, b'.')\nsignal.pause()\n")
        path.chmod(0o755)
        process = subprocess.Popen([*before, str(path), *words], stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.read(1) == b"."
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()
