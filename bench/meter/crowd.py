"""Many taps at once: made, deleted, shown, and taken back from guests that are killed. Part of script/bench attach."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from meter import progress
from meter.apart import PROBE
from meter.cost import cost_of
from meter.recipes import TAPBRIDGE
from meter.speed import Comparison, as_batch
from tapbridge.broker.client import Client
from tapbridge.broker.protocol import Attach
from tapbridge.core.saved import FILE, dump_saved
from tapbridge.linux.tun import TUN, attach
from tapbridge.model.intent import MakeTap
from tapbridge.model.state import Tap
from tapbridge.model.values import IfName

TAPS = 500
KILLED = 200
CYCLES = 10_000
_AT_ONCE = 50  # guests of the churn
_WARM = 10  # rounds of the churn, before which memory grows
_LIMIT_S = 10
_DELETIONS = 3  # ten seconds each
_STATE = Path("/run/state")
_NAMES = [IfName(f"tap{number}") for number in range(TAPS)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """Values of one kind, in `unit`, and the bar for the largest of them, or for the middle one."""

    name: str
    unit: str
    values: tuple[float, ...]
    bar: float
    of_median: bool = False

    @property
    def met(self) -> bool:
        """Whether they are within the bar."""
        return (statistics.median(self.values) if self.of_median else max(self.values)) <= self.bar


def compare_taps(runs: int, bridge: IfName) -> list[Comparison]:
    """TAPS saved taps made and attached, against the same plan by one `ip -batch`; deleted, against `ip tuntap del`."""
    _STATE.mkdir(exist_ok=True)
    os.environ["TAPBRIDGE_STATE_DIR"] = str(_STATE)
    saved = [MakeTap(name=name, owner=1000, bridge=bridge) for name in _NAMES]
    (_STATE / FILE).write_text(dump_saved(None, "", saved))
    ours = [str(TAPBRIDGE), "-q", "tap", "add", "--saved"]
    lines = as_batch(subprocess.run([*ours, "--dry-run", "--json"], check=True, capture_output=True, text=True).stdout)
    making, deleting = [], []
    for turn in range(runs):
        progress.tell(f"{TAPS} taps, run {turn + 1} of {runs}")
        made = cost_of(ours).wall_ms
        gone = cost_of([str(TAPBRIDGE), "-q", "tap", "del", "--all"]).wall_ms
        (_STATE / FILE).write_text(dump_saved(None, "", saved))
        making.append((made, cost_of(["ip", "-batch", "-"], stdin=lines).wall_ms))
        if turn < _DELETIONS:
            started = time.perf_counter()
            for name in _NAMES:
                subprocess.run(["ip", "tuntap", "del", name, "mode", "tap"], check=True)
            deleting.append((gone, (time.perf_counter() - started) * 1000))
        else:
            subprocess.run([TAPBRIDGE, "-q", "tap", "del", "--all"], check=True)
            (_STATE / FILE).write_text(dump_saved(None, "", saved))
    return [
        Comparison(name=f"{TAPS} taps made", theirs="ip -batch", unit="ms", pairs=tuple(making), bar=2),
        Comparison(
            name=f"{TAPS} taps deleted", theirs="ip tuntap del, each", unit="ms", pairs=tuple(deleting), bar=0.05
        ),
    ]


def measure_ps(runs: int, bridge: IfName) -> list[Figure]:
    """`ps --json` while TAPS processes, called like guests, hold a tap each."""
    with _guests(bridge):
        costs = []
        for turn in range(runs):
            progress.tell(f"ps, run {turn + 1} of {runs}")
            costs.append(cost_of([str(TAPBRIDGE), "ps", "--json"]))
    name = f"ps --json, {TAPS} guests"
    return [
        Figure(name=name, unit="ms", values=tuple(cost.wall_ms for cost in costs), bar=250, of_median=True),
        Figure(name=f"{name}: processor", unit="ms", values=tuple(cost.cpu_ms for cost in costs), bar=250),
        Figure(name=f"{name}: peak memory", unit="MiB", values=tuple(cost.peak_mib for cost in costs), bar=100),
    ]


@contextmanager
def _guests(bridge: IfName) -> Iterator[None]:
    """Processes with the command line of a QEMU, each with a tap on the bridge."""
    qemu = Path("/run/qemu-system-x86_64")
    shutil.copy(PROBE, qemu)
    pids = []
    try:
        for number, name in enumerate(_NAMES):
            tap = os.open(TUN, os.O_RDWR | os.O_CLOEXEC)
            attach(tap, name, Tap())
            card = f"virtio-net-pci,netdev=n0,mac=52:54:00:00:{number >> 8:02x}:{number & 255:02x}"
            words = [qemu.name, "-name", f"guest{number}", "-m", "64", "-netdev", "tap,id=n0,fd=3", "-device", card]
            kept = (os.POSIX_SPAWN_DUP2, tap, 3)
            pids.append(os.posix_spawn(qemu, words, os.environ, file_actions=[kept]))
            os.close(tap)
        lines = "".join(f"link set {name} master {bridge} up\n" for name in _NAMES)
        subprocess.run(["ip", "-batch", "-"], input=lines, text=True, check=True)
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def measure_killed(path: Path, bridge: IfName) -> list[Figure]:
    """From the SIGKILL of a guest until its tap is gone, though another process keeps the tap's file."""
    late = []
    for turn in range(KILLED):
        progress.tell(f"killed guest {turn + 1} of {KILLED}")
        guest = _fork()
        name, tap = _lend(path, bridge, guest)
        started = time.perf_counter()
        os.kill(guest, signal.SIGKILL)
        _await_gone([name])
        late.append((time.perf_counter() - started) * 1000)
        os.waitpid(guest, 0)
        os.close(tap)
    return [Figure(name="a killed guest's tap gone", unit="ms", values=tuple(late), bar=100)]


