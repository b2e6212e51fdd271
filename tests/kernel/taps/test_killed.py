"""SIGKILL at every call by which `tap add` and `tap del` change something: after the next command before or after.

A first run under strace tells the calls; then strace kills the program at each of them, so the product holds no code
for this test. strace counts each kind of call by itself.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kit.command import run
from kit.everything import keep_quiet
from kit.netns import named_netns
from tapbridge.cli.main import main
from tapbridge.core.compare import differences
from tapbridge.linux.host import LinuxHost
from tapbridge.model.state import State

CHANGING = re.compile(
    r"(sendto|rename|unlink|fsync|fchmod|mkdir|flock)\(|(ioctl)\([0-9]+, (?:TUN(?!GET)|SIOCS)"
    r"|(openat)\(.*(?:O_CREAT|net/tun)"
)
NAMES = ("br0", "t0", "t1", "t2", "other")
Seen = tuple[State, dict[str, object]]


def _points(folder: Path, words: tuple[str, ...]) -> Iterator[tuple[str, int, str]]:
    """The changing calls of the program, each with its number among the calls of its kind.

    Of files that are opened only those of the same path count: how many it looks at in /proc is other processes' doing.
    """
    run("strace", "-o", folder / "calls", sys.executable, "-m", "tapbridge", *words)
    counts: Counter[tuple[str, str]] = Counter()
    for line in (folder / "calls").read_text().splitlines():
        call, _, rest = line.partition("(")
        path = rest.split('"')[1] if call == "openat" else ""
        counts[call, path] += 1
        if CHANGING.match(line):
            yield call, counts[call, path], path


def _kill_at(call: str, number: int, path: str, folder: Path, words: tuple[str, ...]) -> bool:
    """Run the program until that call; whether it was killed there."""
    inject = f"inject={call}:signal=SIGKILL:when={number}"
    done = run(
        *("strace", "-o", folder / "calls", "-e", f"trace={call}", "-e", inject, *(("-P", path) if path else ())),
        *(sys.executable, "-m", "tapbridge", *words),
        check=False,
    )
    assert done.returncode in (0, 137, -9), done.stderr
    return done.returncode != 0


def _seen(folder: Path) -> Seen:
    with LinuxHost() as host:
        path = folder / "state" / "taps"
        return host.observe(), json.loads(path.read_text())["taps"] if path.exists() else {}


def _same(one: Seen, other: Seen) -> bool:
    return one[1] == other[1] and not differences(one[0], other[0], NAMES)


def _make_none() -> None:
    for name in ("t0", "t1", "t2"):
        assert main(["tap", "del", name, "--quiet"]) == 0


def _make_three() -> None:
    assert main(["tap", "add", "t0", "--bridge", "br0", "--persist", "--quiet"]) == 0
    assert main(["tap", "add", "t1", "--bridge", "br0", "--quiet"]) == 0
    assert main(["tap", "add", "t2", "--queues", "2", "--persist", "--quiet"]) == 0


@pytest.mark.parametrize(
    ("reset", "words"),
    [
        (_make_none, ("tap", "add", "t0", "--bridge", "br0", "--persist", "--quiet")),
        (_make_three, ("tap", "del", "t0", "--quiet")),
        (_make_three, ("tap", "del", "--all", "--quiet")),
    ],
    ids=["add", "del", "del-all"],
)
def test_a_tap_is_there_or_not_wherever_the_command_is_killed(
    reset: Callable[[], None], words: tuple[str, ...], tmp_path: Path
) -> None:
    ends = {"before": 0, "after": 0}
    with named_netns("tbkilled") as netns, netns.entered():
        keep_quiet()
        run("ip", "link", "add", "br0", "address", "02:00:00:00:00:10", "type", "bridge")
        run("ip", "link", "set", "br0", "up")
        reset()
        before = _seen(tmp_path)
        points = tuple(_points(tmp_path, words))
        after = _seen(tmp_path)
        assert not _same(before, after)
        for call, number, path in points:
            reset()
            assert _kill_at(call, number, path, tmp_path, words), f"{call} {number} {path}"
            assert main(["tap", "del", "absent", "--quiet"]) == 0
            end = _seen(tmp_path)
            assert _same(before, end) or _same(after, end), f"neither before nor after at {call} {number} {path}"
            ends["before" if _same(before, end) else "after"] += 1
    assert ends["before"] > 20 and ends["after"] > 1, ends
