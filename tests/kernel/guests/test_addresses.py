"""Where a guest's addresses are known from, on a real kernel."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from kit.command import run
from kit.frames import MAC, OTHER, announcement, arp, await_ears, dhcp_request, mdns
from kit.holders import NOW, Processes, attach, by_link, dhcp_server, look, said, write
from tapbridge.guests import servers
from tapbridge.guests.listen import ADDRESSES, FRAMES
from tapbridge.guests.survey import Survey
from tapbridge.model.guest import Sighting


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
    if await_ears(taps):
        say()


def test_the_host_s_neighbours_count(processes: Processes) -> None:
    process = processes.hold("ta")
    attach("ta")
    write(process, "ta", arp("0.0.0.0"))  # the bridge learns the MAC
    run("ip", "neigh", "add", "192.0.2.31", "lladdr", MAC, "dev", "br0", "nud", "stale")
    run("ip", "neigh", "add", "192.0.2.32", "lladdr", "52:54:00:aa:bb:02", "dev", "br0", "nud", "stale")
    assert sources(look()) == {"192.0.2.31": "neighbour"}


def test_a_neighbour_is_as_old_as_the_host_s_last_proof_of_it(processes: Processes) -> None:
    process = processes.hold("ta")
    attach("ta")
    write(process, "ta", arp("0.0.0.0"))
    for ip, state in (("192.0.2.31", "reachable"), ("192.0.2.32", "stale"), ("192.0.2.33", "permanent")):
        run("ip", "neigh", "add", ip, "lladdr", MAC, "dev", "br0", "nud", state)
    ages = {ip: item.age for ip, item in seen(look()).items()}
    assert ages["192.0.2.33"] is None
    assert 0 <= (ages["192.0.2.31"] or 0.0) < 30
    assert (ages["192.0.2.32"] or 0.0) >= 60  # never confirmed: as old as two periods of base_reachable_time


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


def test_the_server_s_acknowledgement_tells_prefix_and_lifetime(processes: Processes, tmp_path: Path) -> None:
    run("ip", "addr", "add", "192.0.2.1/24", "dev", "br0")
    process = processes.hold("ta", "tb")
    attach("ta", "tb")
    dhcp_server(processes, tmp_path / "leases")
    found = look_while(lambda: write(process, "ta", dhcp_request("192.0.2.60")), taps=2, listen_s=4)
    address = seen(found)["192.0.2.60"]
    assert (address.source, address.prefix, address.dynamic) == ("dhcp", 24, True)
    assert address.valid_lft is not None
    assert 3500 < address.valid_lft <= 3600
    assert sources(found, "tb") == {}  # the broadcast acknowledgement was flooded to it, too


def test_the_name_that_a_guest_has_for_itself_is_heard_by_dhcp_and_by_multicast_dns(
    processes: Processes, tmp_path: Path
) -> None:
    run("ip", "addr", "add", "192.0.2.1/24", "dev", "br0")
    process = processes.hold("ta", "tb")
    attach("ta", "tb")
    dhcp_server(processes, tmp_path / "leases")

    def say() -> None:
        write(process, "ta", dhcp_request("192.0.2.60", options=b"\x0c\x03web"))
        write(process, "tb", mdns("192.0.2.31", "db", OTHER))

    found = look_while(say, taps=2, listen_s=3)
    assert [(item.source, item.hostname) for item in seen(found).values()] == [("dhcp", "web")]
    assert [(item.source, item.hostname) for item in seen(found, "tb").values()] == [("mdns", "db")]


def test_clones_with_one_client_id_are_told(processes: Processes, tmp_path: Path) -> None:
    run("ip", "addr", "add", "192.0.2.1/24", "dev", "br0")
    first, second = processes.hold("ta"), processes.hold("tb")
    attach("ta", "tb")
    dhcp_server(processes, tmp_path / "leases")

    def say() -> None:
        client_id = b"\x3d\x04\xff\x01\x02\x03"
        write(first, "ta", dhcp_request("192.0.2.60", options=client_id))
        write(second, "tb", dhcp_request("192.0.2.60", OTHER, options=client_id))

    found = look_while(say, taps=2, listen_s=4)
    assert ("duplicate-client-id", "ff:01:02:03") in said(found)


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
        monkeypatch.setattr(servers, "DNSMASQ_LEASES", str(tmp_path / name))
        assert seen(look()) == {}


def test_leases_of_libvirt_count_on_their_own_bridge(
    processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attach_guest(processes)
    entry = f'[{{"ip-address": "192.0.2.%d", "mac-address": "{MAC}", "expiry-time": {int(NOW) + 60}}}]'
    (tmp_path / "br0.status").write_text(entry % 31)
    (tmp_path / "br7.status").write_text(entry % 32)
    monkeypatch.setattr(servers, "LIBVIRT_LEASES", str(tmp_path))
    assert sources(look()) == {"192.0.2.31": "lease"}
