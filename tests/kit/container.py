"""A whole Debian with systemd as PID 1 in a container, on a LAN with a DHCP server.

Theory of operation. `script/rootfs` makes the root file system, once; each container has an overlay on it, in the /run
of this test session, where also the program is copied as a package of Debian's Python. systemd-nspawn boots it in a
network namespace of ours whose eth0 is a veth to a switch in the LAN's namespace. It is not told of that namespace by
an option, because then it would show the /sys of the machine; it is started in it, and a new sysfs is mounted first.

What goes with what: nspawn and everything inside are in a PID namespace that ends when the process that made it does,
and that one is ended by the kernel with this process (PR_SET_PDEATHSIG). The mounts are in a namespace of the same
processes. Only the control group is a name in the kernel: it is removed at the end, and whoever comes later removes
those of the dead. A reboot is a power-off and a start in a new network namespace: what is not in a file is gone.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from kit.command import run
from kit.handing import leases_in
from kit.netns import Netns, new_netns
from kit.source import ROOT, SRC

NIC_MAC = "02:00:00:00:01:02"
GATEWAY = "192.0.2.1"
PACKAGES = "usr/lib/python3/dist-packages"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BOOT_LIMIT_S = 60

DHCPCD = """\
[Service]
Type=forking
PIDFile=/run/dhcpcd/pid
ExecStart=/usr/sbin/dhcpcd -q -b
ExecStop=/usr/sbin/dhcpcd -x
RuntimeDirectory=dhcpcd
ProtectSystem=strict
ReadWritePaths=/var/lib/dhcpcd /run/dhcpcd /etc/dhcpcd.conf /etc/resolv.conf
ProtectHome=true
PrivateDevices=true
RestrictNamespaces=true
SystemCallFilter=@system-service chroot
SystemCallErrorNumber=EPERM
SystemCallArchitectures=native

[Install]
WantedBy=multi-user.target
"""
"""/lib/systemd/system/dhcpcd.service of Debian 12's package dhcpcd, in what matters here."""

DHCPCD_OF_A_LINK = """\
[Service]
Type=forking
PIDFile=/run/dhcpcd/%I.pid
ExecStart=/usr/sbin/dhcpcd -q -w %I
ExecStop=/usr/sbin/dhcpcd -x %I
Restart=always

[Install]
WantedBy=multi-user.target
"""
"""/lib/systemd/system/dhcpcd@.service of the same, but for the device that it is bound to: a container has none."""

TOGETHER = ("setpriv", "--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child")
_NUMBERS = itertools.count(1)

_LAUNCH = """
set -e
mount -t sysfs sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir "/sys/fs/cgroup$GROUP"
echo $$ >"/sys/fs/cgroup$GROUP/cgroup.procs"
mount -t overlay overlay -o "lowerdir=$LOWER,upperdir=$PLACE/upper,workdir=$PLACE/work" "$PLACE/root"
exec systemd-nspawn --quiet --directory="$PLACE/root" --machine="$NAME" --boot --notify-ready=yes --register=no \
    --keep-unit --resolv-conf=off --timezone=off --link-journal=no --console=pipe \
    --capability=CAP_NET_ADMIN,CAP_NET_RAW
"""

_CUT_OFF = """
import os, signal, sys
from tapbridge.cli.main import main
from tapbridge.linux.host import LinuxHost
kind, number = sys.argv.pop(1).split("#")
perform, seen = LinuxHost.perform, []
def counting(self, steps):
    perform(self, steps)
    seen.extend(step for step in steps if type(step).__name__ == kind)
    if len(seen) >= int(number):
        os.kill(os.getpid(), signal.SIGKILL)
LinuxHost.perform = counting
sys.exit(main())
"""

_SWEEP = """
mount -t cgroup2 cgroup2 /mnt
find /mnt -depth -type d -path '*/tapbridge-container-*' | while read -r group; do
    pid=${group#*/tapbridge-container-}
    pid=${pid%%-*}
    if [ "$pid" = "$OWN" ] || [ ! -e "/proc/$pid" ]; then rmdir "$group" 2>/dev/null || true; fi
done
"""


