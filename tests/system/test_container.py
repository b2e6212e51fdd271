"""The container that the tests of this folder boot: a real host, which ends with whoever made it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kit.container import GATEWAY, NIC_MAC, Container, container
from kit.source import ROOT

NETWORKD = f"[Match]\nMACAddress={NIC_MAC}\n[Network]\nDHCP=ipv4\n"
IFUPDOWN = "auto eth0\niface eth0 inet dhcp\n"
NETPLAN = "network: {version: 2, ethernets: {eth0: {dhcp4: true}}}\n"
HELD = "from kit.container import container\nwith container() as one: print(one.leader, flush=True), input()"


@pytest.mark.parametrize(
    ("units", "path", "text"),
    [
        ("systemd-networkd", "/etc/systemd/network/eth0.network", NETWORKD),
        ("NetworkManager", "", ""),
        ("networking", "/etc/network/interfaces", IFUPDOWN),
        ("dhcpcd", "", ""),
        ("systemd-networkd", "/etc/netplan/eth0.yaml", NETPLAN),
    ],
    ids=["networkd", "NetworkManager", "ifupdown", "dhcpcd", "netplan"],
)
def test_every_manager_takes_a_lease_at_boot(units: str, path: str, text: str) -> None:
    with container() as host:
        if path:
            host.path(path).write_text(text)
        if units == "dhcpcd":
            host.path("/etc/systemd/system/dhcpcd.service").write_text(
                "[Service]\nExecStart=/usr/sbin/dhcpcd -B -A eth0\n[Install]\nWantedBy=multi-user.target\n"
            )
        host.run("systemctl", "enable", units)
        host.reboot()
        host.wait_for_ip()
        assert host.run("ping", "-c1", "-W2", GATEWAY).returncode == 0


def test_a_reboot_keeps_files_and_nothing_else(host: Container) -> None:
    host.run("echo kept >/etc/kept; echo lost >/run/lost; ip link add br0 type bridge")
    before = host.run("cat", "/proc/sys/kernel/random/boot_id").stdout
    host.reboot()
    assert host.run("cat", "/etc/kept").stdout == "kept\n"
    assert host.run("cat", "/run/lost", check=False).returncode == 1
    assert sorted(host.run("ls", "/sys/class/net").stdout.split()) == ["eth0", "lo"]
    assert host.run("cat", "/proc/sys/kernel/random/boot_id").stdout != before
    assert host.run("systemctl", "is-system-running").stdout == "running\n"


def test_the_power_can_be_cut(host: Container) -> None:
    host.run("echo kept >/etc/cut; sync")
    leader = host.leader
    host.crash()
    assert not Path(f"/proc/{leader}").exists()
    assert host.run("cat", "/etc/cut").stdout == "kept\n"


def test_a_command_gives_its_exit_code(host: Container) -> None:
    assert host.run("exit 7", check=False).returncode == 7
    with pytest.raises(AssertionError, match="exit 7"):
        host.run("exit 7")


def test_a_container_ends_with_a_killed_test() -> None:
    """Its processes are gone at once; its control group when the next one ends."""
    test = subprocess.Popen(
        [sys.executable, "-c", HELD],
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert test.stdout is not None
    leader = int(test.stdout.readline())
    assert len(mounted_groups(test.pid)) > 0
    test.send_signal(signal.SIGKILL)
    test.communicate()
    deadline = time.monotonic() + 5
    while Path(f"/proc/{leader}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with container():
        pass
    assert mounted_groups(test.pid) == []


def mounted_groups(pid: int) -> list[str]:
    """The control groups of a process's containers. Those of others come and go meanwhile, which find dislikes."""
    look = f"mount -t cgroup2 cgroup2 /mnt && {{ find /mnt -name 'tapbridge-container-{pid}-*' 2>/dev/null; true; }}"
    return subprocess.check_output(["unshare", "--mount", "sh", "-c", look], text=True).split()
