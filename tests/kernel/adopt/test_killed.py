"""SIGKILL in the middle of `up` and `down`: the host is still reached, and the next command takes it all back.

strace kills the program before its k-th message to the kernel, so the product holds no code for this test. Every third
point is tried; between two messages of one batch there is no point, which is what the batch is for.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from kit.command import run
from kit.lan import host_on_lan, ping
from tapbridge.cli.main import main
from tapbridge.core.compare import differences
from tapbridge.linux.host import LinuxHost
from tapbridge.model.state import State

EVERY = 3
MOST = 150


def _killed_at(point: int, folder: Path, *words: str) -> bool:
    """Run the program until its message of that number; whether it was killed there."""
    inject = f"inject=sendto,sendmsg:signal=SIGKILL:when={point}"
    done = run(
        *("strace", "-f", "-o", folder / "strace", "-e", "trace=sendto,sendmsg", "-e", inject),
        *(sys.executable, "-m", "tapbridge", *words),
        check=False,
    )
    assert done.returncode in (0, 137, -9), done.stderr
    return done.returncode != 0


def _same(one: State, other: State) -> tuple[str, ...]:
    return differences(one, other, tuple({link.name for link in (*one.links, *other.links)}))


@pytest.mark.parametrize("take_name", [False, True], ids=["br0", "take-name"])
@pytest.mark.parametrize("verb", ["up", "down"])
def test_a_host_survives_a_kill_at_any_message(verb: str, take_name: bool, tmp_path: Path) -> None:
    up = ["up", "--quiet", *(["--take-name"] if take_name else [])]
    points = 0
    with host_on_lan() as lan, LinuxHost() as host:
        for point in range(1, MOST, EVERY):
            if verb == "down":
                main(up)
            before = host.observe()
            if not _killed_at(point, tmp_path, *(up if verb == "up" else ["down", "--quiet"])):
                break
            points += 1
            with lan.entered():
                run("ip", "neigh", "flush", "dev", "p0")
            assert ping(lan, "192.0.2.2"), f"cut off at message {point}"
            assert ping(lan, "2001:db8::2"), f"cut off at message {point}"
            _take_back(verb)
            assert verb == "down" or _same(before, host.observe()) == (), f"left over at message {point}"
    assert points * EVERY > 20


def _take_back(verb: str) -> None:
    """What the next command does first; after `down` that leads to the bridge, so that a second one takes it away."""
    assert main(["down", "--quiet"]) == 0
    if verb == "down":
        assert main(["down", "--quiet"]) == 0
