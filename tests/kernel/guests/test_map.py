"""Which process holds which tap: the truth on a real kernel, with real guests."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kit.brokers import until
from kit.command import run
from kit.holders import Processes, attach, by_link, look, make_bridge, read, said, write
from kit.netns import new_netns

MAC = "52:54:00:aa:bb:01"
FRAME = bytes.fromhex("ffffffffffff52540000000588b5") + bytes(46)


def open_tap(name: str, flags: int = 0x1002) -> int:
    """A descriptor attached to a new tap, in the namespace of this thread."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", name.encode(), flags))  # TUNSETIFF
    return fd


def test_any_process_that_holds_taps_is_a_guest(processes: Processes) -> None:
    process = processes.hold("ta", "tb", "tq:", "tq:")
    attach("ta", "tq")
    found = by_link(look())
    assert sorted(found) == ["ta", "tb", "tq"]
    guest, nic = found["ta"]
    assert (guest.pid, guest.uid, guest.hypervisor, nic.bridge) == (process.pid, os.geteuid(), "other", "br0")
    assert guest.program is not None
    assert guest.program.startswith("python")
    assert found["tb"] == (guest, found["tb"][1])
    assert found["tb"][1].bridge is None
    assert len(guest.nics) == 3


def test_qemu_is_known_by_name_and_by_the_macs_of_its_three_nics(processes: Processes) -> None:
    fd = open_tap("tfd")
    process = processes.qemu(
        *("-name", "guest=web,debug-threads=on"),
        *("-netdev", "tap,id=a,ifname=tname,script=no,downscript=no", "-device", f"e1000,netdev=a,mac={MAC}"),
        *("-netdev", f"tap,id=b,fd={fd}", "-device", "virtio-net-pci,netdev=b,mac=52:54:00:aa:bb:02"),
        *("-netdev", "tap,id=c,script=no,downscript=no", "-device", "e1000,netdev=c,mac=52:54:00:aa:bb:03"),
        pass_fds=(fd,),
    )
    os.close(fd)
    found = by_link(look())
    assert {guest.pid for guest, _ in found.values()} == {process.pid}
    assert {(guest.name, guest.hypervisor) for guest, _ in found.values()} == {("web", "qemu")}
    assert {link: nic.mac for link, (_, nic) in found.items()} == {
        "tname": MAC,
        "tfd": "52:54:00:aa:bb:02",
        "tap0": "52:54:00:aa:bb:03",
    }


def test_a_command_line_like_libvirt_s_is_understood(processes: Processes) -> None:
    fds = [open_tap("vnet0", 0x5102) for _ in range(2)]  # two queues, with vnet_hdr
    netdev = {"type": "tap", "fds": ":".join(map(str, fds)), "id": "hostnet0"}
    card = {"driver": "virtio-net-pci", "mq": True, "netdev": "hostnet0", "id": "net0", "mac": MAC}
    process = processes.qemu(
        *("-name", "guest=debian12", "-netdev", json.dumps(netdev), "-device", json.dumps(card)),
        pass_fds=fds,
    )
    for fd in fds:
        os.close(fd)
    ((guest, nic),) = by_link(look()).values()
    assert (guest.name, guest.pid, nic.link, nic.mac) == ("debian12", process.pid, "vnet0", MAC)


def test_a_guest_of_multipass_is_called_as_there(processes: Processes, tmp_path: Path) -> None:
    disk = tmp_path / "multipassd/vault/instances/primary/disk.img"
    disk.parent.mkdir(parents=True)
    disk.write_bytes(bytes(1 << 20))
    processes.qemu(
        *("-nic", f"tap,ifname=tap-4b63de,script=no,downscript=no,model=e1000,mac={MAC}"),
        *("-drive", f"file={disk},if=none,format=raw,id=hda"),
    )
    assert [(guest.name, guest.hypervisor) for guest in look().guests] == [("primary", "qemu")]


