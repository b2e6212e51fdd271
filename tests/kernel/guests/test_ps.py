"""`tapbridge ps` as a process: its text, its JSON, its exits."""

from __future__ import annotations

import json
import os
import pty
import sys
import termios

import pytest

from kit.command import run
from kit.holders import Processes, attach, listed, tapbridge, unprivileged, write

MAC = "52:54:00:aa:bb:01"
FRAME = bytes.fromhex("ffffffffffff525400aabb0188b5") + bytes(46)


@pytest.fixture
def web(processes: Processes) -> int:
    """A QEMU named web on a port of br0; its PID."""
    process = processes.qemu("-name", "web", "-nic", f"tap,ifname=ta,script=no,downscript=no,model=e1000,mac={MAC}")
    attach("ta")
    return process.pid


def test_the_document_has_the_keys_of_the_contract(processes: Processes, web: int) -> None:
    run("ip", "neigh", "add", "192.0.2.31", "lladdr", MAC, "dev", "br0", "nud", "stale")
    document = listed()
    nic = document["guests"][0].pop("nics")[0]
    traffic = nic.pop("rx_bytes"), nic.pop("tx_bytes")
    age = nic["addresses"][0].pop("age")
    assert document == {
        "schema": 1,
        "guests": [
            {"name": "web", "pid": web, "uid": os.geteuid(), "hypervisor": "qemu", "program": "qemu-system-x86_64"}
        ],
        "findings": [],
    }
    assert nic == {
        "tap": "ta",
        "kind": "tap",
        "bridge": "br0",
        "mac": MAC,
        "mac_source": "command-line",
        "vlan": None,
        "rate": None,
        "guard": None,
        "addresses": [
            {
                "ip": "192.0.2.31",
                "hostname": None,
                "prefix": None,
                "family": 4,
                "source": "neighbour",
                "dynamic": None,
                "valid_lft": None,
                "preferred_lft": None,
            }
        ],
    }
    assert all(isinstance(count, int) for count in traffic)
    assert age >= 60  # nobody has confirmed it


def test_a_script_gets_plain_columns(processes: Processes, web: int) -> None:
    headings, row = tapbridge("ps").stdout.splitlines()
    assert " ".join(headings.split()) == "GUEST PID UID HYPERVISOR TAP BRIDGE MAC ADDRESS SOURCE RX TX VLAN RATE GUARD"
    assert row.split()[:9] == ["web", str(web), str(os.geteuid()), "qemu", "ta", "br0", MAC, "-", "-"]


@pytest.mark.parametrize(("columns", "first"), [(160, "GUEST"), (60, "web  qemu, PID ")])
def test_a_terminal_gets_a_table_that_fits(processes: Processes, web: int, columns: int, first: str) -> None:
    lines = on_terminal(columns, "ps")
    assert lines[0].startswith(first)
    assert all(len(line) <= columns for line in lines)


def on_terminal(columns: int, *words: str) -> list[str]:
    """What the program prints on a terminal without colours."""
    ours, theirs = pty.openpty()
    try:
        termios.tcsetwinsize(theirs, (24, columns))
        import subprocess

        environment = {**os.environ, "NO_COLOR": "1"}
        environment.pop("COLUMNS", None)
        subprocess.run(
            [sys.executable, "-m", "tapbridge", *words],
            stdout=theirs,
            env=environment,
            check=True,
            timeout=30,
            stdin=subprocess.DEVNULL,
        )
        return os.read(ours, 65536).decode().split("\r\n")[:-1]
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_host_without_taps_has_no_guests(processes: Processes) -> None:
    assert listed() == {"schema": 1, "guests": [], "findings": []}
    assert len(tapbridge("ps").stdout.splitlines()) == 1
    assert on_terminal(80, "ps") == ["no guest: there is no tap in this network namespace"]


def test_a_hostile_name_neither_breaks_json_nor_reaches_the_terminal(processes: Processes) -> None:
    processes.qemu(
        "-name",
        b"\xff\x1b[31m\n\xe2\x80\xae".decode("utf-8", "surrogateescape"),
        "-nic",
        "tap,ifname=ta,script=no,downscript=no",
    )
    assert listed()["guests"][0]["name"] == "\\xff\x1b[31m\n\u202e"
    for text in (tapbridge("ps").stdout, "\n".join(on_terminal(160, "ps"))):
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert len(text.splitlines()) == 2


def test_a_link_s_name_that_is_no_utf_8_does_not_break_json(processes: Processes) -> None:
    processes.hold("t\udcff")
    assert listed()["guests"][0]["nics"][0]["tap"] == "t\udcff"
    assert "t\\xff" in tapbridge("ps").stdout


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "3601", "soon", ""])
def test_a_time_that_is_none_is_a_usage_error(processes: Processes, text: str) -> None:
    assert tapbridge("ps", f"--listen={text}", check=False).returncode == 2


def test_a_user_sees_what_can_be_seen_and_is_told_the_rest(processes: Processes) -> None:
    process = processes.hold("ta")
    attach("ta")
    write(process, "ta", FRAME)
    run("ip", "neigh", "add", "192.0.2.31", "lladdr", MAC, "dev", "br0", "nud", "stale")
    document = listed(prefix=unprivileged())
    (guest,) = document["guests"]
    assert (guest["name"], guest["pid"]) == (None, None)
    nic = guest["nics"][0]
    assert (nic["tap"], nic["bridge"], nic["mac"], nic["addresses"][0]["ip"]) == ("ta", "br0", MAC, "192.0.2.31")
    assert [(finding["code"], finding["severity"]) for finding in document["findings"]] == [("holders-hidden", "info")]


def test_a_user_may_not_listen(processes: Processes) -> None:
    processes.hold("ta")
    done = run(*unprivileged(), sys.executable, "-m", "tapbridge", "ps", "--json", "--listen=1", check=False)
    assert done.returncode == 5
    assert json.loads(done.stdout)["findings"][0]["code"] == "not-permitted"
