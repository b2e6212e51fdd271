"""`ps --wait-ip`: it returns as soon as an address is known, and says why it does not."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kit.command import run
from kit.frames import ALL, MAC, RAW, announcement, arp, await_ears, dhcp_request
from kit.holders import Processes, attach, dhcp_server, tapbridge, unprivileged, write

SOON_S = 2.0
LOADED_S = 10.0  # with the start of a process in it, or a second's round; half of what it is given
FRAME = ALL + RAW + b"\x88\xb5" + bytes(46)


def wait_ip(*words: str) -> subprocess.Popen[str]:
    """`ps --wait-ip` as a process; it is given 20 s."""
    return subprocess.Popen(
        [sys.executable, "-m", "tapbridge", "ps", "--timeout=20", "--wait-ip", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def answer(waiting: subprocess.Popen[str], asked: float, within_s: float = SOON_S) -> str:
    """What it said, which must be soon."""
    out, errors = waiting.communicate(timeout=30)
    assert time.monotonic() - asked < within_s
    assert (waiting.returncode, errors) == (0, "")
    return out


def guest(processes: Processes) -> subprocess.Popen[str]:
    """A process with a tap on the bridge, which has learnt its MAC."""
    process = processes.hold("ta", "tb")
    attach("ta", "tb")
    write(process, "ta", FRAME)
    return process


def test_the_dhcp_acknowledgement_is_heard_without_any_lease_file(processes: Processes) -> None:
    run("ip", "addr", "add", "192.0.2.1/24", "dev", "br0")
    process = guest(processes)
    dhcp_server(processes, None)
    waiting = wait_ip("ta")
    assert await_ears(2)  # the server's own, and one on each tap of the guest
    asked = time.monotonic()
    write(process, "ta", dhcp_request("192.0.2.60"))
    assert answer(waiting, asked) == "192.0.2.60\n"


def test_a_real_guest_is_known_as_soon_as_it_has_its_address(processes: Processes) -> None:
    run("ip", "addr", "add", "192.0.2.1/24", "dev", "br0")
    dhcp_server(processes, None)
    run("ip", "tuntap", "add", "ta", "mode", "tap")
    attach("ta")
    processes.start(
        *("qemu-system-x86_64", "-accel", "tcg", "-m", "64", "-display", "none", "-qmp", "stdio", "-boot", "n"),
        *("-name", "ipxe", "-nic", f"tap,ifname=ta,script=no,downscript=no,model=e1000,mac={MAC}"),
        until='{"QMP"',
    )
    words = (sys.executable, "-m", "tapbridge", "ps", "--wait-ip", "ipxe", "--timeout=110", "--json")
    document = json.loads(run(*words, timeout_s=120).stdout)
    assert document["ip"].startswith("192.0.2.")
    (address,) = (item for item in document["guests"][0]["nics"][0]["addresses"] if item["family"] == 4)
    assert (address["source"], address["prefix"], address["age"] <= SOON_S) == ("dhcp", 24, True)


@pytest.mark.parametrize(
    ("frame", "ip"),
    [(arp("192.0.2.31"), "192.0.2.31"), (announcement("2001:db8::31"), "2001:db8::31")],
    ids=["arp", "nd"],
)
def test_what_the_guest_says_itself_is_enough(processes: Processes, frame: bytes, ip: str) -> None:
    process = guest(processes)
    waiting = wait_ip("ta", "--json")
    assert await_ears(2)
    asked = time.monotonic()
    write(process, "ta", announcement("fe80::31"), arp("169.254.7.7"), frame)
    document = json.loads(answer(waiting, asked))
    assert (document["ip"], document["findings"]) == (ip, [])
    assert document["guests"][0]["pid"] == process.pid


def test_what_is_known_already_is_said_at_once(processes: Processes) -> None:
    guest(processes)
    run("ip", "neigh", "add", "2001:db8::31", "lladdr", MAC, "dev", "br0", "nud", "stale")
    run("ip", "neigh", "add", "192.0.2.31", "lladdr", MAC, "dev", "br0", "nud", "stale")
    asked = time.monotonic()
    assert answer(wait_ip("ta"), asked, LOADED_S) == "192.0.2.31\n"


def test_a_lease_that_is_written_meanwhile_is_read(processes: Processes, tmp_path: Path) -> None:
    guest(processes)
    leases = tmp_path / "leases"
    processes.start("dnsmasq", "--conf-file=/dev/null", "-d", "--port=0", "--user=root", f"--dhcp-leasefile={leases}")
    waiting = wait_ip("ta")
    assert await_ears(2)
    asked = time.monotonic()
    leases.write_text(f"0 {MAC} 192.0.2.31 web *\n")
    assert answer(waiting, asked, LOADED_S) == "192.0.2.31\n"


def test_a_user_who_may_not_listen_waits_for_what_the_host_learns(processes: Processes) -> None:
    process = processes.hold("ta")
    attach("ta")
    write(process, "ta", FRAME)
    prefix = unprivileged()
    silent = tapbridge("ps", "--wait-ip", "ta", "--timeout=0.3", prefix=prefix, check=False)
    assert silent.returncode == 1
    assert "CAP_NET_RAW" in silent.stderr
    run("ip", "neigh", "add", "192.0.2.31", "lladdr", MAC, "dev", "br0", "nud", "stale")
    assert tapbridge("ps", "--wait-ip", "ta", prefix=prefix).stdout == "192.0.2.31\n"


def test_a_guest_that_says_nothing_is_given_up_in_time(processes: Processes) -> None:
    guest(processes)
    asked = time.monotonic()
    silent = tapbridge("ps", "--wait-ip", "ta", "--timeout", "0.5", "--json", check=False)
    assert 0.5 < time.monotonic() - asked < LOADED_S
    assert silent.returncode == 1
    (finding,) = json.loads(silent.stdout)["findings"]
    assert (finding["code"], finding["message"]) == ("no-address", "no address of ta is known after 0.5 s")


def test_a_guest_that_ends_is_waited_for_no_longer(processes: Processes) -> None:
    process = guest(processes)
    waiting = wait_ip("ta")
    assert await_ears(2)
    process.kill()
    process.wait()
    _, errors = waiting.communicate(timeout=10)
    assert waiting.returncode == 1
    assert errors.startswith("error: ta has ended")


def test_a_guest_that_is_not_there_is_refused(processes: Processes) -> None:
    guest(processes)
    unknown = tapbridge("ps", "--wait-ip", "web", "--json", check=False)
    assert unknown.returncode == 3
    assert json.loads(unknown.stdout)["findings"][0]["code"] == "no-such-guest"


def test_of_two_guests_of_one_name_the_tap_tells(processes: Processes) -> None:
    first, _ = processes.hold("ta"), processes.hold("tb")
    attach("ta", "tb")
    name = "tapbridge guest=web"
    for tap in ("ta", "tb"):
        run("ip", "link", "set", tap, "alias", name)
    run("ip", "neigh", "add", "192.0.2.31", "lladdr", MAC, "dev", "br0", "nud", "stale")
    write(first, "ta", FRAME)
    twice = tapbridge("ps", "--wait-ip", "web", check=False)
    assert twice.returncode == 3
    assert "hint: name the guest by its tap, one of ta, tb" in twice.stderr
    for one in ("ta", str(first.pid)):
        assert tapbridge("ps", "--wait-ip", one).stdout == "192.0.2.31\n"


@pytest.mark.parametrize("words", [("--timeout=5",), ("--wait-ip=a", "--listen=5"), ("--wait-ip=a", "--timeout=0")])
def test_options_that_make_no_sense_together_are_a_usage_error(processes: Processes, words: tuple[str, ...]) -> None:
    assert tapbridge("ps", *words, check=False).returncode == 2


def test_a_macvtap_s_guest_is_heard_and_its_wire_is_not(processes: Processes, macvtap: int) -> None:
    waiting = wait_ip("mt0")
    assert await_ears(1)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind(("v1", 0))
        wire.send(arp("192.0.2.66"))  # a neighbour who lies about its card
    asked = time.monotonic()
    os.write(macvtap, bytes(10) + arp("192.0.2.31"))  # behind a virtio_net_hdr
    assert answer(waiting, asked) == "192.0.2.31\n"
