"""A user without any privilege gets a tap by `tapbridge run`, or by QEMU's helper protocol, as the policy says."""

from __future__ import annotations

import array
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from kit.brokers import (
    ALICE,
    BOB,
    BRIDGE_MAC,
    EVE,
    FREE,
    HELPER_OF_QEMU,
    WITH_SYS,
    Site,
    as_user,
    links,
    open_tun,
    site,
    taps,
    until,
)
from kit.command import run
from kit.holders import by_link, look
from tapbridge.linux.host import LinuxHost
from tapbridge.transact.lock import is_held, writing

MAC = "52:54:00:aa:00:01"
FRAME = "02:00:00:00:00:12 {source} 88b5 7061796c6f6164"  # to lan0, of an experimental ethertype
VNET_HDR = 10  # bytes of zeros before a frame


def frame(source: str = MAC) -> bytes:
    return bytes.fromhex(FRAME.format(source=source).replace(":", "").replace(" ", "")).ljust(60, b"\0")


def arrives(site: Site, guest: subprocess.Popen[str], content: bytes) -> bool:
    """Whether what a guest sends comes to the LAN."""
    with site.lan.entered():
        heard = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88B5))
    with heard:
        heard.bind(("lan0", 0x88B5))
        heard.settimeout(1)
        told = site.tell(guest, f"os.write(taps[0], bytes.fromhex('{(bytes(VNET_HDR) + content).hex()}'))")
        assert told == f"said {VNET_HDR + len(content)}"
        try:
            return heard.recv(2048) == content
        except TimeoutError:
            return False


def test_a_user_without_rights_has_a_tap_on_the_bridge_and_sends_through_it(broker: Site) -> None:
    guest = broker.guest(ALICE, "--name", "web", "--mac", MAC)
    (tap,) = taps()
    assert tap.port is not None and tap.tap is not None
    assert (tap.mac, tap.up, tap.master, tap.addr_gen_mode) == ("fe" + MAC[2:], True, "br0", 1)
    assert (tap.port.locked, tap.port.learning, tap.port.isolated) == (True, False, False)
    assert (tap.tap.owner, tap.tap.persist, tap.tap.vnet_hdr) == (ALICE, False, True)
    assert (tap.alias or "").startswith(f"tapbridge broker uid={ALICE} pid={guest.pid} started=")
    assert (tap.alias or "").endswith(" guest=web")
    found, nic = by_link(look())[tap.name]
    assert (found.name, found.pid, found.uid, nic.bridge) == ("web", guest.pid, ALICE, "br0")
    assert broker.tell(guest, "open('/proc/self/status').read().count('CapEff:\\t0000000000000000')") == "said 1"
    assert broker.tell(guest, "os.getresuid()") == f"said {(ALICE,) * 3}"
    assert broker.tell(guest, "os.open('/dev/net/tun', os.O_RDWR)").startswith("errno")
    assert arrives(broker, guest, frame())
    assert f"{tap.name} on br0 is lent to user {ALICE} (PID {guest.pid}) for the guest 'web'" in broker.log


def test_a_guest_is_held_to_its_address_by_the_bridge(broker: Site) -> None:
    guest = broker.guest(ALICE, "--mac", MAC)
    assert not arrives(broker, guest, frame("52:54:00:aa:00:02"))
    assert arrives(broker, guest, frame())


def test_where_any_address_is_allowed_it_is_not_held(broker: Site) -> None:
    broker.write_policy(FREE.strip() + " isolated")
    guest = broker.guest(ALICE, "--mac", "02:00:00:00:77:77")
    (tap,) = taps()
    assert tap.port is not None
    assert (tap.port.locked, tap.port.learning, tap.port.isolated) == (False, True, True)
    assert arrives(broker, guest, frame("02:00:00:00:88:88"))


