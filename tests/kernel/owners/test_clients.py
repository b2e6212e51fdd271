"""Which processes count as clients, and how they are ended and started."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kit.command import run
from kit.netns import new_netns
from tapbridge.linux import processes
from tapbridge.linux.clients import observe_clients, start_client, stop_client
from tapbridge.linux.host import LinuxHost
from tapbridge.linux.pause import pause_client, resume_client
from tapbridge.model.errors import HostError
from tapbridge.model.noun import replace
from tapbridge.model.state import Address, Client, LeaseFile, State
from tapbridge.model.step import AwaitClient
from tapbridge.model.values import IfName
from tapbridge.owners.table import find_owner

Start = Callable[..., "subprocess.Popen[bytes]"]
NIC = IfName("eth0")
NETWORKD = "/lib/systemd/systemd-networkd"


def _programs() -> list[tuple[str, str | None]]:
    return [(client.program, client.link) for client in observe_clients(["eth0", "eth1"])]


def test_a_client_of_another_namespace_is_none_of_ours(lan: Any, start: Start) -> None:
    with new_netns() as other:
        with other.entered():
            start("dhclient", "eth0")
        assert _programs() == []
    start("dhclient", "eth0")
    assert _programs() == [("dhclient", "eth0")]


@pytest.mark.parametrize("body", ["", "import ctypes\nctypes.CDLL(None).prctl(4, 0)"], ids=["plain", "not-dumpable"])
def test_a_user_who_calls_his_process_dhclient_is_not_believed(lan: Any, start: Start, body: str) -> None:
    """The files of a process that is not dumpable are root's in /proc."""
    process = start("dhclient", "eth0", body=f"os.setgid(65534); os.setuid(65534)\n{body}")
    assert Path(f"/proc/{process.pid}/comm").read_text() == "dhclient\n"
    assert _programs() == []


def test_nor_is_one_who_is_root_in_a_namespace_of_his_own(lan: Any, start: Start) -> None:
    """CLONE_NEWUSER gives a user every capability, as /proc prints it."""
    body = "import ctypes\nos.setgid(65534); os.setuid(65534)\nassert ctypes.CDLL(None).unshare(0x10000000) == 0"
    process = start("dhclient", "eth0", body=body)
    effective = dict(x.split(":\t") for x in Path(f"/proc/{process.pid}/status").read_text().splitlines())["CapEff"]
    assert int(effective, 16) >> 12 & 1
    assert _programs() == []


def test_a_daemon_with_nothing_but_the_capability_is(lan: Any, start: Start) -> None:
    """As systemd-networkd runs: a user of its own and CAP_NET_ADMIN."""
    for folder in (lan.folder, *lan.folder.parents):
        if folder.name.startswith(("pytest-", "popen-", "test_")):
            folder.chmod(0o755)
    start("dhclient", "eth0", before=("setpriv", "--reuid=65534", "--clear-groups", "--inh-caps=+net_admin",
                                      "--ambient-caps=+net_admin", "--bounding-set=+all"))  # fmt: skip
    assert _programs() == [("dhclient", "eth0")]


def test_links_are_told_from_the_values_of_options(lan: Any, start: Start) -> None:
    start("dhclient", "-4", "-lf", "eth1", "-e", "IF=eth1", "-1", "eth0", "gone0")
    assert _programs() == [("dhclient", "eth0")]


@pytest.mark.parametrize(("words", "link"), [(("-i", "eth1"), "eth1"), ((), "eth0")], ids=["named", "its default"])
def test_udhcpc_is_found_as_an_applet_of_busybox(lan: Any, words: tuple[str, ...], link: str) -> None:
    run("ip", "link", "add", "eth1", "type", "veth", "peer", "name", "q1")
    process = subprocess.Popen(["busybox", "udhcpc", "-f", "-s", "/bin/true", *words], stderr=subprocess.DEVNULL)
    other = subprocess.Popen(["busybox", "sleep", "60"])
    try:
        lan.wait_for(lambda: Path(f"/proc/{process.pid}/comm").read_text() == "busybox\n", 5)
        lan.wait_for(_programs, 5)
        assert _programs() == [("udhcpc", link)]
    finally:
        for one in (process, other):
            one.kill()
            one.wait()