HOLDS = """
import fcntl, os, struct, sys
tap = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tap, 0x400454CA, struct.pack("16sH22x", b"ta", 0x1002))
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("program", "words", "mac"),
    [
        ("firecracker", ("--id=web", "--api-sock", "/run/firecracker.socket"), None),
        ("cloud-hypervisor", ("--api-socket", "/run/vms/web/api.sock", "--net", f"tap=ta,mac={MAC}"), MAC),
        ("crosvm", ("run", "--name", "web", "--net", f"tap-name=ta,mac={MAC}"), MAC),
    ],
)
def test_other_hypervisors_are_known_by_their_names(
    processes: Processes, called: Callable[[str], str], program: str, words: tuple[str, ...], mac: str | None
) -> None:
    stand_in = (called(program), "-c", HOLDS, *words)
    process = processes.start(*stand_in, until="ready", env={"PYTHONHOME": sys.base_prefix})
    ((guest, nic),) = by_link(look()).values()
    assert (guest.name, guest.hypervisor, guest.pid, nic.mac) == ("web", program, process.pid, mac)


def test_two_guests_of_one_launcher_that_keeps_their_taps_are_two_guests(processes: Processes) -> None:
    fds = {name: open_tap(name) for name in ("ta", "tb")}  # this process stays a holder of both
    try:
        started = {
            name: processes.qemu("-name", name, "-nic", f"tap,fd={fd}", pass_fds=(fd,)).pid for name, fd in fds.items()
        }
        found = by_link(look())
        assert {link: guest.pid for link, (guest, _) in found.items()} == started
        assert {link: guest.name for link, (guest, _) in found.items()} == {"ta": "ta", "tb": "tb"}
    finally:
        for fd in fds.values():
            os.close(fd)


def test_a_persistent_tap_without_a_holder_is_shown_as_such(processes: Processes) -> None:
    run("ip", "tuntap", "add", "tp", "mode", "tap")
    attach("tp")
    found = look()
    assert [(guest.name, guest.pid, guest.nics[0].link) for guest in found.guests] == [(None, None, "tp")]
    assert said(found) == []


def test_a_tun_is_no_guest_s(processes: Processes) -> None:
    fd = open_tap("vpn0", 0x1001)
    try:
        assert look().guests == ()
    finally:
        os.close(fd)


def test_our_mark_names_the_guest(processes: Processes) -> None:
    processes.hold("ta")
    run("ip", "link", "set", "ta", "alias", "tapbridge guest=the web")
    assert look().guests[0].name == "the web"


def test_a_guest_in_another_namespace_whose_tap_is_here_is_ours(processes: Processes) -> None:
    fd = open_tap("ta")
    with new_netns() as elsewhere, elsewhere.entered():
        process = processes.qemu("-name", "far", "-nic", f"tap,fd={fd}", pass_fds=(fd,))
    os.close(fd)
    found = look()
    assert [(guest.name, guest.pid) for guest in found.guests] == [("far", process.pid)]


def test_a_tap_of_the_same_name_in_another_namespace_is_not_ours(processes: Processes) -> None:
    run("ip", "tuntap", "add", "ta", "mode", "tap")
    with new_netns() as elsewhere, elsewhere.entered():
        process = processes.qemu("-nic", "tap,ifname=ta,script=no,downscript=no")
    found = look()
    assert [(guest.pid, guest.nics[0].link) for guest in found.guests] == [(None, "ta")]
    (away,) = [finding for finding in found.findings if finding.code == "other-netns"]
    assert f"PID {process.pid}" in away.evidence[0] or away.evidence[0].endswith("…")


def test_a_tap_that_was_moved_away_does_not_take_its_namesake_s_guest(processes: Processes) -> None:
    with new_netns() as elsewhere:
        processes.hold("ta")
        run("ip", "link", "set", "ta", "netns", elsewhere.path)
        process = processes.hold("ta")
        assert [guest.pid for guest in look().guests] == [process.pid]


def test_a_macvtap_s_guest_is_found_by_its_number(processes: Processes, macvtap: int) -> None:
    # Of two holders, this test and the guest, the hypervisor is the guest.
    process = processes.qemu("-name", "mac", "-nic", f"tap,fd={macvtap},mac={MAC}", pass_fds=(macvtap,))
    ((guest, nic),) = by_link(look()).values()
    assert (guest.name, guest.pid, nic.link, nic.kind, nic.mac) == ("mac", process.pid, "mt0", "macvtap", MAC)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind(("v1", 0))
        wire.send(FRAME)  # to everybody on the wire, so the guest receives it
    before = nic.rx_bytes or 0
    assert until(lambda: (by_link(look())["mt0"][1].rx_bytes or 0) - before >= len(FRAME))


def test_traffic_and_mac_are_seen_from_the_guest_s_side(processes: Processes) -> None:
    process = processes.hold("ta", "tb")
    attach("ta", "tb")
    read(process, "tb")
    before = by_link(look())
    write(process, "ta", FRAME, FRAME)
    got = sum(map(len, read(process, "tb")))
    after = by_link(look())
    assert got >= 2 * len(FRAME)
    assert (after["ta"][1].tx_bytes or 0) - (before["ta"][1].tx_bytes or 0) == 2 * len(FRAME)
    assert (after["tb"][1].rx_bytes or 0) - (before["tb"][1].rx_bytes or 0) == got
    assert (after["ta"][1].mac, after["ta"][1].mac_source) == ("52:54:00:00:00:05", "forwarding")


def test_a_process_that_ends_while_it_is_read_is_left_out(processes: Processes) -> None:
    for _ in range(20):
        dying = subprocess.Popen(["true"])
        assert look().guests == ()
        dying.wait()


def test_two_bridges_keep_their_guests_apart(processes: Processes) -> None:
    make_bridge("br1")
    processes.hold("ta", "tb")
    attach("ta")
    attach("tb", bridge="br1")
    assert {link: nic.bridge for link, (_, nic) in by_link(look()).items()} == {"ta": "br0", "tb": "br1"}
