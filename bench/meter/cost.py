"""What one process costs: its time, its peak memory, and the window in which the host stands on one leg."""

from __future__ import annotations

import json
import os
import select
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from meter.apart import PROBE
from meter.figures import NS_PER_MS
from meter.rig import netns_words, run


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Wall and CPU time in ms, peak memory in MiB, of a process and of the children it waited for."""

    wall_ms: float
    cpu_ms: float
    peak_mib: float


def cost_of(words: list[str], netns: str | None = None, stdin: str = "") -> Cost:
    """Run a command once, output thrown away. Raises RuntimeError with what it said if it fails."""
    command = [*(netns_words(netns) if netns else []), str(PROBE), "run", *words]
    done = subprocess.run(
        command, input=stdin, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False
    )
    told = json.loads(done.stderr.splitlines()[-1])
    if told["exit"]:
        raise RuntimeError(f"{' '.join(words)}: exit {told['exit']}\n{done.stderr}")
    return Cost(wall_ms=told["wall_ns"] / NS_PER_MS, cpu_ms=told["cpu_us"] / 1000, peak_mib=told["peak_kib"] / 1024)


class Monitor:
    """`ip -ts monitor` in a namespace, as a context manager; `lines` when it has ended.

    It does not tell when it listens, and it is behind the kernel by what it has not read yet: at both ends a change of
    lo's MTU is made and waited for.
    """

    def __init__(self, netns: str) -> None:
        self._netns = netns
        self._said = ""

    @property
    def lines(self) -> list[str]:
        """What it said, in order."""
        return self._said.splitlines()

    def __enter__(self) -> Self:
        words = [*netns_words(self._netns), "ip", "-ts", "-o", "monitor", "link", "address"]
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE)
        if not any(self._hears(60000 + number, 0.1) for number in range(50)):
            raise RuntimeError("ip monitor did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self._hears(65536, 5.0)
        self._process.terminate()
        self._process.communicate()

    def _hears(self, mtu: int, limit_s: float) -> bool:
        """Change lo's MTU and read until that is told, or nothing has been for `limit_s`."""
        pipe, mark = self._process.stdout, f" lo: <LOOPBACK,UP,LOWER_UP> mtu {mtu} "
        assert pipe
        run(self._netns, "ip", "link", "set", "lo", "mtu", str(mtu))
        while mark not in self._said and select.select([pipe], [], [], limit_s)[0]:
            said = os.read(pipe.fileno(), 1 << 16)
            if not said:
                return False
            self._said += said.decode()
        return mark in self._said


def parse_window_ms(lines: Iterable[str], nic: str) -> float:
    """From the moment the NIC is first seen with a master to that of its last address gone, in ms.

    Raises ValueError if one of the two was not seen. Link-local addresses count: the NIC keeps none.
    """
    begun: datetime | None = None
    ended: datetime | None = None
    for line in lines:
        stamp, _, event = line.partition("] ")
        words = event.split()
        name = words[2 if words[:1] == ["Deleted"] else 1].rstrip(":").partition("@")[0] if len(words) > 2 else ""
        if name != nic:
            continue
        at = datetime.fromisoformat(stamp.removeprefix("["))
        if begun is None and "master" in words:
            begun = at
        if begun is not None and words[0] == "Deleted" and words[3] in ("inet", "inet6"):
            ended = at
    if begun is None or ended is None:
        raise ValueError(f"{nic} was not seen to become a port and to lose its addresses")
    return (ended - begun).total_seconds() * 1000