def test_a_manager_holds_the_links_that_it_says(lan: Any, start: Start) -> None:
    index = _index("eth0")
    start("systemd-networkd")
    links = Path("/run/systemd/netif/links")
    links.mkdir(parents=True, exist_ok=True)
    network = lan.folder / "10-netplan-eth0.network"
    network.write_text("[Match]\n")
    (links / str(index)).write_text("ADMIN_STATE=unmanaged\n")
    assert _programs() == []
    (links / str(index)).write_text(f"ADMIN_STATE=configured\nNETWORK_FILE={network}\n")
    (client,) = observe_clients(["eth0"])
    assert (client.program, client.link) == ("systemd-networkd", "eth0")
    assert [file.path for file in client.files] == [str(network)]
    names = ("/run/systemd/network/10-netplan-eth0.network.d/b.conf", "/etc/systemd/network/10-netplan-eth0.network.d")
    for path in (names[0], f"{names[1]}/b.conf", f"{names[1]}/a.conf", f"{names[1]}/a.txt"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text("[Network]\n")
    (client,) = observe_clients(["eth0"])
    assert [file.path for file in client.files[1:]] == [f"{names[1]}/a.conf", f"{names[1]}/b.conf"]
    shutil.rmtree(names[1])
    (client,) = observe_clients(["eth0"])
    assert [file.path for file in client.files[1:]] == [names[0]]
    shutil.rmtree("/run/systemd")


@pytest.mark.skipif(not os.path.exists(NETWORKD), reason="systemd-networkd is not installed")
def test_systemd_networkd_itself_is_understood(lan: Any) -> None:
    """It holds the link that a .network file matches and no other; a read-only /sys tells it that there is no udev."""
    run("ip", "link", "add", "eth1", "type", "veth", "peer", "name", "q1")
    folder = Path("/run/systemd/network")
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("links", "leases", "lldp"):
        (folder.parent / "netif" / name).mkdir(parents=True, exist_ok=True)
    run("chown", "-R", "systemd-network", folder.parent / "netif")
    network = folder / "10-netplan-eth0.network"
    network.write_text("[Match]\nName=eth0\n[Network]\nAddress=192.0.2.9/24\n")
    script = f"mount -t sysfs -o ro sysfs /sys && exec {NETWORKD}"
    process = subprocess.Popen(["unshare", "-m", "sh", "-c", script], stderr=subprocess.DEVNULL)
    try:
        lan.wait_for(lambda: "192.0.2.9" in run("ip", "addr", "show", "dev", "eth0").stdout)
        lan.wait_for(lambda: len(_programs()) == 1)
        (client,) = observe_clients(["lo", "eth0", "eth1", "q1"])
        assert (client.program, client.link, client.pid) == ("systemd-networkd", "eth0", process.pid)
        assert [file.path for file in client.files] == [str(network)]
        assert find_owner(State(clients=(client,)), IfName("eth1")) is None
        owner = find_owner(State(clients=(client,)), NIC)
        assert owner is not None
        assert owner.name == "netplan (systemd-networkd)"
    finally:
        process.kill()
        process.wait()
        shutil.rmtree("/run/systemd")


def test_a_process_stands_still_until_it_is_let_go_on(lan: Any, start: Start) -> None:
    process = start("systemd-networkd")
    links = Path("/run/systemd/netif/links")
    links.mkdir(parents=True, exist_ok=True)
    state = links / str(_index("eth0"))
    state.write_text("ADMIN_STATE=configured\n")
    (client,) = observe_clients(["eth0"])
    assert client.started == processes.start_time(process.pid) > 0
    pause_client(client)
    assert processes.state(process.pid) == "T"
    resume_client(client)
    lan.wait_for(lambda: processes.state(process.pid) in ("R", "S"))
    another = replace(client, started=client.started + 1)
    with pytest.raises(HostError, match="not there any more"):
        pause_client(another)
    resume_client(another)
    state.unlink()


def test_what_networkd_says_of_a_link_is_waited_for(lan: Any) -> None:
    network = LeaseFile(path="/run/systemd/network/br0.network", sha256="")
    client = Client(link=NIC, program="systemd-networkd", pid=1, files=(network,))
    folder = Path("/run/systemd/netif")
    state, lease = folder / "links" / str(_index("eth0")), folder / "leases" / str(_index("eth0"))
    for path in (state, lease):
        path.parent.mkdir(parents=True, exist_ok=True)
    address = Address(link=NIC, family=4, ip="192.0.2.5", prefix=24)
    step = AwaitClient(client=client, leased=("192.0.2.5",), addresses=(address,), limit_s=0.05)
    with LinuxHost() as host:
        host.perform([AwaitClient(client=client, left=True, limit_s=0.05)])
        for text, told in {
            "": "is unmanaged",
            "ADMIN_STATE=configuring\nNETWORK_FILE=/etc/other": "not configured by",
            f"ADMIN_STATE=configuring\nNETWORK_FILE={network.path}": "no lease of 192.0.2.5",
        }.items():
            state.write_text(text)
            with pytest.raises(HostError, match=told):
                host.perform([step])
        lease.write_text("ADDRESS=192.0.2.5\n")
        begin = time.monotonic()
        host.perform([step])
        assert time.monotonic() - begin >= step.limit_s, "an address that does not come is no error, but waited for"
        run("ip", "address", "add", "192.0.2.5/24", "dev", "eth0")
        host.perform([replace(step, limit_s=60.0)])
        assert time.monotonic() - begin < 60
        with pytest.raises(HostError, match="is configuring still"):
            host.perform([AwaitClient(client=client, left=True, limit_s=0.05)])
        state.write_text("ADMIN_STATE=failed\n")
        host.perform([AwaitClient(client=client, left=True, limit_s=0.05)])
    run("ip", "address", "del", "192.0.2.5/24", "dev", "eth0")
    shutil.rmtree("/run/systemd")


def test_networkmanager_likewise(lan: Any, start: Start) -> None:
    index = _index("eth0")
    start("NetworkManager")
    devices, profiles = Path("/run/NetworkManager/devices"), Path("/run/NetworkManager/system-connections")
    assert _programs() == [("NetworkManager", None)]  # it does not say, so it may be any
    devices.mkdir(parents=True, exist_ok=True)
    profiles.mkdir(parents=True, exist_ok=True)
    assert _programs() == []
    profile = profiles / "netplan-eth0.nmconnection"
    profile.write_text("[connection]\nuuid=1b2c\n")
    (devices / str(index)).write_text("[device]\nmanaged=true\nconnection-uuid=1b2c\n")
    (client,) = observe_clients(["eth0"])
    assert (client.program, client.link) == ("NetworkManager", "eth0")
    assert ([file.path for file in client.files], client.profile) == ([str(profile)], "1b2c")
    profile.write_text("[connection]\nuuid=1b2c3d\n#uuid=1b2c\n")
    (client,) = observe_clients(["eth0"])
    assert (client.files, client.profile) == ((), "1b2c")
    profile.write_text("[connection]\ninterface-name=eth0\n")
    of_its_name = "626dd384-8b3d-3690-9511-192b2c79b3fd"  # what NetworkManager 1.42 and 1.52 say of it
    (devices / str(index)).write_text(f"[device]\nmanaged=true\nconnection-uuid={of_its_name}\n")
    (client,) = observe_clients(["eth0"])
    assert ([file.path for file in client.files], client.profile) == ([str(profile)], of_its_name)
    (devices / str(index)).write_text("[device]\nmanaged=false\n")
    assert _programs() == []
    for path in (devices / str(index), profile):
        path.unlink()
    devices.rmdir()


def test_a_launcher_and_its_daemon_are_one_client_and_end_together(lan: Any) -> None:
    """Without a server dhclient does not go to the background: its launcher waits for it."""
    launcher = subprocess.Popen(["dhclient", "-4", *lan.paths(), "eth0"], stderr=subprocess.DEVNULL)
    try:
        lan.wait_for(lambda: len(_pids("dhclient")) == 2)
        (client,) = observe_clients(["eth0"])
        stop_client(client)
        assert launcher.wait(5) != 0
        assert _pids("dhclient") == []
    finally:
        launcher.kill()
        launcher.wait()


def test_a_pid_that_is_another_process_by_now_is_left_alone(lan: Any, start: Start) -> None:
    """The client has ended, and its PID is somebody else's."""
    other = start("dhclient", "eth1")
    stop_client(Client(link=NIC, program="dhclient", pid=other.pid, argv=("/sbin/dhclient", "eth0")))
    assert other.poll() is None
    (found,) = observe_clients(["eth1"])
    stop_client(found)
    assert other.wait(5) == -9


def test_a_script_that_is_under_way_is_waited_for(lan: Any, start: Start) -> None:
    done = lan.folder / "done"
    body = f"import subprocess\nsubprocess.Popen(['/bin/sh', '-c', 'sleep 0.4; echo > {done}'])"
    start("dhclient", "eth0", body=body)
    (client,) = observe_clients(["eth0"])
    stop_client(client)
    assert done.exists()
    stop_client(client)


def test_a_script_that_is_started_meanwhile_is_waited_for_too(lan: Any, start: Start) -> None:
    body = (
        "import os, subprocess, threading, time\nos.setsid()\ndef go_on():\n"
        "    while True:\n        subprocess.Popen(['/bin/sleep', '0.3'])\n        time.sleep(0.05)\n"
        "threading.Thread(target=go_on, daemon=True).start()\ntime.sleep(0.2)"
    )
    process = start("dhclient", "eth0", body=body)
    (client,) = observe_clients(["eth0"])
    stop_client(client)
    assert process.wait(5) == -9
    left = [pid for pid in processes.pids() if processes.session(pid) == process.pid]
    assert [pid for pid in left if processes.state(pid) not in ("", "Z")] == []  # it may not be reaped yet


def test_a_started_client_has_nothing_of_ours(lan: Any) -> None:
    with _foreground(lan) as process:
        (client,) = observe_clients(["eth0"])
        stop_client(client)
        process.wait(5)
    kept = os.open("/dev/zero", os.O_RDONLY)
    os.set_inheritable(kept, True)
    start_client(client)
    os.close(kept)
    start_client(client)
    (again,) = observe_clients(["eth0"])
    assert again.argv == client.argv
    lan.wait_for(lambda: _pids("dhclient") == [again.pid])  # no second one; its script is called so for a moment
    opened = {fd: os.readlink(f"/proc/{again.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{again.pid}/fd")}
    assert [opened[fd] for fd in "012"] == ["/dev/null"] * 3
    assert "/dev/zero" not in opened.values()
    assert os.getsid(again.pid) == again.pid
    assert b"HOME=" not in Path(f"/proc/{again.pid}/environ").read_bytes()


def test_it_goes_to_its_predecessors_control_group(lan: Any) -> None:
    tree = Path("/sys/fs/cgroup")
    if run("mount", "-t", "cgroup2", "cgroup2", tree, check=False).returncode != 0:
        pytest.skip("control groups cannot be mounted here")
    group = tree / f"tapbridge-test-{os.getpid()}"
    try:
        group.mkdir()
        with _foreground(lan) as process:
            (group / "cgroup.procs").write_text(str(process.pid))
            (client,) = observe_clients(["eth0"])
            assert client.cgroup == f"/{group.name}"
            stop_client(client)
        start_client(client)
        (again,) = observe_clients(["eth0"])
        assert again.cgroup == client.cgroup
        stop_client(again)
    finally:
        for pid in (group / "cgroup.procs").read_text().split():
            os.kill(int(pid), signal.SIGKILL)
        lan.wait_for(lambda: not (group / "cgroup.procs").read_text(), 5)
        group.rmdir()
        run("umount", tree)


@pytest.mark.parametrize("words", [("/nowhere/dhclient", "eth0"), ("/sbin/dhclient", "--no-such-option")])
def test_a_client_that_does_not_start_is_told(lan: Any, words: tuple[str, ...]) -> None:
    with pytest.raises(HostError, match="dhclient"):
        start_client(Client(link=NIC, program="dhclient", pid=0, argv=words))


def test_files_of_another_mount_namespace_are_marked(lan: Any) -> None:
    """A path that means another file to the process is no path that we could write to."""
    inside = lan.folder / "inside"
    inside.mkdir()
    script = f"mount -t tmpfs tmpfs {inside} && exec dhclient -4 -d -pf {inside}/pid -lf {inside}/eth0.leases eth0"
    process = subprocess.Popen(["unshare", "-m", "sh", "-c", script], stderr=subprocess.DEVNULL)
    try:
        lan.wait_for(lambda: any(client.files for client in observe_clients(["eth0"])))
        (client,) = observe_clients(["eth0"])
        assert client.files[0].path == f"/proc/{process.pid}/root{inside}/eth0.leases"
    finally:
        process.kill()
        process.wait()


def test_a_machine_with_many_processes_is_looked_through_by_name_alone(lan: Any, start: Start) -> None:
    """Of a process with another name nothing but the name is read."""
    start("sleeper", "eth0")
    opened: list[str] = []

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(args[0], str) and args[0].startswith("/proc/"):
            opened.append(args[0])

    sys.addaudithook(hook)
    assert observe_clients(["eth0"]) == ()
    assert {path.rpartition("/")[2] for path in opened} == {"comm"}


def test_when_stop_returns_the_client_is_dead(lan: Any, start: Start) -> None:
    """When stop_client returns, the process is gone: nobody can write to the link any more."""
    process = start("dhclient", "eth0")
    (client,) = observe_clients(["eth0"])
    stop_client(client)
    assert ") Z " in Path(f"/proc/{process.pid}/stat").read_text()


@contextmanager
def _foreground(lan: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A dhclient that stays in the foreground, on a LAN without a server."""
    words = ["dhclient", "-4", "-d", *lan.paths(), "eth0"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        lan.wait_for(lambda: observe_clients(["eth0"]))
        yield process
    finally:
        process.kill()
        process.wait()


def _pids(name: str) -> list[int]:
    inside = os.stat("/proc/thread-self/ns/net").st_ino
    found = []
    for pid in os.listdir("/proc"):
        try:
            if pid.isdecimal() and Path(f"/proc/{pid}/comm").read_text().strip() == name:
                zombie = ") Z " in Path(f"/proc/{pid}/stat").read_text()
                if not zombie and os.stat(f"/proc/{pid}/ns/net").st_ino == inside:
                    found.append(int(pid))
        except OSError:
            continue
    return found


def _index(link: str) -> int:
    return int(run("ip", "-o", "link", "show", link).stdout.split(":")[0])
