"""Where a guest's addresses are known from, on a real kernel."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kit.command import run
from kit.holders import NOW, Processes, attach, by_link, look, said, write
from tapbridge.guests import survey as survey_module
from tapbridge.guests.listen import ADDRESSES, FRAMES
from tapbridge.guests.survey import Survey
from tapbridge.model.guest import Sighting

MAC = "52:54:00:aa:bb:01"
RAW = bytes.fromhex(MAC.replace(":", ""))
OTHER = bytes.fromhex("525400aabb02")
ALL = b"\xff" * 6


def arp(ip: str, mac: bytes = RAW) -> bytes:
    packet = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mac + socket.inet_aton(ip) + bytes(6)
    return ALL + mac + b"\x08\x06" + packet + socket.inet_aton("192.0.2.1") + bytes(18)


def announcement(ip: str, mac: bytes = RAW) -> bytes:
    """An unsolicited neighbour advertisement. The listener is no judge of checksums."""
    message = bytes((136, 0, 0, 0)) + bytes(4) + socket.inet_pton(socket.AF_INET6, ip)
    header = struct.pack("!IHBB", 6 << 28, len(message), 58, 255)
    group = socket.inet_pton(socket.AF_INET6, "ff02::1")
    return ALL + mac + b"\x86\xdd" + header + socket.inet_pton(socket.AF_INET6, ip) + group + message


def dhcp_request(ip: str, mac: bytes = RAW) -> bytes:
    """A client that was rebooted asks for the address that it had (RFC 2131, 4.3.2, INIT-REBOOT)."""
    message = struct.pack("!BBBB4sHH", 1, 1, 6, 0, b"tapb", 0, 0x8000) + bytes(16) + mac.ljust(16, b"\0") + bytes(192)
    message += b"\x63\x82\x53\x63\x35\x01\x03\x32\x04" + socket.inet_aton(ip) + b"\xff"
    udp = struct.pack("!HHHH", 68, 67, 8 + len(message), 0) + message
    ip_header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, bytes(4), ALL[:4])
    total = sum(struct.unpack("!10H", ip_header))
    total = (total & 0xFFFF) + (total >> 16)
    ip_header = ip_header[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + ip_header[12:]
    return ALL + mac + b"\x08\x00" + ip_header + udp


def seen(found: Survey, link: str = "ta") -> dict[str, Sighting]:
    return {item.ip: item for item in by_link(found)[link][1].addresses}


def sources(found: Survey, link: str = "ta") -> dict[str, str]:
    return {ip: item.source for ip, item in seen(found, link).items()}


def look_while(say: Callable[[], None], taps: int, listen_s: float = 1.5) -> Survey:
    """Look and listen, and let somebody speak once every tap is listened to."""
    speaker = threading.Thread(target=_speak, args=(say, taps))
    speaker.start()
    try:
        return look(listen_s)
    finally:
        speaker.join()


def _speak(say: Callable[[], None], taps: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        rows = [line.split() for line in Path("/proc/thread-self/net/packet").read_text().splitlines()[1:]]
        if sum(row[4] != "0" and row[5] == "1" for row in rows) >= taps:  # bound, and running
            say()
            return
        time.sleep(0.01)


def test_the_host_s_neighbours_count(processes: Processes) -> None:
    process = processes.hold("ta")
    attach("ta")
    write(process, "ta", arp("0.0.0.0"))  # the bridge learns the MAC
    run("ip", "neigh", "add", "192.0.2.31", "lladdr", MAC, "dev", "br0", "nud", "stale")
    run("ip", "neigh", "add", "192.0.2.32", "lladdr", "52:54:00:aa:bb:02", "dev", "br0", "nud", "stale")
    assert sources(look()) == {"192.0.2.31": "neighbour"}


def test_what_a_guest_says_on_its_tap_is_heard(processes: Processes) -> None:
    process = processes.hold("ta", "tb")
    attach("ta", "tb")
    frames = (arp("192.0.2.31"), announcement("2001:db8::31"), announcement("fe80::31"))
    found = look_while(lambda: write(process, "ta", *frames), taps=2)
    assert sources(found) == {"192.0.2.31": "arp", "2001:db8::31": "nd", "fe80::31": "nd"}
    assert by_link(found)["ta"][1].mac == MAC
    assert all(0 <= (item.age or 0.0) <= 2 for item in seen(found).values())
    assert sources(found, "tb") == {}  # the same broadcasts went out to it
    assert said(found) == []


def test_without_listen_nothing_is_heard(processes: Processes) -> None:
    process = processes.hold("ta")
    attach("ta")
    write(process, "ta", arp("192.0.2.31"))
    assert sources(look()) == {}


def dhcp_server(processes: Processes, folder: Path) -> None:
    """A dnsmasq on br0 that gives out 192.0.2.50 to 99 for an hour."""
    processes.start(
        *("dnsmasq", "--conf-file=/dev/null", "-d", "--port=0", "--user=root", "--interface=br0", "--bind-interfaces"),
        *("--dhcp-authoritative", "--dhcp-range=192.0.2.50,192.0.2.99,255.255.255.0,1h"),
        f"--dhcp-leasefile={folder}/leases",
        until="bound exclusively",
    )


def test_the_server_s_acknowledgement_tells_prefix_and_lifetime(processes: Processes, tmp_path: Path) -> None:
    run("ip", "addr", "add", "192.0.2.1/24", "dev", "br0")
    process = processes.hold("ta", "tb")
    attach("ta", "tb")
    dhcp_server(processes, tmp_path)
    found = look_while(lambda: write(process, "ta", dhcp_request("192.0.2.60")), taps=2, listen_s=4)
    address = seen(found)["192.0.2.60"]
    assert (address.source, address.prefix, address.dynamic) == ("dhcp", 24, True)
    assert address.valid_lft is not None
    assert 3500 < address.valid_lft <= 3600
    assert sources(found, "tb") == {}  # the broadcast acknowledgement was flooded to it, too


def test_a_guest_that_floods_is_left_and_the_others_are_heard(processes: Processes) -> None:
    process = processes.hold("ta", "tb")
    attach("ta", "tb")

    def say() -> None:
        write(process, "tb", *(arp(f"192.0.{n // 250}.{n % 250 + 1}", OTHER) for n in range(FRAMES + 1)))
        write(process, "ta", arp("192.0.2.31"))

    found = look_while(say, taps=2, listen_s=6)
    assert sources(found) == {"192.0.2.31": "arp"}
    assert len(seen(found, "tb")) == ADDRESSES
    assert said(found) == [("tap-not-heard", "tb")]


def test_a_tap_that_is_down_is_waited_for_and_one_that_goes_away_is_no_error(processes: Processes) -> None:
    process = processes.hold("ta", "tb")
    attach("tb")

    def say() -> None:
        run("ip", "link", "set", "ta", "up")
        write(process, "ta", arp("192.0.2.31"))
        run("ip", "link", "del", "tb")

    found = look_while(say, taps=1, listen_s=2)
    assert sources(found) == {"192.0.2.31": "arp"}
    assert said(found) == []


def test_two_guests_with_one_mac_or_one_address_are_told(processes: Processes) -> None:
    process = processes.hold("ta", "tb")
    attach("ta", "tb")

    def say() -> None:
        write(process, "ta", arp("192.0.2.31"))
        write(process, "tb", arp("192.0.2.31", OTHER))

    assert said(look_while(say, taps=2)) == [("duplicate-ip", "192.0.2.31")]


@pytest.fixture
def leases(tmp_path: Path) -> Path:
    path = tmp_path / "leases"
    path.write_text(f"{int(NOW) + 600} {MAC} 192.0.2.31 web *\n")
    os.chmod(path, 0o644)
    return path


def guest_and_dnsmasq(processes: Processes, leases: Path, *user: str) -> None:
    """A guest whose MAC is known, and a dnsmasq that was told a lease file."""
    attach_guest(processes)
    processes.start(
        *user, "dnsmasq", "--conf-file=/dev/null", "-d", "--port=0", "--user=root", f"--dhcp-leasefile={leases}"
    )


def attach_guest(processes: Processes) -> None:
    process = processes.hold("ta")
    attach("ta")
    write(process, "ta", arp("0.0.0.0"))


def test_the_lease_file_of_a_running_dnsmasq_counts(processes: Processes, leases: Path) -> None:
    guest_and_dnsmasq(processes, leases)
    address = seen(look())["192.0.2.31"]
    assert (address.source, address.valid_lft, address.dynamic, address.age) == ("lease", 600, True, None)


def test_a_file_that_an_ordinary_user_calls_a_lease_file_does_not(processes: Processes, leases: Path) -> None:
    if not _can_become(1000):
        pytest.skip("no other user here")
    guest_and_dnsmasq(processes, leases, "setpriv", "--reuid=1000", "--clear-groups")
    assert seen(look()) == {}


def _can_become(uid: int) -> bool:
    return run("setpriv", f"--reuid={uid}", "--clear-groups", "true", check=False).returncode == 0


def test_what_stands_in_a_lease_file_s_place_is_not_waited_for(
    processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attach_guest(processes)
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(tmp_path / "fifo")
    for name in ("fifo", "link", ".", "nothing"):
        monkeypatch.setattr(survey_module, "DNSMASQ_LEASES", str(tmp_path / name))
        assert seen(look()) == {}


def test_leases_of_libvirt_count_on_their_own_bridge(
    processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attach_guest(processes)
    entry = f'[{{"ip-address": "192.0.2.%d", "mac-address": "{MAC}", "expiry-time": {int(NOW) + 60}}}]'
    (tmp_path / "br0.status").write_text(entry % 31)
    (tmp_path / "br7.status").write_text(entry % 32)
    monkeypatch.setattr(survey_module, "LIBVIRT_LEASES", str(tmp_path))
    assert sources(look()) == {"192.0.2.31": "lease"}


def test_a_real_guest_s_lease_is_known(processes: Processes, tmp_path: Path) -> None:
    run("ip", "addr", "add", "192.0.2.1/24", "dev", "br0")
    dhcp_server(processes, tmp_path)
    run("ip", "tuntap", "add", "ta", "mode", "tap")
    attach("ta")
    processes.start(
        *("qemu-system-x86_64", "-accel", "tcg", "-m", "64", "-display", "none", "-qmp", "stdio", "-boot", "n"),
        *("-name", "ipxe", "-nic", f"tap,ifname=ta,script=no,downscript=no,model=e1000,mac={MAC}"),
    )
    for _ in range(10):
        found = look(listen_s=6)
        granted = [item for item in seen(found).values() if item.family == 4]
        if granted:
            break
    assert [(item.ip.rpartition(".")[0], item.dynamic) for item in granted] == [("192.0.2", True)]
    assert granted[0].source in ("dhcp", "arp", "lease")
