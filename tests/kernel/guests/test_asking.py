"""QEMU and guests' agents are asked where they answer at once, and nobody waits for the others."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kit.command import run
from kit.frames import MAC, OTHER
from kit.holders import Processes, attach, by_link, look
from tapbridge.guests.ask import Question, ask
from tapbridge.model.guest import Guest, GuestNic

Namer = Callable[[str], str]
SECOND = OTHER.hex(":")

# Holds the tap ta as a QEMU would, and lets one client after the other have what its first argument says.
STAND_IN = """
import fcntl, os, socket, struct, sys
tap = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tap, 0x400454CA, struct.pack("16sH22x", b"ta", 0x1002))
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[2])
server.listen(1)
print("ready", flush=True)
while True:
    client, _ = server.accept()
    try:
        if sys.argv[1] == "answer":
            number = client.recv(4096).partition(b'"id": ')[2].partition(b"}")[0].decode()
            client.sendall(f'{{"return": {number}}}\\n{sys.argv[3]}\\n'.encode())
        while sys.argv[1] == "flood":
            client.sendall(b"[" * 65536)
    except OSError:
        continue
    silent = client
"""
LISTENER = """
import socket, sys
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen()
print("ready", flush=True)
for _ in range(2):
    client = server.accept()[0]
    print(client.recv(99), flush=True)
    try:
        client.sendall(b'{"return": 1}\\n')
    except BrokenPipeError:
        pass
"""
CARDS = [{"hardware-address": MAC, "ip-addresses": [{"ip-address": "192.0.2.31", "prefix": 24}]}]


def look_until(known: Callable[[GuestNic], object]) -> dict[str, tuple[Guest, GuestNic]]:
    """What is known once this is known of every NIC: a busy machine may be too slow for one look."""
    for _ in range(20):
        found = by_link(look())
        if all(known(nic) for _, nic in found.values()):
            break
    return found


def test_qemu_tells_what_its_command_line_does_not(processes: Processes, tmp_path: Path) -> None:
    path = tmp_path / "monitor"
    process = processes.qemu(
        *("-nic", "tap,ifname=ta,script=no,downscript=no,model=e1000"),
        *("-nic", "tap,ifname=tb,script=no,downscript=no,model=virtio-net-pci"),
        *("-qmp", f"unix:{path},server=on,wait=off"),
    )
    found = look_until(lambda nic: nic.mac_source == "qmp")
    assert {link: nic.mac_source for link, (_, nic) in found.items()} == {"ta": "qmp", "tb": "qmp"}
    assert {nic.mac for _, nic in found.values()} == {"52:54:00:12:34:56", "52:54:00:12:34:57"}
    assert process.poll() is None


def test_a_card_that_was_plugged_in_later_is_known(processes: Processes, tmp_path: Path) -> None:
    path = tmp_path / "monitor"
    processes.qemu(
        *("-nic", f"tap,ifname=ta,script=no,downscript=no,model=e1000,mac={MAC}"),
        *("-qmp", f"unix:{path},server=on,wait=off"),
    )
    netdev = {"type": "tap", "id": "n1", "ifname": "tb", "script": "no", "downscript": "no"}
    card = {"driver": "virtio-net-pci", "id": "c1", "netdev": "n1", "mac": SECOND}
    with socket.socket(socket.AF_UNIX) as manager:
        manager.connect(str(path))
        commands: tuple[tuple[str, dict[str, str]], ...] = (
            ("qmp_capabilities", {}),
            ("netdev_add", netdev),
            ("device_add", card),
        )
        with manager.makefile("r") as answers:
            for name, arguments in commands:
                manager.sendall(json.dumps({"execute": name, "arguments": arguments}).encode() + b"\n")
                while '"return"' not in (line := answers.readline()):
                    assert '"error"' not in line
    found = {link: (nic.mac, nic.mac_source) for link, (_, nic) in look_until(lambda nic: nic.mac).items()}
    assert found == {"ta": (MAC, "command-line"), "tb": (SECOND, "qmp")}


def test_a_monitor_in_use_is_left_alone(processes: Processes, tmp_path: Path) -> None:
    path = tmp_path / "monitor"
    processes.qemu(
        *("-nic", f"tap,ifname=ta,script=no,downscript=no,model=e1000,mac={MAC}"),
        *("-nic", "tap,ifname=tb,script=no,downscript=no,model=e1000"),
        *("-qmp", f"unix:{path},server=on,wait=off"),
    )
    with socket.socket(socket.AF_UNIX) as manager:
        manager.connect(str(path))
        assert manager.recv(4096).startswith(b'{"QMP"')
        began = time.monotonic()
        found = by_link(look())
        assert time.monotonic() - began < 5
        assert {link: nic.mac for link, (_, nic) in found.items()} == {"ta": MAC, "tb": None}
        manager.sendall(b'{"execute": "qmp_capabilities"}\n')
        assert b"return" in manager.recv(4096)


def stand_in(processes: Processes, called: Namer, kind: str, socket_path: Path, *words: str) -> None:
    """A process that looks like a QEMU whose guest has an agent."""
    processes.start(
        *(called("qemu-system-x86_64"), "-c", STAND_IN, kind, str(socket_path), *words, "-name", "web"),
        *("-nic", f"tap,ifname=ta,mac={MAC}"),
        *("-chardev", f"socket,id=a,path={socket_path},server=on,wait=off"),
        *("-device", "virtserialport,chardev=a,name=org.qemu.guest_agent.0"),
        until="ready",
        env={"PYTHONHOME": sys.base_prefix},
    )
    attach("ta")


def test_an_agent_tells_its_guest_s_addresses_and_name(processes: Processes, tmp_path: Path, called: Namer) -> None:
    told = f"{json.dumps({'return': CARDS})}\n{json.dumps({'return': {'host-name': 'db'}})}"
    stand_in(processes, called, "answer", tmp_path / "agent", told)
    guest, nic = look_until(lambda nic: nic.addresses)["ta"]
    assert (guest.name, guest.hypervisor) == ("web", "qemu")
    (address,) = nic.addresses
    assert (address.ip, address.source, address.hostname, address.prefix) == ("192.0.2.31", "agent", "db", 24)


@pytest.mark.parametrize("kind", ["silent", "flood"])
def test_nobody_waits_for_an_agent(processes: Processes, tmp_path: Path, called: Namer, kind: str) -> None:
    stand_in(processes, called, kind, tmp_path / "agent")
    run("ip", "neigh", "add", "192.0.2.32", "lladdr", MAC, "dev", "br0", "nud", "stale")
    began = time.monotonic()
    found = look()
    assert time.monotonic() - began < 5
    assert [item.source for item in by_link(found)["ta"][1].addresses] == ["neighbour"]


def test_only_the_process_that_named_a_socket_is_asked(processes: Processes, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    listener = processes.start(sys.executable, "-c", LISTENER, str(path), until="ready")
    assert ask([Question(pid=os.getpid(), path=str(path), text=b"secret\n")]) == [()]
    assert listener.stdout is not None
    assert listener.stdout.readline() == "b''\n"
    assert ask([Question(pid=listener.pid, path=str(path), text=b"hello\n")], patience_s=10) == [({"return": 1},)]


def test_what_cannot_be_asked_takes_no_time(tmp_path: Path) -> None:
    began = time.monotonic()
    paths = [str(tmp_path / "nobody"), "/x" * 200, "", "/\0"]
    assert ask([Question(pid=1, path=path, text=b"\n") for path in paths], patience_s=60) == [()] * 4
    assert time.monotonic() - began < 20