@pytest.mark.parametrize(
    ("policy", "words", "exit_code", "said"),
    [
        ("", (), 5, f"user {ALICE} may not attach guests to 'br0'"),
        (f"allow user {BOB} bridge br0", (), 5, f"user {ALICE} may not attach guests to 'br0'"),
        (f"allow user {ALICE} bridge br1", (), 5, f"user {ALICE} may not attach guests to 'br0'"),
        (f"allow user {ALICE} bridge br0\nnonsense", (), 5, f"user {ALICE} may not attach guests to 'br0'"),
        (f"allow user {ALICE} bridge br0", ("--mac", "02:00:00:00:00:99"), 5, "one begins with 52:54:00"),
        (f"allow user {ALICE} bridge br0 mac any", ("--mac", BRIDGE_MAC), 3, "that of br0 on this host"),
        (f"allow user {ALICE} bridge br0", ("--net", "br0"), 5, f"user {ALICE} has 1 tap on 'br0' already"),
    ],
    ids=["nobody", "another-user", "another-bridge", "broken", "foreign-mac", "own-mac", "quota"],
)
def test_what_the_policy_does_not_allow_is_refused_in_one_sentence(
    broker: Site, policy: str, words: tuple[str, ...], exit_code: int, said: str
) -> None:
    broker.write_policy(policy)
    done = broker.run(ALICE, *words)
    error, _, hint = done.stderr.partition("\n\n")
    assert done.returncode == exit_code, done.stderr
    assert error.startswith("error: ") and error.count("\n") == 0 and said in error
    assert hint.startswith("hint: ")
    assert until(lambda: taps() == [])


def test_without_a_broker_it_is_said_in_one_sentence(broker: Site) -> None:
    assert broker.stop() == 0
    done = broker.run(ALICE)
    assert done.returncode == 5
    assert "none listens at" in done.stderr and "service install --broker" in done.stderr


def test_two_users_guests_of_one_name_have_addresses_of_their_own(broker: Site) -> None:
    broker.write_policy(f"allow user {ALICE} bridge br0\nallow user {BOB} bridge br0")
    for user in (ALICE, BOB):
        broker.guest(user, "--name", "same")
    one, other = taps()
    assert one.mac != other.mac
    assert broker.run(ALICE, "--name", "same").returncode == 3


def test_an_address_that_another_guest_has_is_refused_by_the_kernel(broker: Site) -> None:
    broker.write_policy(f"allow user {ALICE} bridge br0\nallow user {EVE} bridge br0 mac 02 mac 52")
    broker.guest(ALICE, "--mac", MAC)
    for taken in (MAC, BRIDGE_MAC, "02:00:00:00:00:11"):
        assert broker.ask(as_user(EVE), mac=taken) == "refused 3 mac-taken"
    assert len(taps()) == 1


def test_a_bridge_whose_address_would_move_gets_no_guest(broker: Site) -> None:
    run("ip", "link", "add", "br7", "type", "bridge")
    broker.write_policy(
        f"allow user {ALICE} bridge br7\nallow user {ALICE} bridge absent\nallow user {ALICE} bridge eth0"
    )
    assert broker.ask(as_user(ALICE), "br7") == "refused 3 bridge-not-pinned"
    assert broker.ask(as_user(ALICE), "absent") == "refused 3 no-such-bridge"
    assert broker.ask(as_user(ALICE), "eth0") == "refused 3 no-such-bridge"
    address = links()["br7"].mac
    assert address is not None
    run("ip", "link", "set", "br7", "address", address)
    assert broker.ask(as_user(ALICE), "br7").startswith("lent ")


def test_a_bridge_of_large_frames_keeps_its_mtu(broker: Site) -> None:
    for link in ("eth0", "br0"):
        run("ip", "link", "set", link, "mtu", "4000")
    broker.guest(ALICE)
    assert {link.mtu for link in links().values() if link.name != "lo"} == {4000}


def test_several_queues_and_several_nics(broker: Site) -> None:
    guest = broker.guest(ALICE, "--queues", "3", "--net", "br0", "--net", "user")
    assert broker.tell(guest, "len(taps), [os.readlink(f'/proc/self/fd/{n}') for n in set(taps)]").startswith(
        "said (4,"
    )
    assert len(taps()) == 2


