"""What a hostile holder does with a tap: the bridge, the host and the other ports are as before, and the tap goes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from kit.brokers import ALICE, BRIDGE_MAC, Site, as_user, links, taps, until
from kit.command import run
from kit.tally import WHOLE
from tapbridge.linux.host import LinuxHost
from tapbridge.model.noun import replace
from tapbridge.model.state import TENTATIVE, Address, Link, Scope

LIMIT_S = 1.0
MAC = "52:54:00:aa:00:01"
# SIOCSIFHWADDR and include/uapi/linux/if_tun.h
SET_MAC = "fcntl.ioctl(taps[0], 0x8924, struct.pack('16sH6s16x', b'{tap}', 1, "
HARMFUL = {
    "persist": "fcntl.ioctl(taps[0], 0x400454cb, 1)",
    "owner": "fcntl.ioctl(taps[0], 0x400454cc, 12347)",
    "group": "fcntl.ioctl(taps[0], 0x400454ce, 12347)",
}
PUT_BACK = {
    "mac-low": f"{SET_MAC}bytes.fromhex('000000000001')))",
    "mac-of-bridge": f"{SET_MAC}bytes.fromhex('020000000010')))",
    "mac-of-gateway": f"{SET_MAC}bytes.fromhex('020000000012')))",
}
HARMLESS = {
    "carrier-off": "fcntl.ioctl(taps[0], 0x400454e2, struct.pack('i', 0))",
    "offload": "fcntl.ioctl(taps[0], 0x400454d0, 0x1f)",
    "vnet-hdr-size": "fcntl.ioctl(taps[0], 0x400454d8, struct.pack('i', 12))",
    "little-endian": "fcntl.ioctl(taps[0], 0x400454dc, struct.pack('i', 1))",
    "big-endian": "fcntl.ioctl(taps[0], 0x400454de, struct.pack('i', 1))",
    "send-buffer": "fcntl.ioctl(taps[0], 0x400454d4, struct.pack('i', 1))",
    "no-checksum": "fcntl.ioctl(taps[0], 0x400454c8, 1)",
    "debug": "fcntl.ioctl(taps[0], 0x400454c9, 1)",
    "link-type": "fcntl.ioctl(taps[0], 0x400454cd, 772)",
    "multicast-filter": "fcntl.ioctl(taps[0], 0x400454d1, struct.pack('HH6s', 1, 1, bytes(6)))",
    "detach-queue": "fcntl.ioctl(taps[0], 0x400454d9, struct.pack('16sH22x', b'', 0x400))",
    "another-name": "fcntl.ioctl(taps[0], 0x400454ca, struct.pack('16sH22x', b'evil0', 0x1002))",
    "another-number": "fcntl.ioctl(taps[0], 0x400454da, struct.pack('I', 4711))",
    "socket-filter": "fcntl.ioctl(taps[0], 0x401054d5, struct.pack('HxxxxxxQ', 0, 0))",
    "no-filter": "fcntl.ioctl(taps[0], 0x401054d6, struct.pack('HxxxxxxQ', 0, 0))",
    "steering": "fcntl.ioctl(taps[0], 0x800454e0, struct.pack('i', -1))",
    "netns-of-tap": "fcntl.ioctl(taps[0], 0x54e3)",
}
Seen = tuple[list[Link], tuple[Address, ...], str]


def seen() -> Seen:
    """Everything but the taps: links, addresses (tested for duplicates or not), and where the bridge sends what is for
    the LAN."""
    with LinuxHost() as host:
        state = host.observe(Scope.KERNEL)
    behind = run("bridge", "fdb", "show", "br", "br0").stdout
    kept = sorted(line for line in behind.splitlines() if "tbtap" not in line and "33:33" not in line)
    addresses = tuple(replace(address, flags=address.flags & ~TENTATIVE) for address in state.addresses)
    return [link for link in state.links if link.kind != "tap"], addresses, "\n".join(kept)


@pytest.mark.parametrize("name", [*HARMFUL, *PUT_BACK, *HARMLESS])
def test_no_call_on_a_tap_changes_the_bridge_the_host_or_another_port(broker: Site, name: str) -> None:
    run("ping", "-c", "1", "-W", "2", "192.0.2.1")
    broker.ask(as_user(ALICE), mac="52:54:00:aa:00:02")  # another port
    (other,) = taps()
    guest = broker.guest(ALICE, "--mac", MAC)
    (tap,) = [link for link in taps() if link.name != other.name]
    before = seen()
    call = (HARMFUL | PUT_BACK | HARMLESS)[name].replace("{tap}", tap.name)
    told = broker.tell(guest, call)
    if name in PUT_BACK:
        assert told.startswith("said ")
        assert until(lambda: f"{tap.name} has its address {tap.mac} again" in broker.log)
        assert links()[tap.name] == tap
        run("ping", "-c", "1", "-W", "2", "192.0.2.1")
        assert seen() == before
        told = broker.tell(guest, call)
    if name not in HARMLESS:
        assert told.startswith("said ")
        assert until(lambda: tap.name not in links())
        assert f"{tap.name} is taken away from user {ALICE}" in broker.log
    else:
        time.sleep(0.05)
        assert tap.name in links()
    run("ping", "-c", "1", "-W", "2", "192.0.2.1")
    assert seen() == before
    assert links()["br0"].mac == BRIDGE_MAC
    assert links()[other.name] == other
    assert broker.broker is not None and broker.broker.poll() is None


def test_a_guest_s_tap_is_gone_when_the_guest_is_killed(broker: Site) -> None:
    late = []
    for _ in range(200 if WHOLE else 10):
        guest = broker.guest(ALICE)
        assert len(taps()) == 1
        guest.send_signal(signal.SIGKILL)
        started = time.monotonic()
        assert until(lambda: taps() == [])
        late.append(time.monotonic() - started)
        guest.communicate()
    assert sorted(late)[len(late) // 2] < LIMIT_S, late


def test_a_tap_whose_file_somebody_else_keeps_goes_with_its_guest(broker: Site) -> None:
    guest = broker.guest(ALICE)
    keeper = int(broker.tell(guest, "os.fork() or __import__('time').sleep(60)").split()[1])
    assert keeper != guest.pid and os.path.exists(f"/proc/{keeper}")
    guest.send_signal(signal.SIGKILL)
    try:
        assert until(lambda: taps() == [])
        assert os.path.exists(f"/proc/{keeper}")
    finally:
        os.kill(keeper, signal.SIGKILL)


def test_a_broker_that_comes_again_knows_what_was_lent(broker: Site) -> None:
    living, dead = broker.guest(ALICE, "--name", "living"), broker.guest(ALICE, "--name", "dead")
    assert broker.broker is not None
    assert broker.stop(signal.SIGKILL) == -signal.SIGKILL
    assert broker.tell(dead, HARMFUL["persist"]).startswith("said ")
    dead.send_signal(signal.SIGKILL)
    dead.communicate()
    assert len(taps()) == 2
    broker.start()
    assert until(lambda: len(taps()) == 1)
    assert f"is lent to user {ALICE} (PID {living.pid}) already" in broker.log
    broker.guest(ALICE, "--name", "second")
    assert "has 2 taps on 'br0' already" in broker.run(ALICE, "--name", "third").stderr
    living.send_signal(signal.SIGKILL)
    assert until(lambda: len(taps()) == 1)


@pytest.mark.parametrize("change", ["persist", "owner"])
def test_a_tap_that_was_changed_while_no_broker_looked_is_taken_away(broker: Site, change: str) -> None:
    guest = broker.guest(ALICE)
    broker.stop()
    (tap,) = taps()
    assert broker.tell(guest, HARMFUL[change].replace("{tap}", tap.name)).startswith("said ")
    assert len(taps()) == 1
    broker.start()
    assert until(lambda: taps() == [])
    assert guest.poll() is None


def test_an_address_that_was_changed_while_no_broker_looked_is_put_back(broker: Site) -> None:
    guest = broker.guest(ALICE)
    broker.stop()
    before = taps()
    assert broker.tell(guest, PUT_BACK["mac-of-gateway"].replace("{tap}", before[0].name)).startswith("said ")
    assert taps() != before
    broker.start()
    assert until(lambda: taps() == before)


def test_a_process_of_somebody_else_is_no_guest(broker: Site) -> None:
    words = "import os, sys\nfrom tapbridge.broker.client import Client\nfrom tapbridge.broker.protocol import Attach\n"
    words += f"Client('{broker.path}').attach(Attach('br0', None, '{MAC}'), os.pidfd_open({os.getpid()}))"
    done = subprocess.run([*as_user(ALICE), sys.executable, "-c", words], capture_output=True, text=True, check=False)
    assert f"living process of user {ALICE}" in done.stderr
    assert taps() == []


def test_what_a_holder_could_take_from_the_bridge_is_given_back(broker: Site) -> None:
    guest = broker.guest(ALICE)
    (tap,) = taps()
    run("ping", "-c", "1", "-W", "2", "192.0.2.1")
    assert broker.broker is not None
    broker.broker.send_signal(signal.SIGSTOP)
    broker.tell(guest, PUT_BACK["mac-of-gateway"].replace("{tap}", tap.name))
    assert f"02:00:00:00:00:12 dev {tap.name} master br0 permanent" in run("bridge", "fdb", "show", "br", "br0").stdout
    assert run("ping", "-c", "1", "-W", "0.3", "192.0.2.1", check=False).returncode != 0
    broker.broker.send_signal(signal.SIGCONT)
    assert until(lambda: taps() == [tap])
    run("ping", "-c", "1", "-W", "2", "192.0.2.1")
