"""`service` on a host that systemd runs: what systemd makes of the unit, and when it runs it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator

import pytest

from kit.container import PACKAGES, Container

UNIT = "tapbridge-recover.service"
TAPS = "tapbridge-taps.service"
LATER = ("systemd-networkd.service", "NetworkManager.service", "networking.service", "ifup@eth0.service")
EMPTY = "rm -rf /var/lib/tapbridge"


@pytest.fixture
def installed(host: Container) -> Container:
    """The host with the service."""
    host.run("tapbridge", "service", "install")
    host.run(EMPTY)
    return host


def test_systemd_has_nothing_to_say_against_the_unit(installed: Container) -> None:
    verified = installed.run("systemd-analyze", "verify", f"/etc/systemd/system/{UNIT}")
    assert verified.stdout + verified.stderr == ""
    assert installed.run("systemctl", "is-enabled", UNIT).stdout == "enabled\n"
    told = installed.show(UNIT, "LoadState", "NeedDaemonReload", "TimeoutStartUSec")
    assert told == {"LoadState": "loaded", "NeedDaemonReload": "no", "TimeoutStartUSec": "1min"}


def test_enabling_it_by_systemctl_would_change_nothing(installed: Container) -> None:
    links = "find /etc/systemd/system -lname '*tapbridge*' -printf '%p %l\n' | sort"
    before = installed.run(links).stdout
    installed.run("systemctl", "reenable", UNIT)
    assert installed.run(links).stdout == before
    assert before


def test_it_is_before_the_network_and_behind_the_journal_s_file_system(installed: Container) -> None:
    told = installed.show(UNIT, "Before", "After", "Wants", "Requires", "RequiresMountsFor")
    before = set(told["Before"].split())
    assert {"network-pre.target", "sysinit.target", "shutdown.target"} <= before
    assert set(LATER[:3]) <= before
    assert told["Wants"] == "network-pre.target"
    assert "/var/lib/tapbridge" in told["RequiresMountsFor"].split()
    assert set(told["Requires"].split()) <= {"-.mount", "system.slice"}
    assert not {unit for unit in told["After"].split() if unit.endswith(".target")}
    for unit in LATER:
        behind = installed.show(unit, "After")["After"].split()
        assert UNIT in behind or "network-pre.target" in behind, unit


def test_it_runs_before_the_network_when_something_is_left(installed: Container) -> None:
    installed.run(
        "mkdir -p /var/lib/tapbridge; touch /var/lib/tapbridge/journal-left; systemctl enable systemd-networkd"
    )
    installed.reboot()
    ran = installed.show(UNIT, "ConditionResult", "ExecMainStartTimestampMonotonic", "ExecMainExitTimestampMonotonic")
    networkd = installed.show("systemd-networkd", "ActiveState", "ExecMainStartTimestampMonotonic")
    assert ran["ConditionResult"] == "yes"
    assert 0 < int(ran["ExecMainStartTimestampMonotonic"]) < int(ran["ExecMainExitTimestampMonotonic"])
    assert int(ran["ExecMainExitTimestampMonotonic"]) < int(networkd["ExecMainStartTimestampMonotonic"])
    assert networkd["ActiveState"] == "active"
    assert "ordering cycle" not in installed.log()


def test_it_does_not_run_when_nothing_is_left(installed: Container) -> None:
    installed.reboot()
    told = installed.show(UNIT, "ConditionResult", "ExecMainStartTimestampMonotonic", "ActiveState")
    assert told == {"ConditionResult": "no", "ExecMainStartTimestampMonotonic": "0", "ActiveState": "inactive"}


def test_remove_leaves_nothing_behind(installed: Container) -> None:
    assert installed.run("tapbridge", "service", "remove").returncode == 0
    assert installed.show(UNIT, "LoadState") == {"LoadState": "not-found"}
    assert installed.run("find /etc -name '*tapbridge*'").stdout == ""
    assert installed.run("tapbridge", "-q", "service", "remove").stdout == ""


@pytest.fixture
def bridged(installed: Container) -> Iterator[Container]:
    """The host, whose systemd-networkd makes br0 at every boot."""
    folder = installed.path("/etc/systemd/network")
    (folder / "10-br0.netdev").write_text("[NetDev]\nName=br0\nKind=bridge\n")
    (folder / "10-br0.network").write_text("[Match]\nName=br0\n[Link]\nActivationPolicy=up\n")
    installed.run("systemctl", "enable", "systemd-networkd")
    installed.reboot()
    yield installed
    installed.run(f"rm -f /etc/systemd/network/10-br0.*; {EMPTY}")


def places(host: Container) -> dict[str, str | None]:
    """The taps and their bridges."""
    return {
        tap["name"]: tap["bridge"] for tap in json.loads(host.run("tapbridge", "tap", "list", "--json").stdout)["taps"]
    }


def test_persistent_taps_come_back_with_their_bridge(bridged: Container) -> None:
    verified = bridged.run("systemd-analyze", "verify", f"/etc/systemd/system/{TAPS}")
    assert verified.stdout + verified.stderr == ""
    bridged.wait_for("ip link show br0")
    bridged.run("tapbridge", "tap", "add", "web0", "--bridge", "br0", "--owner", "nobody", "--persist")
    bridged.run("tapbridge", "tap", "add", "passing0", "--bridge", "br0")
    bridged.reboot()
    bridged.wait_for("tapbridge tap list | grep -q 'web0.*br0'")
    assert places(bridged) == {"web0": "br0"}
    assert bridged.show(TAPS, "Result") == {"Result": "success"}


def test_a_bridge_that_comes_later_gets_its_taps(bridged: Container) -> None:
    bridged.wait_for("ip link show br0")
    bridged.run("tapbridge", "tap", "add", "web0", "--bridge", "br0", "--persist")
    bridged.path("/etc/systemd/network/10-br0.netdev").unlink()
    bridged.reboot()
    bridged.wait_for("ip link show web0")
    assert places(bridged) == {"web0": None}
    bridged.run("ip link add br0 type bridge")
    bridged.wait_for("tapbridge tap list | grep -q 'web0.*br0'")


def test_bridges_that_come_while_the_service_is_at_work_get_their_taps(bridged: Container) -> None:
    bridged.wait_for("ip link show br0")
    bridged.run("tapbridge", "tap", "add", "web0", "--bridge", "br0", "--persist")
    bridged.run(f"mkdir -p /run/systemd/system/{TAPS}.d")
    bridged.path(f"/run/systemd/system/{TAPS}.d/slow.conf").write_text("[Service]\nExecStartPost=sleep 3\n")
    bridged.run("systemctl daemon-reload; ip link del br0")
    assert places(bridged) == {"web0": None}
    bridged.run("systemctl", "--no-block", "start", TAPS)
    bridged.wait_for(f"systemctl show -p ControlPID {TAPS} | grep -qv '=0$'")  # it has looked, and goes on
    bridged.run("for number in 1 2 3 4 5 6 7; do ip link add more$number type bridge; sleep 0.3; done")
    bridged.run("ip link add br0 type bridge")
    bridged.wait_for("tapbridge tap list | grep -q 'web0.*br0'")


def refused(host: Container, *words: str) -> tuple[int, str]:
    """The exit code and the code of the finding of an install that must not be carried out."""
    done = host.run(*words, "service", "install", "--json", check=False)
    assert host.run("find /etc -name '*tapbridge*'").stdout == ""
    return done.returncode, json.loads(done.stdout)["findings"][0]["code"]


def test_a_program_that_others_may_change_is_not_made_root_s(host: Container) -> None:
    host.run("tapbridge", "service", "remove")
    for spoil, mend in (("chown 1000", "chown 0"), ("chmod go+w", "chmod go-w")):
        host.run(f"{spoil} /{PACKAGES}/tapbridge")
        assert refused(host, "tapbridge") == (3, "program-not-of-root")
        host.run(f"{mend} /{PACKAGES}/tapbridge")


def test_a_program_that_would_not_be_found_at_boot_is_refused(host: Container) -> None:
    host.run("tapbridge", "service", "remove")
    host.run(f"mkdir -p /opt/checkout && mv /{PACKAGES}/tapbridge /opt/checkout")
    try:
        program = ("env", "PYTHONPATH=/opt/checkout", "/usr/bin/python3", "-m", "tapbridge")
        assert refused(host, *program) == (3, "program-not-installed")
    finally:
        host.run(f"mv /opt/checkout/tapbridge /{PACKAGES}")


def test_whoever_is_not_root_is_not_permitted(host: Container) -> None:
    host.run("tapbridge", "service", "remove")
    words = shlex.join(["setpriv", "--reuid=1000", "--clear-groups", "--bounding-set=-all", "tapbridge"])
    assert refused(host, *shlex.split(words)) == (5, "not-permitted")
