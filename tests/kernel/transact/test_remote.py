"""Who came in through the NIC that changes has a window without asking for one, and what counts as his way in."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kit.changes import PROGRAM, document, guardians, is_as, pending, started, until
from kit.command import run
from kit.netns import Netns
from tapbridge.model.state import State

PORT = 2222
# Takes one connection and runs the command, as sshd does; with a terminal of its own where the first word says so.
DOOR = f"""
import pty, socket, subprocess, sys
door = socket.create_server(("", {PORT}))
print("ready", flush=True)
flow, _ = door.accept()
if sys.argv[1] == "terminal":
    sys.exit(pty.spawn(sys.argv[2:], stdin_read=lambda fd: b"") >> 8)
sys.exit(subprocess.run(sys.argv[2:], stdin=subprocess.DEVNULL).returncode)
"""


@contextmanager
def logged_in(lan: Netns, terminal: str, *words: str) -> Iterator[tuple[subprocess.Popen[str], socket.socket]]:
    """The program as run by somebody who has come in from the LAN."""
    line = [sys.executable, "-c", DOOR, terminal, *PROGRAM, *words]
    door = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert door.stdout is not None and door.stdout.readline() == "ready\n"
        with lan.entered():
            client = socket.create_connection(("192.0.2.2", PORT), timeout=5)
        with client:
            yield door, client
    finally:
        door.kill()
        door.communicate()


def test_on_a_terminal_it_waits_a_minute(before: State, lan: Netns) -> None:
    with logged_in(lan, "terminal", "up"):
        assert until(pending)
        told = pending()
        assert told is not None and 50 < told["confirm_in_s"] <= 60
        document("rollback")
    assert is_as(before)


def test_without_a_terminal_its_proof_keeps_it(before: State, lan: Netns) -> None:
    with logged_in(lan, "none", "up", "-v") as (door, _):
        out, err = door.communicate(timeout=20)
        assert door.returncode == 0, err
    assert "is a port of the bridge" in out
    assert not is_as(before)
    assert until(lambda: not guardians())


def test_a_visitor_who_cannot_be_reached_any_more_takes_it_back(before: State, lan: Netns) -> None:
    chain = "type filter hook prerouting priority 0;\niifname eth0 tcp flags & (syn | rst) != 0 drop\n"
    run("nft", "-f", "-", stdin=f"table bridge t {{\nchain c {{\n{chain}}}\n}}\n")
    with logged_in(lan, "none", "up", "--yes") as (door, _):
        out, err = door.communicate(timeout=20)
        assert door.returncode == 1, out
    assert "192.0.2.1, from where you are logged in, can no longer be reached" in err
    assert is_as(before)


def test_who_did_not_come_in_through_it_has_no_window(before: State) -> None:
    assert document("up")["outcome"] == "done"
    assert pending() is None
    assert not is_as(before)


@pytest.mark.parametrize("comes", [True, False])
def test_a_new_connection_from_outside_is_part_of_the_proof(comes: bool, before: State, lan: Netns) -> None:
    with socket.create_server(("", PORT)), started("up", "--require-inbound", "--json") as up:
        assert until(pending)
        if comes:
            with lan.entered():
                client = socket.create_connection(("192.0.2.2", PORT), timeout=5)
            with client:
                out, _ = up.communicate(timeout=10)
            assert '"code": "inbound-seen"' in out
            assert up.returncode == 0
        else:
            document("rollback")
    assert is_as(before) is not comes


@pytest.mark.parametrize(
    "words", [["--confirm", "5000"], ["--confirm", "soon"], ["--confirm", "5", "--require-inbound"]]
)
def test_what_makes_no_sense_is_a_usage_error(words: list[str], before: State, run_dir: Path) -> None:
    assert document("up", *words, exit_code=2)["findings"][0]["code"] == "usage"
    assert is_as(before)
    assert not run_dir.exists()
