"""A broker that lends taps of the network namespace of a thread, and users without any privilege who come to it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from kit.command import run
from kit.holders import Processes
from kit.netns import Netns, in_netns, new_netns
from tapbridge.linux.host import LinuxHost
from tapbridge.model.state import Link, Scope

ALICE, BOB, EVE = 12345, 12346, 12347
KVM = 54321
BRIDGE_MAC = "02:00:00:00:00:10"
HELD = f"allow user {ALICE} bridge br0 taps 2\n"
FREE = f"allow user {ALICE} bridge br0 taps 2 mac any\n"
HELPER_OF_QEMU = Path(sys.executable).parent / "tapbridge-bridge-helper"

# /sys shows the network of whoever mounted it; the broker's is to show its own.
WITH_SYS = (
    *("unshare", "--mount", "--propagation", "private"),
    *("sh", "-c", 'mount -t sysfs sysfs /sys && exec "$@"', "sh"),
)

# In QEMU's place: says its arguments, then evaluates each line; `taps` are its open files.
GUEST = f"""#!{sys.executable}
import fcntl, os, re, struct, sys
taps = [int(n) for word in sys.argv for found in re.findall(r"fds=([0-9:]+)", word) for n in found.split(":")]
print("guest", *sys.argv[1:], flush=True)
for line in sys.stdin:
    try:
        print("said", eval(line), flush=True)
    except OSError as error:
        print("errno", error.errno, flush=True)
"""

# Asks for one tap, by a client of its own, and stays: `lent NAME`, or `refused EXIT CODE`.
ASK = """
import os, sys
from tapbridge.broker.client import Client
from tapbridge.broker.protocol import Attach
from tapbridge.model.errors import TapbridgeError
path, network, mac = sys.argv[1:4]
try:
    client = Client(path)
    pidfd = os.pidfd_open(os.getpid())
    name, taps = client.attach(Attach(network, "asks", mac or None), pidfd)
    print("lent", name, flush=True)
    sys.stdin.read()
except TapbridgeError as error:
    print("refused", int(error.exit), error.code, flush=True)
"""


def as_user(uid: int, *groups: int) -> tuple[str, ...]:
    """A prefix that runs a command as a user without any privilege, in these groups."""
    rest = f"--groups={','.join(map(str, groups))}" if groups else "--clear-groups"
    return ("setpriv", f"--reuid={uid}", f"--regid={uid}", rest, "--inh-caps=-all", "--bounding-set=-all")


@dataclass
class Site:
    """A host with a bridge br0 whose uplink leads to the namespace `lan`, and a broker."""

    folder: Path
    lan: Netns
    processes: Processes = field(default_factory=Processes)
    broker: subprocess.Popen[bytes] | None = None

    @property
    def path(self) -> str:
        """Where the broker listens."""
        return str(self.folder / "run/tapbridge/broker.sock")

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def write_policy(self, text: str) -> Path:
        path = self.folder / "etc/tapbridge/broker.policy"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def start(self) -> subprocess.Popen[bytes]:
        """Start the broker and wait until it serves."""
        path = self.folder / "log"
        before = path.read_text().count("broker: ready") if path.exists() else 0
        with open(path, "a") as log:
            words = (sys.executable, "-m", "tapbridge", "broker", "--root", str(self.folder))
            self.broker = subprocess.Popen([*WITH_SYS, *words], stderr=log, stdout=log, stdin=subprocess.DEVNULL)
        started = self.broker
        assert until(lambda: started.poll() is not None or self.log.count("broker: ready") > before), self.log
        assert started.poll() is None, self.log
        return started

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End the broker; its exit code."""
        assert self.broker is not None
        self.broker.send_signal(number)
        return self.broker.wait(10)

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            connection.settimeout(10)
            connection.connect(self.path)
        except OSError:
            connection.close()
            raise
        return connection

    def ask(self, prefix: tuple[str, ...], network: str = "br0", mac: str = "52:54:00:aa:00:01") -> str:
        """What a client of these rights gets; whoever got a tap stays with it until the test ends."""
        words = (*prefix, sys.executable, "-c", ASK, self.path, network, mac)
        process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.processes.started.append(process)
        assert process.stdout is not None
        return process.stdout.readline().strip()

    def run(self, uid: int, *words: str) -> subprocess.CompletedProcess[str]:
        """`tapbridge run` by a user, to its end."""
        return run(*as_user(uid), *self._run_words(*words), check=False)

    def guest(self, uid: int, *words: str, groups: Sequence[int] = ()) -> subprocess.Popen[str]:
        """A guest that a user has started with `tapbridge run`, and that obeys."""
        return self.processes.start(*as_user(uid, *groups), *self._run_words(*words), until="guest")

    def tell(self, guest: subprocess.Popen[str], line: str) -> str:
        """Let a guest evaluate something; what came of it."""
        assert guest.stdin is not None and guest.stdout is not None
        guest.stdin.write(line + "\n")
        guest.stdin.flush()
        return guest.stdout.readline().strip()

    def _run_words(self, *words: str) -> tuple[str, ...]:
        qemu = str(self.folder / "qemu-system-x86_64")
        return (
            sys.executable,
            "-m",
            "tapbridge",
            "run",
            "--root",
            str(self.folder),
            "--net",
            "br0",
            *words,
            "--",
            qemu,
        )


@contextmanager
def site(policy: str = HELD) -> Iterator[Site]:
    """A broker with a policy, in a namespace in which this thread is until the end."""
    folder = Path(tempfile.mkdtemp(dir="/run", prefix="broker-"))
    folder.chmod(0o755)
    qemu = folder / "qemu-system-x86_64"
    qemu.write_text(GUEST)
    qemu.chmod(0o755)
    with in_netns(), new_netns() as lan:
        run("ip", "link", "add", "br0", "address", BRIDGE_MAC, "type", "bridge", "mcast_snooping", "0")
        run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "lan0", "netns", lan.path)
        run("ip", "link", "set", "eth0", "address", "02:00:00:00:00:11", "master", "br0", "up")
        run("ip", "link", "set", "br0", "up")
        run("ip", "addr", "add", "192.0.2.2/24", "dev", "br0")
        with lan.entered():
            run("ip", "link", "set", "lan0", "address", "02:00:00:00:00:12", "up")
            run("ip", "addr", "add", "192.0.2.1/24", "dev", "lan0")
        made = Site(folder, lan)
        made.write_policy(policy)
        try:
            made.start()
            yield made
        finally:
            made.processes.end()
            if made.broker is not None:
                made.broker.kill()
                made.broker.wait()
            shutil.rmtree(folder)


def until(done: Callable[[], bool], limit_s: float = 10.0) -> bool:
    """Whether something comes true within the limit."""
    deadline = time.monotonic() + limit_s
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True


def links() -> dict[str, Link]:
    """The links of this thread's namespace."""
    with LinuxHost() as host:
        return {link.name: link for link in host.observe(Scope.LINKS).links}


def taps() -> list[Link]:
    """The taps of this thread's namespace."""
    return [link for link in links().values() if link.kind == "tap"]


@contextmanager
def open_tun() -> Iterator[None]:
    """The file of all taps as most distributions have it: 0666."""
    node = Path(tempfile.mkdtemp(dir="/run")) / "tun"
    os.mknod(node, stat.S_IFCHR | 0o666, os.stat("/dev/net/tun").st_rdev)
    node.chmod(0o666)
    run("mount", "--bind", node, "/dev/net/tun")
    try:
        yield
    finally:
        run("umount", "/dev/net/tun")
        shutil.rmtree(node.parent)
