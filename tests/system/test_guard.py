"""A change that waits to be confirmed, on a host that systemd runs: logged out, killed, cut off, it is taken back."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kit.changes import until
from kit.container import GATEWAY, Container, container
from tapbridge.model.journal import Applied
from tapbridge.transact.journal import Journal, load_records

WINDOW_S = 5
SHORT_S = 2
RUNS = 200 if os.environ.get("TAPBRIDGE_TEST_ALL") else 2
LIMIT_S = 30
LATE_S = 2.0
LOGOUT = "[Login]\nKillUserProcesses=yes\nKillExcludeUsers=nobody\n"  # the default spares root
ADDRESSES = f"ip link set eth0 up; ip addr add 192.0.2.2/24 dev eth0; ip route add default via {GATEWAY}"
KEPT = """
from tapbridge.cli.world import World
from tapbridge.linux.boot import boot_id
from tapbridge.linux.files import read_file, write_file
from tapbridge.model.journal import FilesBegan
from tapbridge.transact.journal import dump_line
path = World().durable_journal()
path.parent.mkdir(parents=True, exist_ok=True)
file = read_file("/etc/systemd/network/eth0.network")
path.write_bytes(dump_line(FilesBegan(id="1-2", boot_id=boot_id(), files=(file,)), "1-2"))
write_file(file.path, "[Match]\\nName=none\\n")
"""


@pytest.fixture
def host() -> Iterator[Container]:
    """A host with a static address, where whoever logs out ends all that he has started."""
    with container() as booted:
        booted.run("mkdir", "/etc/systemd/logind.conf.d")
        booted.path("/etc/systemd/logind.conf.d/logout.conf").write_text(LOGOUT)
        booted.run(f"systemctl restart systemd-logind; {ADDRESSES}")
        yield booted


def waiting(host: Container) -> Applied | None:
    """The change that waits, by its journal."""
    for folder in Path(host.path("/run/tapbridge")).glob("netns-*"):
        for record in load_records(Journal(folder).read()[1]):
            if isinstance(record, Applied):
                return record
    return None


def log_in(host: Container, command: str) -> None:
    """Run a shell command in a login session of root's, which ends with the shell."""
    pam = ("--property=PAMName=login", "--property=User=root")
    host.run("systemd-run", "--quiet", "--collect", "--unit=login", *pam, "sh", "-c", command)


def wait_for_the_way_back(host: Container, deadline: float) -> float:
    """Wait until br0 is gone, and make sure of the rest; how many seconds behind the deadline that was."""
    assert until(lambda: not Path(host.path("/sys/class/net/br0")).exists(), LIMIT_S), host.log()
    late_s = time.clock_gettime(time.CLOCK_BOOTTIME) - deadline
    host.wait_for("ip -4 -o addr show dev eth0 | grep -q 192.0.2.2/24")
    host.wait_for(f"ip route show default | grep -q 'via {GATEWAY} dev eth0'")
    assert host.run("ping", "-c1", "-W2", GATEWAY).returncode == 0
    assert until(lambda: json.loads(host.run("tapbridge", "status", "--json").stdout)["pending"] is None)
    return late_s


def changed(host: Container) -> float:
    """Change the host from a session, log out, and make sure that the command is dead; the deadline."""
    log_in(host, f"tapbridge up --yes --confirm {WINDOW_S} & while ! test -e /run/changed; do sleep 0.05; done")
    assert until(lambda: waiting(host) is not None, LIMIT_S), host.log()
    applied = waiting(host)
    assert applied is not None
    assert host.run("pgrep", "-xc", "python3").stdout == "1\n"
    host.run("touch", "/run/changed")
    assert until(lambda: host.run("pgrep", "-x", "python3", check=False).returncode != 0), host.log()
    assert until(lambda: host.run("loginctl", "list-sessions", "--no-legend").stdout == ""), host.log()
    return applied.confirm_by


@pytest.mark.parametrize(
    "lost",
    ["", "pkill -KILL -x tapbridge-guard", "systemctl stop 'tapbridge-undo-*.timer'"],
    ids=["nothing", "the guardian", "the timer"],
)
def test_a_logout_that_kills_everything_does_not_keep_the_change(host: Container, lost: str) -> None:
    deadline = changed(host)
    if lost:
        host.run(lost)
    late_s = wait_for_the_way_back(host, deadline)
    print(f"without {lost or 'any loss'}: {late_s:.3f} s behind the deadline")
    assert 0 < late_s < LATE_S
    assert until(lambda: "tapbridge" not in host.run("systemctl list-units --all --plain --no-legend").stdout)
    assert until(lambda: host.run("pgrep", "-x", "tapbridge-guard", check=False).returncode != 0)


@pytest.mark.parametrize("lost", ["pkill -KILL -x tapbridge-guard", "systemctl stop 'tapbridge-undo-*.timer'"])
def test_either_guard_alone_is_enough(host: Container, lost: str) -> None:
    """Again and again on one host; the figures of 200 runs are in docs/bench.md."""
    late = []
    for _ in range(RUNS):
        host.run("tapbridge", "up", "--yes", "--quiet", "--confirm", str(SHORT_S), "--no-wait")
        applied = waiting(host)
        assert applied is not None
        host.run(lost)
        late.append(wait_for_the_way_back(host, applied.confirm_by))
        assert until(lambda: "tapbridge" not in host.run("systemctl list-units --all --plain --no-legend").stdout)
    late.sort()
    print(f"{lost}: {RUNS} runs, {late[RUNS // 2]:.3f} s behind the deadline in the middle, {late[-1]:.3f} s at worst")
    assert late[0] > 0
    assert late[-1] < LATE_S


def test_a_confirmed_change_outlives_its_guards(host: Container) -> None:
    changed(host)
    host.run("tapbridge", "confirm")
    time.sleep(WINDOW_S + LATE_S)
    assert Path(host.path("/sys/class/net/br0")).exists()
    assert host.run("ping", "-c1", "-W2", GATEWAY).returncode == 0
    assert host.run("systemctl list-units --all --plain --no-legend 'tapbridge-*'").stdout == ""


def test_the_boot_service_takes_a_file_back_before_the_network_reads_it(host: Container) -> None:
    network = "[Match]\nName=eth0\n[Network]\nDHCP=ipv4\n"
    host.path("/etc/systemd/network/eth0.network").write_text(network)
    host.run("tapbridge service install; systemctl enable systemd-networkd")
    host.path("/run/kept.py").write_text(KEPT)
    host.run("python3", "-I", "/run/kept.py")
    host.crash()
    assert host.run("cat", "/etc/systemd/network/eth0.network").stdout == network
    host.wait_for_ip()
    told = host.show("tapbridge-recover.service", "Result", "ExecMainStatus", "ConditionResult")
    assert told == {"Result": "success", "ExecMainStatus": "0", "ConditionResult": "yes"}
    assert host.run("ls", "/var/lib/tapbridge").stdout == ""
    assert host.run("systemctl", "is-system-running").stdout == "running\n"
