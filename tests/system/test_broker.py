"""The broker as a service of systemd: it starts when the first user comes, and may do nothing but its work."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from kit.container import Container

UNITS = ("tapbridge-broker.socket", "tapbridge-broker.service")
SERVICE = UNITS[1]
EXPOSURE = 2.0
USER = "setpriv --reuid=1000 --regid=1000 --clear-groups --inh-caps=-all --bounding-set=-all"
QEMU = "/usr/local/bin/qemu-system-x86_64"
STAND_IN = f"printf '#!/bin/sh\\nip -d link show tbtap0\\necho pid $$\\nexec sleep \"$1\"\\n' >{QEMU}; chmod +x {QEMU}"
TUN = "test -e /dev/net/tun || { mkdir -p /dev/net; mknod -m 0666 /dev/net/tun c 10 200; }"
BRIDGE = "ip link add br0 address 02:00:00:00:00:10 type bridge; ip link set br0 up"
POLICY = "mkdir -p /etc/tapbridge; echo 'allow user 1000 bridge br0' >/etc/tapbridge/broker.policy"


@pytest.fixture(scope="module")
def serving(host: Container) -> Iterator[Container]:
    """The host with the broker, a bridge, and a user who is allowed one tap."""
    for command in (TUN, STAND_IN, BRIDGE, POLICY, "install -d -m 0700 /run/tapbridge"):
        host.run(command)
    assert host.run("tapbridge", "service", "install", "--broker").stdout.startswith("The boot service and the broker")
    yield host
    host.run("tapbridge", "service", "remove")


def test_systemd_has_nothing_to_say_against_the_units(serving: Container) -> None:
    for unit in UNITS:
        verified = serving.run("systemd-analyze", "verify", f"/etc/systemd/system/{unit}")
        assert verified.stdout + verified.stderr == ""
    assert serving.run("systemctl", "is-enabled", UNITS[0]).stdout == "enabled\n"
    assert "nothing to do" in serving.run("tapbridge", "service", "install", "--broker").stdout


def test_what_the_service_may_do_is_little(serving: Container) -> None:
    told = serving.run(f"systemd-analyze security --no-pager {SERVICE}", check=False).stdout
    found = re.search(r"Overall exposure level for \S+ (\d+\.\d)", told)
    assert found is not None, told
    assert float(found[1]) <= EXPOSURE, told


def test_a_user_gets_a_tap_from_a_service_that_was_not_running(serving: Container) -> None:
    serving.run("systemctl", "stop", SERVICE)
    said = serving.run(f"{USER} tapbridge run --net br0 -- {QEMU} 0").stdout
    assert "master br0" in said and "user 1000" in said and "locked on" in said
    assert serving.show(SERVICE, "ActiveState", "NRestarts") == {"ActiveState": "active", "NRestarts": "0"}
    pid = serving.show(SERVICE, "MainPID")["MainPID"]
    assert "CapEff:\t0000000000001000\n" in serving.path(f"/proc/{pid}/status").read_text()
    serving.wait_for("! ip link show tbtap0")
    refused = serving.run(f"{USER} tapbridge run --net br0 --mac 02:00:00:00:00:01 -- {QEMU} 0", check=False)
    assert refused.returncode == 5


def test_the_sandbox_lets_the_broker_guard_a_guest_and_again_when_all_rules_were_flushed(serving: Container) -> None:
    serving.run(f"{POLICY}; sed -i 's/$/ guard ip ip 192.0.2.10 rate 10M/' /etc/tapbridge/broker.policy")
    refused = serving.run(f"{USER} tapbridge run --net br0 -- {QEMU} 0", check=False)
    assert (refused.returncode, "cannot limit the rate" in refused.stderr) in ((3, True), (0, False))
    serving.run(f"{POLICY}; sed -i 's/$/ guard ip ip 192.0.2.10/' /etc/tapbridge/broker.policy")
    serving.run(f"{USER} sh -c 'tapbridge run --net br0 -- {QEMU} 60 >/tmp/guarded 2>&1 & :'")
    serving.wait_for("grep -q ^pid /tmp/guarded")
    rules = "nft list table bridge tapbridge"
    assert "ip saddr != 192.0.2.10 counter" in serving.run(rules).stdout
    serving.run("nft flush ruleset")
    serving.wait_for(f"{rules} | grep -q 'ip saddr != 192.0.2.10 counter'")
    serving.run("kill -KILL $(sed -n 's/^pid //p' /tmp/guarded)")
    serving.wait_for(f"! {rules} | grep -q icmp6")
    serving.run(POLICY)


def test_a_guest_outlives_the_broker_and_is_known_to_the_next_one(serving: Container) -> None:
    serving.run(f"{USER} sh -c 'tapbridge run --net br0 -- {QEMU} 60 >/tmp/guest 2>&1 & :'")
    serving.wait_for("grep -q ^pid /tmp/guest")
    serving.run(f"kill -KILL $(systemctl show --value -p MainPID {SERVICE})")
    serving.wait_for(f"systemctl is-active -q {SERVICE} && journalctl -u {SERVICE} | grep -q 'tbtap0 on br0 is lent'")
    assert serving.run(f"{USER} tapbridge run --name two --net br0 -- {QEMU} 0", check=False).returncode == 5
    serving.run("kill -KILL $(sed -n 's/^pid //p' /tmp/guest)")
    serving.wait_for("! ip link show tbtap0")


def test_nothing_is_lent_of_a_bridge_that_may_be_taken_back(serving: Container) -> None:
    serving.run(
        "ip link add nic7 up type veth peer name far7; ip link set far7 up; ip addr add 198.51.100.7/24 dev nic7"
    )
    serving.run("echo 'allow user 1000 bridge br7' >>/etc/tapbridge/broker.policy")
    asked = f"{USER} tapbridge run --net br7 -- {QEMU} 0"
    serving.run("tapbridge", "up", "nic7", "--bridge", "br7", "--yes", "--confirm", "60", "--no-wait")
    try:
        refused = serving.run(asked, check=False)
        assert (refused.returncode, "waits to be confirmed" in refused.stderr) == (3, True)
    finally:
        serving.run("tapbridge", "confirm")
    assert "master br7" in serving.run(asked).stdout
    serving.wait_for("! ip link show tbtap0")
    serving.run("tapbridge", "down", "br7", "--yes")
    serving.run("ip link del nic7")


def test_remove_leaves_nothing_behind(serving: Container) -> None:
    serving.run("tapbridge", "service", "remove")
    assert serving.run("find /etc/systemd -name '*tapbridge*'; ls /run/tapbridge").stdout == ""
    assert serving.show(UNITS[0], "ActiveState", "LoadState") == {"ActiveState": "inactive", "LoadState": "not-found"}
    assert serving.run(f"{USER} tapbridge run --net br0 -- {QEMU} 0", check=False).returncode == 5
