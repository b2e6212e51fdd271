"""A scene in its surroundings: a host, a neighbour on its LAN, the gateway, and a network behind the gateway.

    host eth0 ---- p0 [lan0, the gateway] q0 ---- eth0 peer
                         r0 ---- eth0 behind

Four anonymous namespaces; the test's thread is the host. All programs keep their files in one folder. A manager's host
is a container with systemd instead, of which the thread sees the network alone.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from kit.command import run
from kit.container import PACKAGES, Container, booted, new_place
from kit.daemons import DAEMONS, Daemon
from kit.injection import Where
from kit.lan import batch
from kit.netns import Netns, new_netns
from kit.scenes import LINK_LOCAL, MAC, Scene

TAPBRIDGE = (sys.executable, "-m", "tapbridge")
_TUNSETIFF, _TAP_WITHOUT_HEADER = 0x400454CA, 0x1002
_SO_NETNS_COOKIE = 71
_PATIENCE_S = 20.0
_DHCPCD, _RUNNING = Path("/var/lib/dhcpcd"), Path("/run/dhcpcd")
_LAN = """
link add lan0 address 02:00:00:00:01:01 type bridge mcast_snooping 0
link set q0 master lan0
link set q0 up
link set lan0 up
addr add 192.0.2.1/24 dev lan0
addr add 2001:db8::1/64 dev lan0 nodad
link set r0 up
addr add 198.18.0.1/24 dev r0
addr add 2001:db8:b::1/64 dev r0 nodad
"""
_PEER = "link set eth0 up\naddr add 192.0.2.9/24 dev eth0\naddr add 2001:db8::9/64 dev eth0 nodad\n"
_BEHIND = """
link set eth0 up
addr add 198.18.0.2/24 dev eth0
addr add 2001:db8:b::2/64 dev eth0 nodad
route add default via 198.18.0.1
-6 route add default via 2001:db8:b::1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A scene that stands. `folder` has the files of the program's and of the DHCP client's, unless it is `within` a
    container."""

    scene: Scene
    host: Netns
    lan: Netns
    peer: Netns
    behind: Netns
    folder: Path
    within: Container | None = None

    @property
    def daemon(self) -> Daemon | None:
        """The manager that holds the NIC."""
        return DAEMONS.get(self.scene.owner)

    @property
    def program(self) -> tuple[str, ...]:
        """The program, where it runs."""
        return ("python3", "-I", *TAPBRIDGE[1:]) if self.within else TAPBRIDGE

    @property
    def where(self) -> Where:
        """Where the program runs: its folders, and where the stand-in for QEMU is, are in its environment."""
        if self.within is not None:
            return Where(environment={}, folder=self.within.path("/run"), there="/run", before=self.within.words())
        environment = {
            "TAPBRIDGE_RUN_DIR": str(self.folder / "run"),
            "TAPBRIDGE_STATE_DIR": str(self.folder / "state"),
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
        }
        return Where(environment=environment, folder=self.folder, there=str(self.folder))

    @property
    def folders(self) -> dict[str, Path]:
        """Where there are files that a change may touch."""
        if self.within is not None and self.daemon is not None:
            names = ("run/tapbridge", "var/lib/tapbridge", "run/systemd/transient", *self.daemon.folders)
            return {name: self.within.path(f"/{name}") for name in names}
        found = {name: self.folder / name for name in ("run", "state", "leases")}
        if self.scene.owner == "dhcpcd":
            found |= {"dhcpcd": _RUNNING, "lib": _DHCPCD}
        return found

    @property
    def served(self) -> str:
        """What the DHCP server has said."""
        return (self.folder / "server.log").read_text()

    @property
    def cookie(self) -> int:
        """The number of the host's namespace (SO_NETNS_COOKIE), which is in the names of the program's folders."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            cookie: int = struct.unpack("=Q", any_socket.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8))[0]
        return cookie

    def tapbridge(self, *words: str) -> subprocess.CompletedProcess[str]:
        """The program, as its users start it."""
        where = self.where
        return run(*where.before, *self.program, *words, check=False, env=where.environment, timeout_s=60)


@contextmanager
def standing(scene: Scene, folder: Path) -> Iterator[Stage]:
    """Build a scene; take it down."""
    with ExitStack() as stack:
        lan, peer, behind = (stack.enter_context(new_netns()) for _ in range(3))
        for name in ("run", "state", "leases", "bin"):
            (folder / name).mkdir(parents=True)
        (folder / "bin/qemu-system-x86_64").symlink_to("/bin/true")
        _wire(lan, peer, behind)
        if scene.leased or scene.advertised:
            stack.callback(_end, _serve(scene, lan, folder))
        if scene.owner in DAEMONS:
            within = stack.enter_context(booted(lan, stack.enter_context(new_place())))
            within.run("python3", "-m", "compileall", "-q", f"/{PACKAGES}/tapbridge")  # or its first run writes that
            assert within.nic is not None
            stage = Stage(scene=scene, host=within.nic, lan=lan, peer=peer, behind=behind, folder=folder, within=within)
            stack.enter_context(stage.host.entered())
            DAEMONS[scene.owner].start(within)
        else:
            host = stack.enter_context(new_netns())
            stack.enter_context(host.entered())
            stage = Stage(scene=scene, host=host, lan=lan, peer=peer, behind=behind, folder=folder)
            if scene.owner == "dhcpcd":
                stack.enter_context(_files_of_dhcpcd(folder))
            stack.callback(_end_everything_in, host)
            _plug(lan)
            if scene.guest:
                stack.callback(os.close, _open_tap("guest0"))
            _furnish(stage)
        for address in scene.reached_at:
            until(lambda address=address: _is_usable(address), f"{address} on the host")  # type: ignore[misc]
        yield stage


