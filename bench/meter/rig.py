"""One host with one NIC, its peer on the LAN, and two namespaces for the control flow: on veth, fresh every time.

The peer is at the other end of the host's own cable, so that nothing but the host's NIC lies between the two.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

NIC, NIC_MAC, PEER_MAC = "eth0", "02:00:00:00:01:02", "02:00:00:00:01:01"
HOST_IPS = ("10.9.0.2", "fd09::ff:fe00:102")
PEER_IPS = ("10.9.0.1", "fd09::1")
CONTROL_IPS = ("10.8.0.1", "10.8.0.2")

_SCRATCH = Path("/run/bench")
LEASES, PID_FILE = _SCRATCH / "dhclient.leases", _SCRATCH / "dhclient.pid"
DHCLIENT = f"dhclient -1 -4 -pf {PID_FILE} -lf {LEASES}"

_CABLES = f"""
link add p0 netns lan address {PEER_MAC} type veth peer name {NIC} netns host address {NIC_MAC}
link add c0 netns control-a type veth peer name c0 netns control-b
"""
_LAN = """
link set lo up
link set p0 up
addr add 10.9.0.1/24 dev p0
addr add fd09::1/64 dev p0 nodad
addr add fe80::1/64 dev p0 nodad
"""
_STATIC_HOST = f"""
addr add 10.9.0.2/24 brd + dev {NIC}
addr add fd09::ff:fe00:102/64 dev {NIC} nodad
route add default via 10.9.0.1
route add default via fe80::1 dev {NIC}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where is measured: the words before a command in each namespace (host, lan, control-a, control-b), those before a
    shell on the host, and the addresses at both ends, IPv4 before IPv6."""

    words: Mapping[str, Sequence[str]]
    shell: Sequence[str]
    host_ips: Sequence[str]
    peer_ips: Sequence[str]

    def read(self, netns: str, path: str) -> str:
        """A file of /proc as that namespace has it. Raises RuntimeError."""
        return run_behind(self.words[netns], "cat", path)


class Rig:
    """The four namespaces, as a context manager; only inside the namespaces of apart.py."""

    def __init__(self, *, leased: bool) -> None:
        self.leased = leased
        self._dnsmasq: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        _SCRATCH.mkdir(exist_ok=True)
        for netns in ("host", "lan", "control-a", "control-b"):
            subprocess.run(["ip", "netns", "add", netns], check=True)
        batch(None, _CABLES)
        batch("lan", _LAN)
        batch("control-a", "link set c0 up\naddr add 10.8.0.1/24 dev c0")
        batch("control-b", "link set c0 up\naddr add 10.8.0.2/24 dev c0")
        if self.leased:
            self._serve_leases()
        # No duplicate address detection: the rig is there when its last command returns.
        run("host", "sysctl", "-qw", f"net.ipv6.conf.{NIC}.accept_dad=0")
        batch("host", f"link set lo up\nlink set {NIC} up")
        if self.leased:
            run("host", *DHCLIENT.split(), NIC)
            _await_address("host", HOST_IPS[1])
        else:
            batch("host", _STATIC_HOST)
        run("host", "sysctl", "-qw", f"net.ipv6.conf.{NIC}.accept_dad=1")
        run("control-a", "ping", "-qc1", "-W5", "10.8.0.2")
        for mine, theirs in zip(HOST_IPS, PEER_IPS, strict=True):
            run("host", "ping", "-qc1", "-W5", theirs)
            run("lan", "ping", "-qc1", "-W5", mine)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._dnsmasq:
            self._dnsmasq.terminate()
            self._dnsmasq.wait()
        for netns in ("host", "lan", "control-a", "control-b"):
            pids = subprocess.run(["ip", "netns", "pids", netns], capture_output=True, text=True, check=True)
            for pid in pids.stdout.split():
                subprocess.run(["kill", "-KILL", pid], check=False, stderr=subprocess.DEVNULL)
            subprocess.run(["ip", "netns", "del", netns], check=True)
        for left in (*_SCRATCH.iterdir(),):
            if left.is_file():
                left.unlink()

    def _serve_leases(self) -> None:
        """DHCP and router advertisements from the peer. No DNS: the host's resolv.conf is not what is measured."""
        options = ["--port=0", "--interface=p0", "--bind-interfaces", "--dhcp-authoritative", "--leasefile-ro"]
        options += [f"--dhcp-host={NIC_MAC},{HOST_IPS[0]}", "--dhcp-range=10.9.0.2,10.9.0.9,1h", "--dhcp-option=6"]
        options += ["--enable-ra", "--dhcp-range=fd09::,ra-only,64,1h", "--no-ping", "--conf-file=/dev/null"]
        words = [*netns_words("lan"), "dnsmasq", "--keep-in-foreground", "--log-facility=-", "--user=root", *options]
        self._dnsmasq = subprocess.Popen(words, stderr=(_SCRATCH / "dnsmasq.log").open("wb"))


def run_behind(words: Sequence[str], *command: str, timeout_s: float = 60) -> str:
    """Run a command behind these words and return what it printed. Raises RuntimeError with all it said if it fails."""
    line = [*words, *command]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=timeout_s)
    if done.returncode:
        raise RuntimeError(f"{' '.join(line)} failed with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def run(netns: str, *words: str) -> str:
    """Run a command in a namespace of the rig, likewise."""
    return run_behind(netns_words(netns), *words)


def netns_words(netns: str) -> list[str]:
    """The words before a command that is to run in a namespace of the rig."""
    return ["ip", "netns", "exec", netns]


def batch(netns: str | None, lines: str) -> None:
    """Give lines to one `ip -batch`. Raises RuntimeError if one fails."""
    words: Sequence[str] = ["ip", "-batch", "-"] if netns is None else ["ip", "-n", netns, "-batch", "-"]
    done = subprocess.run(words, input=lines.strip() + "\n", capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ip -batch failed in {netns}: {done.stderr}")


def _await_address(netns: str, ip: str, limit_s: float = 10.0) -> None:
    """Wait until the kernel tells that the address is there."""
    words = ["timeout", str(limit_s), *netns_words(netns), "ip", "-6", "monitor", "address"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as monitor:
        assert monitor.stdout
        if ip not in run(netns, "ip", "-6", "address", "show"):
            next((line for line in monitor.stdout if ip in line), None)
        monitor.terminate()
    if ip not in run(netns, "ip", "-6", "address", "show"):
        raise RuntimeError(f"no router advertisement gave the host {ip} within {limit_s:g} s")


SITE = Site(
    words={netns: netns_words(netns) for netns in ("host", "lan", "control-a", "control-b")},
    shell=netns_words("host"),
    host_ips=HOST_IPS,
    peer_ips=PEER_IPS,
)
"""The rig's own."""