def measure_churn(path: Path, broker: int, bridge: IfName) -> list[Figure]:
    """The broker's memory and open files over CYCLES loans whose guests are killed; the taps stay open here."""
    memory, files = [], []
    for turn in range(CYCLES // _AT_ONCE):
        progress.tell(f"churn, {turn * _AT_ONCE:,} loans of {CYCLES:,}")
        guests = [_fork() for _ in range(_AT_ONCE)]
        lent = [_lend(path, bridge, guest) for guest in guests]
        for guest in guests:
            os.kill(guest, signal.SIGKILL)
        _await_gone([name for name, _ in lent])
        for guest, (_, tap) in zip(guests, lent, strict=True):
            os.waitpid(guest, 0)
            os.close(tap)
        memory.append(_resident_mib(broker))
        files.append(len(os.listdir(f"/proc/{broker}/fd")))
    growth = max(memory[_WARM:]) / memory[_WARM] * 100 - 100
    return [
        Figure(name=f"the broker, {CYCLES:,} loans", unit="MiB", values=tuple(memory), bar=100),
        Figure(name=f"its growth after the first {_WARM * _AT_ONCE}", unit="%", values=(growth,), bar=5),
        Figure(name="its files more than at first", unit="", values=(files[-1] - files[0],), bar=0),
    ]


def _lend(path: Path, bridge: IfName, guest: int) -> tuple[IfName, int]:
    """A tap for a process, by a connection of its own."""
    pidfd = os.pidfd_open(guest)
    try:
        with closing(Client(str(path))) as client:
            name, (tap,) = client.attach(Attach(bridge), pidfd)
            return name, tap
    finally:
        os.close(pidfd)


def _fork() -> int:
    guest = os.fork()
    if guest == 0:
        signal.pause()
        os._exit(0)
    return guest


def _await_gone(names: list[IfName]) -> None:
    deadline = time.perf_counter() + _LIMIT_S
    for name in names:
        with suppress(OSError):  # there is no link of that name
            while time.perf_counter() < deadline:
                socket.if_nametoindex(name)
                time.sleep(0.0005)
            raise RuntimeError(f"{name} is still there")


def _resident_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:"))) / 1024