def test_nobody_else_adds_a_queue_to_a_tap(broker: Site) -> None:
    guest = broker.guest(ALICE, "--queues", "2")
    (tap,) = taps()
    queue = (
        "import fcntl, os, struct; fd = os.open('/dev/net/tun', os.O_RDWR);"
        f"fcntl.ioctl(fd, 0x400454ca, struct.pack('16sH22x', b'{tap.name}', 0x5102))"
    )
    with open_tun():
        assert "PermissionError" in run(*as_user(EVE), sys.executable, "-c", queue, check=False).stderr
        assert run(*as_user(ALICE), sys.executable, "-c", queue, check=False).returncode == 0
    assert guest.poll() is None


def borrow_by_helper(site: Site, uid: int, *words: str) -> tuple[int, str, list[int]]:
    """What QEMU would do: a pair of sockets, one of them the program's. Exit code, words, open files."""
    ours, its = socket.socketpair()
    with ours, its:
        done = subprocess.run(
            [*as_user(uid), str(HELPER_OF_QEMU), f"--fd={its.fileno()}", *words],
            env={"TAPBRIDGE_RUN_DIR": str(site.folder / "run/tapbridge")},
            pass_fds=[its.fileno()],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        ours.setblocking(False)
        try:
            content, told, _, _ = ours.recvmsg(1, socket.CMSG_SPACE(4))
        except BlockingIOError:
            return done.returncode, done.stderr, []
        files = array.array("i", told[0][2])
        assert content == b"\0"
        return done.returncode, done.stderr, list(files)


def test_the_helper_speaks_qemu_s_protocol_for_the_process_that_made_the_socket(broker: Site) -> None:
    broker.write_policy("allow user 0 bridge br0 taps 3 mac any")
    for words, header in ((("--use-vnet", "--br=br0"), True), (("--br=br0",), False)):
        code, said, files = borrow_by_helper(broker, 0, *words)
        assert (code, said, len(files)) == (0, "", 1)
        (tap,) = taps()
        assert tap.tap is not None and tap.tap.vnet_hdr == header
        assert f" pid={os.getpid()} " in (tap.alias or "")
        os.close(files[0])
        assert until(lambda: taps() == [])


def test_the_helper_refuses_in_one_sentence_too(broker: Site) -> None:
    held = f"allow user {ALICE} bridge br0"
    for policy, words, exit_code, said in (
        (held, ("--br=br9",), 5, "process of user"),  # this test made the socket, and it is root's
        ("", ("--br=br0",), 5, "process of user"),
        (held, ("--br=br0", "--nonsense"), 2, "--nonsense"),
        (held, ("--fd=3",), 2, "usage"),
        (held, ('--br=a"b',), 2, "no name of a bridge"),
    ):
        broker.write_policy(policy)
        code, told, files = borrow_by_helper(broker, ALICE, *words)
        assert (code, files) == (exit_code, []), told
        assert said in told and told.count("\n") == 1
    broker.write_policy("allow user 0 bridge br0")
    assert "held to one Ethernet address" in borrow_by_helper(broker, 0, "--br=br0")[1]
    assert borrow_by_helper(broker, 0, "--br=br0")[0] == 5
    assert borrow_by_helper(broker, 0, "--br=br1")[0] == 5
    broker.stop()
    assert borrow_by_helper(broker, 0, "--br=br0")[0] == 5


def test_a_user_whose_addresses_begin_otherwise_says_how() -> None:
    with site(f"allow user {ALICE} bridge br0 taps 2 mac 02:aa:bb\n") as broker:
        assert broker.run(ALICE, "--name", "web").returncode == 5
        broker.guest(ALICE, "--name", "web", "--mac-prefix", "02:aa:bb")
        (tap,) = taps()
        assert (tap.mac or "").startswith("fe:aa:bb:")


@pytest.fixture
def folder(broker: Site) -> Path:
    """Where a change of this network has its lock and its journal."""
    with LinuxHost() as host:
        return broker.folder / f"run/tapbridge/netns-{host.cookie()}"


def test_nothing_is_lent_while_the_network_is_being_changed(broker: Site, folder: Path) -> None:
    with writing(folder):
        assert broker.ask(as_user(ALICE), mac=MAC) == "refused 3 locked"
        assert "is being changed at this moment" in broker.run(ALICE, "--mac", MAC).stderr
        assert taps() == []
    assert broker.ask(as_user(ALICE), mac=MAC) == "lent tbtap0"


def test_nothing_is_lent_while_a_change_may_still_be_taken_back(broker: Site, folder: Path) -> None:
    folder.mkdir(mode=0o700)
    (folder / "journal").touch()
    assert broker.ask(as_user(ALICE), mac=MAC) == "refused 3 pending-change"
    assert taps() == []
    (folder / "journal").rename(folder / "lock")  # what somebody has left who was killed, and holds nothing
    assert broker.ask(as_user(ALICE), mac=MAC) == "lent tbtap0"


def end_when_refused(broker: Site, before: int, change: subprocess.Popen[bytes]) -> None:
    """Let the change end once somebody was refused because of it."""
    until(lambda: broker.log.count("being changed") > before, 30)
    assert change.stdin is not None
    change.stdin.close()


def test_who_can_wait_gets_his_tap_when_the_change_has_ended(broker: Site, folder: Path) -> None:
    broker.write_policy(f"allow user {ALICE} bridge br0\nallow user 0 bridge br0 mac any")
    folder.mkdir(mode=0o700)
    ways: tuple[Callable[[], int | None], ...] = (
        lambda: broker.guest(ALICE, "--wait", "20").poll(),
        lambda: borrow_by_helper(broker, 0, "--br=br0")[0],
    )
    for borrow in ways:
        before = broker.log.count("being changed")
        with subprocess.Popen(["flock", folder / "lock", "cat"], stdin=subprocess.PIPE) as change:
            assert until(lambda: is_held(folder))
            ending = threading.Thread(target=end_when_refused, args=(broker, before, change))
            ending.start()
            assert not borrow()
            ending.join()
            assert change.wait(10) == 0
        assert broker.log.count("being changed") > before


# A change begins at the second look: before, after, and when it has been refused.
BEGINS = f"""
import os
from tapbridge.linux.lent import LentTaps
from tapbridge.model.errors import Refused
from tapbridge.model.intent import LendTap
seen = []
def require_quiet():
    seen.append(os.path.exists("/sys/class/net/tbtap0"))
    if len(seen) == 2:
        raise Refused("a change has begun", code="locked")
try:
    LentTaps(require_quiet).lend(LendTap(bridge="br0", mac="fe:00:00:00:00:01", owner={ALICE}, alias="x"))
except Refused as refusal:
    print(refusal.code, *seen, os.path.exists("/sys/class/net/tbtap0"))
"""


# As udev does which has seen the tap while its address was random still.
LATE = f"""
import os, subprocess
from tapbridge.linux.lent import LentTaps
from tapbridge.model.intent import LendTap
def require_quiet():
    if os.path.exists("/sys/class/net/tbtap0"):
        subprocess.run(("ip", "link", "set", "tbtap0", "address", "0a:73:99:90:0e:67"), check=True)
print(LentTaps(require_quiet).lend(LendTap(bridge="br0", mac="fe:00:00:00:00:01", owner={ALICE}, alias="x"))[0].mac)
"""


@pytest.mark.usefixtures("broker")
def test_a_tap_that_udev_gives_an_address_of_its_own_is_lent_with_the_right_one() -> None:
    assert run(*WITH_SYS, sys.executable, "-c", LATE).stdout == "fe:00:00:00:00:01\n"


@pytest.mark.usefixtures("broker")
def test_a_change_that_began_meanwhile_leaves_no_tap() -> None:
    assert run(*WITH_SYS, sys.executable, "-c", BEGINS).stdout == "locked False True False\n"