@dataclass
class Container:
    """A container, booted or not. `lan` is the namespace of its LAN, `place` the folder of its overlay, `early` what a
    shell does to its network at each boot before anything runs inside, as an initramfs would."""

    lan: Netns
    place: Path
    lower: Path
    nic: Netns | None = None
    leader: int = 0
    early: str = ""
    _nspawn: subprocess.Popen[bytes] | None = None
    _boot: ExitStack = field(default_factory=ExitStack)

    def boot(self) -> None:
        """Start systemd and wait until it says that the system is up. Raises AssertionError."""
        with ExitStack() as stack:
            self.nic = stack.enter_context(new_netns())
            with self.nic.entered():
                _plug(self.lan)
                stack.callback(_unplug, self.lan)
                run("sh", "-ec", self.early)
                ready = stack.enter_context(_notify_socket(self.place / "notify"))
                console = stack.enter_context((self.place / "console").open("wb"))
                self._nspawn = subprocess.Popen(
                    [*TOGETHER, "--mount", "--propagation", "private", "--mount-proc", "sh", "-c", _LAUNCH],
                    stdin=subprocess.DEVNULL,
                    stdout=console,
                    stderr=subprocess.STDOUT,
                    env={
                        "PATH": PATH,
                        "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "1",  # or udevd does not run
                        "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
                        "NOTIFY_SOCKET": str(self.place / "notify"),
                        "PLACE": str(self.place),
                        "LOWER": str(self.lower),
                        "NAME": self.place.name,
                        "GROUP": f"{_own_group()}/{self.place.name}",
                    },
                )
            stack.callback(self._end)
            self._wait_until(ready)
            ready.close()  # nobody reads it any more, and from the eleventh word on systemd would wait for that
            self.leader = _leader(self._nspawn.pid)
            self._boot = stack.pop_all()

    def run(self, *words: str | Path, check: bool = True, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a command inside, as root; of several words, or one for its shell."""
        command = words if len(words) > 1 else ("sh", "-c", *words)
        return run(*self.words(), *command, check=check, timeout_s=timeout_s)

    def cut_off(self, point: str, *words: str) -> None:
        """Run the program inside by these words, and kill it behind a step: of that kind the one of that number, as
        `KIND#NUMBER`. Raises AssertionError."""
        self.path("/run/cut.py").write_text(_CUT_OFF)
        killed = self.run("python3", "/run/cut.py", point, *words, check=False)
        assert killed.returncode == -signal.SIGKILL, killed.stderr

    def syncs(self, words: tuple[str, ...], when: str = "") -> int:
        """Run a command inside, and count how often it has synced a file; it is killed at the time of number `when`."""
        log = self.place / "strace"
        inject = [f"--inject=fsync:signal=SIGKILL:when={when}"] if when else []
        run("strace", "-qq", "-f", "-o", log, "--trace=fsync", *inject, *self.words(), *words, check=not when)
        return log.read_text().count("fsync(")

    def words(self) -> tuple[str, ...]:
        """The words before a command that is to run inside."""
        enter = ("nsenter", "-t", str(self.leader), "-m", "-u", "-i", "-n", "-p", "-r", "-w")
        return (*enter, "env", "-i", f"PATH={PATH}", "HOME=/root", "LANG=C.UTF-8")

    def show(self, unit: str, *names: str) -> dict[str, str]:
        """Properties of a unit, as `systemctl show` tells them."""
        lines = self.run("systemctl", "show", f"--property={','.join(names)}", unit).stdout.splitlines()
        return dict(line.split("=", 1) for line in lines)

    def wait_for(self, command: str, limit_s: float = 30.0) -> None:
        """Wait until a command inside succeeds. Raises AssertionError."""
        deadline = time.monotonic() + limit_s
        while self.run(command, check=False).returncode != 0:
            assert time.monotonic() < deadline, f"not within {limit_s:g} s: {command}\n{self.log()[-3000:]}"
            time.sleep(0.05)

    def wait_for_ip(self) -> None:
        """Wait until the NIC has an IPv4 address and a way out by it: a manager calls it ready when it has an IPv6 one,
        and that may come first. Raises AssertionError."""
        self.wait_for("ip -4 -o addr show dev eth0 | grep -q 'inet ' && ip -4 route show default | grep -q eth0")

    def path(self, path: str) -> Path:
        """A file of the running container, as a path outside."""
        return Path(f"/proc/{self.leader}/root{path}")

    def lease(self) -> list[str]:
        """The server's line of the NIC's IPv4 lease: MAC, address, name and client-id. Raises StopIteration."""
        return next(words[1:] for words in leases_in(self.place / "dnsmasq.leases") if NIC_MAC in words)

    def served(self) -> str:
        """What the DHCP server has said."""
        return (self.place / "dnsmasq.log").read_text()

    def log(self) -> str:
        """What its console and its journal have said since the boot."""
        said = (self.place / "console").read_text(errors="replace")
        return said + self.run("journalctl --boot --no-pager --output=short-monotonic", check=False).stdout

    def off(self) -> None:
        """Power off, as a machine does: every unit is stopped."""
        assert self._nspawn is not None
        self.run("systemctl", "poweroff", check=False)
        self._nspawn.wait(BOOT_LIMIT_S)
        self._boot.close()

    def reboot(self) -> None:
        """Power off and start in a new network namespace."""
        self.off()
        self.boot()

    def crash(self) -> None:
        """Cut the power, and start again."""
        self._boot.close()
        self.boot()

    def close(self) -> None:
        """Cut the power."""
        self._boot.close()

    def _end(self) -> None:
        assert self._nspawn is not None
        end(self._nspawn)
        self._nspawn, self.leader = None, 0
        run("unshare", "--mount", "sh", "-c", _SWEEP, env={"OWN": str(os.getpid())})

    def _wait_until(self, ready: socket.socket) -> None:
        deadline = time.monotonic() + BOOT_LIMIT_S
        while True:
            try:
                if b"READY=1" in ready.recv(4096).split(b"\n"):
                    return
            except TimeoutError:
                assert self._nspawn is not None
                ended = self._nspawn.poll()
                said = (self.place / "console").read_text(errors="replace")[-3000:]
                assert ended is None, f"the container has ended with {ended}:\n{said}"
                assert time.monotonic() < deadline, f"not up within {BOOT_LIMIT_S} s:\n{said}"


@contextmanager
def container(suite: str = "bookworm", *, server: Sequence[str] = ()) -> Iterator[Container]:
    """A container of that Debian, booted, on a LAN with 192.0.2.1 and 2001:db8::1 and a DHCP server.

    `server` are options of dnsmasq.
    """
    with new_place() as place, served_lan(place, server) as lan, booted(lan, place, suite) as one:
        yield one


@contextmanager
def new_place() -> Iterator[Path]:
    """The folder of a container."""
    place = Path(f"/run/tapbridge-container-{os.getpid()}-{next(_NUMBERS)}")
    place.mkdir()
    try:
        yield place
    finally:
        shutil.rmtree(place)


@contextmanager
def booted(lan: Netns, place: Path, suite: str = "bookworm") -> Iterator[Container]:
    """A container of that Debian, booted, on a LAN whose switch is lan0."""
    lower = Path(run(ROOT / "script/rootfs", suite, timeout_s=600).stdout.strip())
    for name in ("upper", "work", "root"):
        (place / name).mkdir()
    install(place / "upper")
    one = Container(lan, place, lower)
    try:
        one.boot()
        yield one
    finally:
        one.close()


def install(upper: Path) -> None:
    """The program of this checkout, owned by root, as a package of Debian's Python and as a command."""
    shutil.copytree(SRC, upper / PACKAGES / "tapbridge")
    command = upper / "usr/local/bin/tapbridge"
    command.parent.mkdir(parents=True)
    command.write_text('#!/bin/sh\nexec /usr/bin/python3 -I -m tapbridge "$@"\n')
    command.chmod(0o755)


@contextmanager
def served_lan(place: Path, options: Sequence[str]) -> Iterator[Netns]:
    with new_netns() as lan:
        with lan.entered():
            run("ip", "link", "add", "lan0", "address", "02:00:00:00:01:01", "type", "bridge", "mcast_snooping", "0")
            run("ip", "link", "set", "lan0", "up")
            run("ip", "addr", "add", f"{GATEWAY}/24", "dev", "lan0")
            run("ip", "addr", "add", "2001:db8::1/64", "dev", "lan0", "nodad")
            server = subprocess.Popen(
                [
                    *(*TOGETHER, "sh", "-c", '"$@"; exit', "dnsmasq"),  # a dnsmasq that is PID 1 would outlive us
                    *("dnsmasq", "--conf-file=/dev/null", "--keep-in-foreground", "--port=0", "--user=root"),
                    *("--interface=lan0", "--bind-dynamic", "--dhcp-authoritative", "--no-ping", "--log-dhcp"),
                    f"--log-facility={place}/dnsmasq.log",
                    f"--dhcp-leasefile={place}/dnsmasq.leases",
                    f"--pid-file={place}/dnsmasq.pid",
                    "--dhcp-range=192.0.2.50,192.0.2.99,255.255.255.0,300",
                    *options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        try:
            yield lan
        finally:
            end(server)


def _plug(lan: Netns) -> None:
    """Connect eth0 of this thread's namespace with the switch of the LAN."""
    run("ip", "link", "add", "eth0", "address", NIC_MAC, "type", "veth", "peer", "name", "p0", "netns", lan.path)
    with lan.entered():
        run("ip", "link", "set", "p0", "master", "lan0", "up")


def _unplug(lan: Netns) -> None:
    """Not left to the end of the host's namespace, which comes later than that of its last process."""
    with lan.entered():
        run("ip", "link", "del", "p0")


@contextmanager
def _notify_socket(path: Path) -> Iterator[socket.socket]:
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        ready.bind(str(path))
        ready.settimeout(0.5)
        yield ready


def _leader(pid: int) -> int:
    """PID 1 of the container: the descendant that is called systemd and is the first of the innermost namespace."""
    waiting = [pid]
    while waiting:
        one = waiting.pop()
        status = Path(f"/proc/{one}/status").read_text()
        numbers = next(line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:"))
        if status.startswith("Name:\tsystemd\n") and len(numbers) > 2 and numbers[-1] == "1":
            return one
        waiting += _children(one)
    raise AssertionError(f"process {pid} has started no container")


def end(together: subprocess.Popen[bytes]) -> None:
    """End what was started as TOGETHER, by its PID 1: its parent ends when the kernel has reaped all of them."""
    for child in _children(together.pid):
        os.kill(child, signal.SIGKILL)
    together.wait(BOOT_LIMIT_S)


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:  # it has ended
        return []


def _own_group() -> str:
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    return next(line.removeprefix("0::") for line in lines if line.startswith("0::")).rstrip("/")
