"""The rate of a guest, in both directions: Debian's kernel has all that it takes. And its guard, on an older kernel."""

from __future__ import annotations

import json
from pathlib import Path

from kit import flood
from kit.vm import Vm

RATE = 4_000_000
LAY_OUT = f"""
ip link add br9 address 02:00:00:00:00:10 type bridge mcast_snooping 0
ip link add eth9 type veth peer name {flood.LINK}
ip link set eth9 master br9
ip link set {flood.LINK} address {flood.HOST.hex(":")}
for link in br9 eth9 {flood.LINK}; do ip link set $link up; done
cat >/root/qemu-system-x86_64
"""
GUEST = ("tapbridge", "run", "--net", "br9", "--mac", flood.GUEST.hex(":"), "--rate", "4M")
QEMU = ("--", "python3", "/root/qemu-system-x86_64")


def test_what_a_guest_sends_and_what_it_gets_is_held_to_the_rate(machine: Vm) -> None:
    machine.run(LAY_OUT, stdin=Path(flood.__file__).read_text())
    for flow in json.loads(machine.run(*GUEST, *QEMU).stdout):
        assert 0.5 * RATE < flow < 1.2 * RATE
    assert all(flow > 2 * RATE for flow in json.loads(machine.run(*GUEST[:-2], *QEMU).stdout))
    assert "tbtap" not in machine.run("ip link; tc qdisc").stdout


def test_a_user_is_held_to_the_rate_of_the_policy_and_may_ask_for_less(machine: Vm) -> None:
    machine.run(
        "useradd --create-home alice; mkdir -p /etc/tapbridge; cat >/etc/tapbridge/broker.policy",
        stdin="allow user alice bridge br9 rate 6M\n",
    )
    machine.run("systemd-run --unit broker --service-type=exec tapbridge broker")
    machine.wait_for("test -S /run/tapbridge/broker.sock")
    machine.run("install -m 755 /root/qemu-system-x86_64 /home/alice/")
    shown = "sh -c 'tc -s qdisc show; tc filter show dev $(ls /sys/class/net | grep tbtap) ingress; : fds='"
    for asked, told in (((), "6Mbit"), (("--rate", "2M"), "2Mbit"), (("--rate", "8M"), "6Mbit")):
        words = f"runuser -u alice -- tapbridge run --net br9 {' '.join(asked)} -- {shown}"
        said = machine.run(words).stdout
        assert "tbf" in said and said.count(f"rate {told}") == 2, said
    machine.run("systemctl stop broker; rm /etc/tapbridge/broker.policy; userdel --remove alice")


def test_a_guest_is_guarded_on_this_kernel_too_and_what_holds_it_is_shown(machine: Vm) -> None:
    shown = "sh -c 'nft list table bridge tapbridge; bridge -d link; tapbridge ps --json; : fds='"
    held = "--rate 2500K --guard ip --ip 192.0.2.10,2001:db8::10 --allow vlan"
    said = machine.run(f"tapbridge run --net br9 {held} -- {shown}").stdout
    assert "ip saddr != 192.0.2.10 counter" in said and "locked on" in said
    assert '"rate": 2500000, "guard": "ip"' in said
    assert machine.run("tapbridge", "recover").returncode == 0
    assert "icmp6" not in machine.run("nft list ruleset").stdout
