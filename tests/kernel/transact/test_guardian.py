"""`up --confirm` on the real kernel: whatever becomes of the command, the host is as before at the deadline."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from kit.changes import PROGRAM, document, guardians, is_as, is_ended, on_a_terminal, pending, started, until
from kit.command import run
from kit.lan import ping
from kit.netns import Netns
from tapbridge.model.state import State

WINDOW_S = 4


def learnt(link: str) -> set[str]:
    """Whom a link knows the MAC of."""
    return {n["dst"] for n in json.loads(run("ip", "-j", "neigh", "show", "dev", link).stdout) if "lladdr" in n}


def test_nobody_confirms(before: State, run_dir: Path) -> None:
    with started("up", "--confirm", str(WINDOW_S), "--json") as up:
        assert until(pending)
        assert not is_as(before)
        told = pending()
        assert told is not None and told["command"] == "up" and 0 <= told["confirm_in_s"] <= WINDOW_S
        out, _ = up.communicate(timeout=20)
        assert up.returncode == 1
        assert '"outcome": "rolled-back"' in out and "nobody confirmed it in time" in out
    assert is_as(before)
    assert until(lambda: is_ended(run_dir))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP, signal.SIGSTOP], ids=lambda x: x.name)
def test_what_becomes_of_the_command_does_not_matter(number: signal.Signals, before: State, run_dir: Path) -> None:
    with started("up", "--confirm", str(WINDOW_S)) as up:
        assert until(pending)
        up.send_signal(number)
        if number != signal.SIGSTOP:
            assert up.wait(timeout=5) == -number
        assert not is_as(before)
        assert until(lambda: is_as(before), WINDOW_S + 2)
        assert until(lambda: is_ended(run_dir))


@pytest.mark.parametrize("verb", ["confirm", "rollback"])
def test_another_session_decides(verb: str, before: State, run_dir: Path, lan: Netns) -> None:
    with started("up", "--confirm", "60", "--json") as up:
        assert until(pending)
        assert document(verb)["outcome"] == "done"
        out, _ = up.communicate(timeout=10)
        assert up.returncode == (0 if verb == "confirm" else 1), out
    assert is_as(before) == (verb == "rollback")
    assert ping(lan, "192.0.2.2")
    assert until(lambda: is_ended(run_dir))
    assert document(verb, exit_code=3)["findings"][0]["code"] == "nothing-pending"


def test_one_change_at_a_time(before: State) -> None:
    with started("up", "--confirm", "60"):
        assert until(pending)
        for words in (["up"], ["down"]):
            assert document(*words, exit_code=3)["findings"][0]["code"] == "pending-change"
        assert document("recover")["outcome"] == "pending"
        assert pending() is not None
        document("rollback")
    assert is_as(before)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGQUIT, 131)])
def test_a_signal_takes_it_back_at_once(number: int, code: int, before: State, run_dir: Path) -> None:
    with started("up", "--confirm", "60") as up:
        assert until(pending)
        up.send_signal(number)
        assert up.wait(timeout=5) == code
        assert is_as(before)
        assert until(lambda: is_ended(run_dir))


# One that comes when the change is there and its command does not yet wait.
EARLY = """
import os
from tapbridge.cli.confirming import Waiting
from tapbridge.cli.main import main
end = Waiting.end
def early(self, **more):
    os.kill(os.getpid(), {number})
    return end(self, **more)
