"""`ps --watch`: again and again, in place on a terminal, a document a line with --json, and a clean end."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from kit.command import run
from kit.frames import MAC, arp, await_ears
from kit.holders import Processes, attach, tapbridge, unprivileged, write


@contextmanager
def watching(*words: str, **more: Any) -> Iterator[subprocess.Popen[str]]:
    """`ps --watch` as a process."""
    started = subprocess.Popen(
        [*more.pop("prefix", ()), sys.executable, "-m", "tapbridge", "ps", *words],
        text=True,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more},
    )
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


def next_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def documents(process: subprocess.Popen[str], count: int) -> list[dict[str, Any]]:
    return [json.loads(next_line(process)) for _ in range(count)]


def awaited(process: subprocess.Popen[str], known: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """The first document of which this is so: some were printed before what the test did last."""
    for _ in range(100):
        found = documents(process, 1)[0]
        if known(found):
            return found
    raise AssertionError(found)


def nics(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [nic for guest in document["guests"] for nic in guest["nics"]]


def test_each_line_is_a_document_and_an_interrupt_ends_it_cleanly(processes: Processes) -> None:
    process = processes.hold("ta")
    attach("ta")
    with watching("--json", "--watch=0.2") as started:
        first = documents(started, 1)[0]
        assert await_ears(1)
        write(process, "ta", arp("192.0.2.31"))
        later = documents(started, 10)
        started.send_signal(signal.SIGINT)
        rest, errors = started.communicate(timeout=10)
    assert first["guests"][0]["nics"][0]["addresses"] == []
    (address,) = later[-1]["guests"][0]["nics"][0]["addresses"]
    assert (address["ip"], address["source"]) == ("192.0.2.31", "arp")
    assert later[-1]["guests"][0]["nics"][0]["mac"] == MAC
    assert all(json.loads(line)["schema"] == 1 for line in rest.splitlines())
    assert (started.returncode, "Traceback" in errors) == (130, False)


def test_a_guest_that_comes_is_followed_and_one_that_goes_is_forgotten(processes: Processes) -> None:
    with watching("--json", "--watch=0.2") as started:
        assert documents(started, 1)[0]["guests"] == []
        process = processes.hold("ta")
        attach("ta")
        assert await_ears(1)
        write(process, "ta", arp("192.0.2.31"))
        heard = awaited(started, lambda told: any(nic["addresses"] for nic in nics(told)))
        assert nics(heard)[0]["addresses"][0]["ip"] == "192.0.2.31"
        process.kill()
        process.wait()
        successor = processes.hold("ta")  # a namesake, which has said nothing
        awaited(started, lambda told: [guest["pid"] for guest in told["guests"]] == [successor.pid])
        (guest,) = documents(started, 3)[-1]["guests"]
    assert (guest["pid"], guest["nics"][0]["addresses"]) == (successor.pid, [])


def test_a_pipe_gets_columns_with_a_blank_line_between_and_a_note_once(processes: Processes) -> None:
    processes.hold("ta")
    attach("ta")
    with watching("--watch=0.1", prefix=unprivileged()) as started:
        lines = [next_line(started) for _ in range(8)]
        assert started.stdout is not None
        started.stdout.close()  # whoever has read enough ends it
        assert started.wait(timeout=10) == 141
        assert started.stderr is not None
        errors = started.stderr.read()
    assert [line.split()[4:5] for line in lines] == [["TAP"], ["ta"], []] * 2 + [["TAP"], ["ta"]]
    assert errors.count("CAP_NET_RAW") == 1


def test_a_terminal_is_updated_in_place(processes: Processes) -> None:
    processes.hold("ta")
    attach("ta")
    ours, theirs = pty.openpty()
    try:
        termios.tcsetwinsize(theirs, (24, 160))
        environment = {**os.environ, "NO_COLOR": "1", "TERM": "xterm"}
        for name in ("COLUMNS", "LINES"):
            environment.pop(name, None)
        with watching("--watch=0.1", stdout=theirs, stderr=theirs, env=environment) as started:
            said = b""
            while said.count(b"GUEST") < 3:
                said += os.read(ours, 65536)
            started.send_signal(signal.SIGINT)
            assert started.wait(timeout=10) == 130
    finally:
        os.close(ours)
        os.close(theirs)
    first, second, *_ = said.decode().split("\x1b[?7h\r\n")
    assert first.startswith("\r\x1b[J\x1b[?7lGUEST")
    lines = len(first.split("\r\n"))  # the heading, the guest, and what is said of others on the same machine
    assert second.startswith(f"\x1b[{lines}A\r\x1b[J\x1b[?7lGUEST")


@pytest.mark.parametrize("words", [("--watch=0",), ("--watch=soon",), ("--watch", "--listen=1"), ("--watch", "1", "x")])
def test_what_cannot_be_watched_is_a_usage_error(processes: Processes, words: tuple[str, ...]) -> None:
    assert tapbridge("ps", *words, check=False).returncode == 2


def test_a_link_that_is_renamed_is_followed_under_its_new_name(processes: Processes) -> None:
    process = processes.hold("ta")
    attach("ta")
    with watching("--json", "--watch=0.2") as started:
        documents(started, 1)
        assert await_ears(1)
        run("ip", "link", "set", "ta", "name", "tz")
        awaited(started, lambda told: [nic["tap"] for nic in nics(told)] == ["tz"])  # its ear is open by then
        write(process, "ta", arp("192.0.2.31"))
        (guest,) = awaited(started, lambda told: any(nic["addresses"] for nic in nics(told)))["guests"]
    assert [(nic["tap"], nic["addresses"][0]["ip"]) for nic in guest["nics"]] == [("tz", "192.0.2.31")]