def until(true: Callable[[], object], what: str) -> None:
    """Wait until something is true. Raises AssertionError."""
    deadline = time.monotonic() + _PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, f"not within {_PATIENCE_S:g} s: {what}"
        time.sleep(0.02)


def _wire(lan: Netns, peer: Netns, behind: Netns) -> None:
    with lan.entered():
        for key in ("ipv6/conf/all/accept_dad", "ipv6/conf/default/accept_dad"):
            Path("/proc/sys/net", key).write_text("0")
        batch(
            f"link add q0 type veth peer name eth0 netns {peer.path}\n"
            f"link add r0 type veth peer name eth0 netns {behind.path}\n{_LAN}"
        )
        for key in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
            Path("/proc/sys/net", key).write_text("1")
    for netns, lines in ((peer, _PEER), (behind, _BEHIND)):
        with netns.entered():
            batch(lines)


def _plug(lan: Netns) -> None:
    batch(f"link add eth0 address {MAC} type veth peer name p0 netns {lan.path}\nlink set eth0 addrgenmode none")
    with lan.entered():
        batch("link set p0 master lan0\nlink set p0 up")


def _furnish(stage: Stage) -> None:
    scene = stage.scene
    if not scene.advertised:
        Path("/proc/sys/net/ipv6/conf/eth0/accept_ra").write_text("0")
    batch(f"link set eth0 up\naddr add {LINK_LOCAL}/64 dev eth0 nodad\nlink set eth0 addrgenmode eui64")
    batch(scene.lines)
    for key, value in scene.switches.items():
        Path("/proc/sys/net", key).write_text(str(value))
    if scene.rules:
        run("nft", "-f", "-", stdin=scene.rules)
    if scene.owner == "dhclient":
        files = stage.folder / "leases/dhclient.eth0"
        run(shutil.which("dhclient") or "dhclient", "-pf", f"{files}.pid", "-lf", f"{files}.leases", "eth0")
    elif scene.owner == "dhcpcd":
        run("dhcpcd", "-A", "-4", "eth0")  # -A: it does not ask for five seconds whether its address is free


@contextmanager
def _files_of_dhcpcd(folder: Path) -> Iterator[None]:
    """Leases and PID files of dhcpcd's, and a resolv.conf for its hooks, that are the scene's alone."""
    own = folder / "resolv.conf"
    own.write_text("")
    _RUNNING.mkdir(exist_ok=True)
    run("mount", "-t", "tmpfs", "tmpfs", _DHCPCD)
    run("mount", "-t", "tmpfs", "tmpfs", _RUNNING)
    (_DHCPCD / "duid").write_text(f"00:03:00:01:{MAC}\n")  # the same in each building of the scene
    run("mount", "--bind", own, "/etc/resolv.conf")
    try:
        yield
    finally:
        run("umount", "--lazy", "/etc/resolv.conf", _RUNNING, _DHCPCD)  # it may not have ended yet


def _is_usable(address: str) -> bool:
    found = run("ip", "-o", "addr", "show", "to", address).stdout
    return address in found and "tentative" not in found


def _serve(scene: Scene, lan: Netns, folder: Path) -> subprocess.Popen[bytes]:
    """A DHCP server that renews after 3 seconds (option 58), or a router that advertises itself."""
    words = ["--dhcp-range=2001:db8::,ra-only,64", "--enable-ra", "--ra-param=lan0,10,1800"]
    if scene.leased:
        address = scene.reached_at[0]
        words = [f"--dhcp-range={address},{address},255.255.255.0,300", "--dhcp-option=58,3"]
        words += ["--dhcp-option=option:dns-server", "--dhcp-authoritative", "--no-ping"]
    with lan.entered():
        server = subprocess.Popen(
            [
                *("dnsmasq", "--conf-file=/dev/null", "--keep-in-foreground", "--port=0", "--user=root"),
                *("--interface=lan0", "--bind-interfaces", f"--log-facility={folder}/server.log"),
                *(f"--dhcp-leasefile={folder}/server.leases", f"--pid-file={folder}/server.pid"),
                *words,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    log = folder / "server.log"
    until(lambda: log.exists() and "dnsmasq-dhcp" in log.read_text(), "the server")
    return server


def _end(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    server.wait(5)


def _open_tap(name: str) -> int:
    """A tap as QEMU holds it: it is there as long as the descriptor is."""
    held = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    fcntl.ioctl(held, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _TAP_WITHOUT_HEADER))
    return held


def processes_in(netns: Netns) -> list[tuple[int, tuple[str, ...]]]:
    """The processes of a namespace with their arguments, but for the test's own."""
    inside = os.stat(netns.path).st_ino
    found = []
    for pid in (int(name) for name in os.listdir("/proc") if name.isdecimal()):
        with suppress(OSError):
            if pid != os.getpid() and os.stat(f"/proc/{pid}/ns/net").st_ino == inside:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
                found.append((pid, tuple(words)))
    return found


def _end_everything_in(netns: Netns) -> None:
    for pid, _ in processes_in(netns):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