Waiting.end = early
raise SystemExit(main(["up", "--confirm", "{window_s}"]))
"""


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGQUIT, 131), (signal.SIGHUP, -1)]
)
def test_a_signal_that_comes_before_the_wait_does_the_same(
    number: int, code: int, before: State, run_dir: Path
) -> None:
    program = EARLY.format(number=int(number), window_s=60 if code > 0 else WINDOW_S)
    assert run(sys.executable, "-c", program, check=False).returncode == code
    assert is_as(before) == (code > 0)
    assert until(lambda: is_as(before) and is_ended(run_dir), WINDOW_S + 20)


def test_enter_on_the_terminal_keeps_it_and_one_from_before_does_not(before: State, run_dir: Path) -> None:
    with on_a_terminal("up", "--confirm", "60") as (up, terminal):
        os.write(terminal, b"\n\n")
        assert until(pending)
        time.sleep(0.5)
        assert pending() is not None
        os.write(terminal, b"\n")
        assert up.wait(timeout=5) == 0
        assert b"To keep it: Enter here" in os.read(terminal, 65536)
    assert not is_as(before)
    assert until(lambda: is_ended(run_dir))


def test_return_at_once_and_confirm_later(before: State, run_dir: Path) -> None:
    told = document("up", "--confirm", "60", "--no-wait")
    assert told["outcome"] == "pending"
    assert told["pending"]["id"] == (pending() or {})["id"]
    assert len(guardians()) == 1
    document("confirm")
    assert not is_as(before)
    assert until(lambda: is_ended(run_dir))


def test_auto_is_kept_by_its_proof(before: State, run_dir: Path) -> None:
    assert document("up", "--confirm", "auto")["outcome"] == "done"
    assert not is_as(before)
    assert until(lambda: is_ended(run_dir))


def _guarded_sends(trace: Path) -> range:
    """The numbers of the netlink messages that `up` sends under guard, by one that nothing breaks."""
    words = (*PROGRAM, "up", "--confirm", "60", "--no-wait")
    run("strace", "-o", trace, "-s", "4096", "-e", "trace=sendto,write", *words)
    document("rollback")
    lines = trace.read_text().splitlines()
    armed, applied = (next(n for n, line in enumerate(lines) if word in line) for word in ("Armed", "Applied"))
    first = sum(line.startswith("sendto") for line in lines[:armed]) + 1
    return range(first, first + sum(line.startswith("sendto") for line in lines[armed:applied]))


def test_a_command_that_hangs_while_it_applies_is_fenced(before: State, run_dir: Path, tmp_path: Path) -> None:
    """It is stopped, with the lock held, before every sixth of its messages; the guardian kills it and undoes."""
    trace = tmp_path / "strace"
    for call in _guarded_sends(trace)[:-6:6]:
        inject = f"inject=sendto:signal=SIGSTOP:when={call}"
        words = ["strace", "-o", str(trace), "-e", "trace=sendto", "-e", inject, *PROGRAM, "up", "--confirm", "1"]
        assert run(*words, check=False, timeout_s=10).returncode == -signal.SIGKILL
        assert until(lambda: is_as(before), 5), f"message {call}"
        assert until(lambda: is_ended(run_dir))


def test_without_its_guardian_a_waiting_change_is_what_a_crash_left(before: State, run_dir: Path) -> None:
    document("up", "--confirm", "60", "--no-wait")
    os.kill(guardians()[0], signal.SIGKILL)
    assert until(lambda: not guardians())
    told = document("recover")
    assert told["findings"][0]["code"] == "recovered"
    assert is_as(before)
    assert document("recover")["outcome"] == "nothing"
    assert until(lambda: is_ended(run_dir))


def test_what_others_added_meanwhile_is_kept(before: State, lan: Netns) -> None:
    document("up", "--confirm", "60", "--no-wait")
    run("ip", "addr", "add", "198.51.100.7/24", "dev", "br0")
    run("ip", "route", "add", "203.0.113.0/24", "via", "192.0.2.9")
    run("ip", "neigh", "add", "192.0.2.44", "lladdr", "02:00:00:00:00:44", "dev", "br0", "nud", "permanent")
    run("ip", "link", "add", "other0", "type", "dummy", check=False)
    document("rollback")
    assert "198.51.100.7/24" in run("ip", "-br", "addr", "show", "dev", "eth0").stdout
    assert "via 192.0.2.9 dev eth0" in run("ip", "route", "show", "203.0.113.0/24").stdout
    assert "PERMANENT" in run("ip", "neigh", "show", "192.0.2.44", "dev", "eth0").stdout
    for words in (
        ["addr", "del", "198.51.100.7/24", "dev", "eth0"],
        ["neigh", "del", "192.0.2.44", "dev", "eth0"],
        ["route", "del", "203.0.113.0/24"],
    ):
        run("ip", *words)
    assert is_as(before)
    assert ping(lan, "192.0.2.2") and ping(lan, "2001:db8::2")


@pytest.mark.parametrize("way", ["full", "read-only"])
def test_without_room_for_a_journal_nothing_is_touched(way: str, before: State, run_dir: Path) -> None:
    run_dir.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=64k", "none", run_dir)
    try:
        if way == "full":
            with open(run_dir / "fill", "wb") as file:
                file.write(bytes(64 << 10))
        else:
            run("mount", "-o", "remount,ro", run_dir)
        for words in (["up"], ["up", "--confirm", "5"]):
            assert document(*words, exit_code=3)["findings"][0]["code"] == "no-journal"
            assert is_as(before)
        assert until(lambda: not guardians())
    finally:
        run("umount", run_dir)


def test_a_rollback_that_is_killed_has_begun_all_the_same(before: State, run_dir: Path, tmp_path: Path) -> None:
    """It does not wait to be confirmed any more, and recover finishes it."""
    document("up", "--confirm", "60", "--no-wait")
    inject = ["-e", "trace=sendto", "-e", "inject=sendto:signal=SIGKILL:when=16"]
    assert run("strace", "-o", tmp_path / "strace", *inject, *PROGRAM, "rollback", check=False).returncode != 0
    assert not is_as(before)
    assert pending() is None
    assert document("confirm", exit_code=3)["findings"][0]["code"] == "nothing-pending"
    document("recover")
    assert is_as(before)
    assert until(lambda: is_ended(run_dir))


def test_a_confirm_that_is_killed_leaves_no_guardian(before: State, run_dir: Path, tmp_path: Path) -> None:
    document("up", "--confirm", "60", "--no-wait")
    inject = ["-e", "trace=unlink", "-e", "inject=unlink:signal=SIGKILL:when=2"]
    assert run("strace", "-o", tmp_path / "strace", *inject, *PROGRAM, "confirm", check=False).returncode != 0
    assert document("recover")["outcome"] == "nothing"
    assert not is_as(before)
    assert until(lambda: is_ended(run_dir))


def test_neighbours_are_known_when_the_routes_come_back(lan: Netns) -> None:
    document("up", "--confirm", "60", "--no-wait")
    peers = {"192.0.2.1", "2001:db8::1"}
    for peer in peers:
        run("ping", "-c", "1", "-W", "1", peer)
    run("ip", "neigh", "flush", "dev", "eth0")  # as a port, it asks in vain
    document("rollback")
    assert learnt("eth0") >= peers
