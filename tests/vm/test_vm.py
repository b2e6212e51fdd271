"""The machine itself, and what only a boot of one's own shows: names that udev makes, an old kernel, a reboot."""

from __future__ import annotations

import json

import pytest

from kit.container import GATEWAY, NIC_MAC
from kit.tally import WHOLE
from kit.vm import NICS, Vm

NIC = NICS[0]
NETWORKD = f"[Match]\nMACAddress={NIC_MAC}\n[Network]\nDHCP=ipv4\n"
UP = ("tapbridge", "up", "--yes", "--quiet", "--confirm", "0")
LEASE = "ip -4 -o addr show dev {} | grep -q 'inet 192.0.2.'"


def by_port(told: str) -> dict[str, list[tuple[int, list[str]]]]:
    """The VLANs of each port, with their flags."""
    return {
        port["ifname"]: [(vlan["vlan"], vlan.get("flags", [])) for vlan in port["vlans"]] for port in json.loads(told)
    }


def test_commands_go_in_and_their_words_and_codes_come_out(machine: Vm) -> None:
    done = machine.run("cat; echo said >&2; exit 3", check=False, stdin="asked")
    assert (done.returncode, done.stdout, done.stderr) == (3, "asked", "said\n")
    assert machine.run("no-such-command", "word", check=False).returncode == 127
    assert machine.run("sleep 60", check=False, timeout_s=0.5).returncode == 127
    assert machine.run("systemctl", "--failed", "--plain", "--no-legend").stdout == ""
    assert machine.run("uname", "-r").stdout.startswith("6.1.")


def test_a_real_card_is_adopted_by_the_name_that_udev_gave_it_and_a_reboot_is_as_before(machine: Vm) -> None:
    machine.run(f"printf '%s' '{NETWORKD}' >/etc/systemd/network/nic.network; systemctl enable --now systemd-networkd")
    machine.wait_for(LEASE.format(NIC))
    machine.run(*UP)
    before = machine.addresses("br0")
    assert machine.run("ip -j link show br0 | grep -c 02:00:00:00:01:02").stdout == "1\n"
    assert machine.run("tapbridge", "status").stdout.count(NIC) == 1
    assert machine.addresses(NIC) == []
    # udev has had its say about a link that is called br0, and about a tap
    machine.run("tapbridge", "tap", "add", "tap0", "--bridge", "br0", "--quiet")
    machine.run("udevadm", "settle")
    links = {link["ifname"]: link for link in json.loads(machine.run("ip -j link").stdout)}
    assert links["br0"]["address"] == NIC_MAC
    assert links["tap0"]["master"] == "br0"

    machine.reboot()
    machine.wait_for(LEASE.format(NIC))
    assert machine.addresses(NIC) == before
    assert machine.run("ip -br link show type bridge").stdout == ""
    assert machine.run("tapbridge", "status", "--json").stdout.count('"name": "br') == 0
    assert machine.run("find /run/tapbridge /var/lib/tapbridge /run/systemd/network -type f", check=False).stdout == ""
    machine.run("systemctl", "disable", "--now", "systemd-networkd")
    machine.run(f"rm /etc/systemd/network/nic.network; ip addr flush dev {NIC}; ip link set {NIC} down")


def test_this_kernel_cannot_rename_a_link_that_is_up_and_up_says_so(machine: Vm) -> None:
    machine.run(f"ip link set {NIC} up; ip addr add 192.0.2.7/24 dev {NIC}; ip route add default via {GATEWAY}")
    machine.wait_for(f"ip -br link show dev {NIC} | grep -q LOWER_UP")
    done = machine.run("tapbridge", "up", "--take-name", "--json", "--confirm", "0", check=False)
    finding = json.loads(done.stdout)["findings"][0]
    assert (done.returncode, finding["code"]) == (3, "kernel-too-old")
    assert "6.2" in finding["message"]
    assert "6.1" in finding["message"]
    assert machine.run("ip -br link show type bridge").stdout == ""
    assert machine.addresses(NIC) == ["192.0.2.7"]
    machine.run(f"ip addr flush dev {NIC}; ip link set {NIC} down")


@pytest.mark.skipif(not WHOLE, reason="it boots twice, which takes minutes: script/test vm --all")
def test_a_saved_bridge_comes_back_with_the_card_that_has_the_permanent_address_and_a_tap_in_its_vlan(
    machine: Vm,
) -> None:
    machine.run(f"printf '%s' '{NETWORKD}' >/etc/systemd/network/nic.network; systemctl enable --now systemd-networkd")
    machine.wait_for(LEASE.format(NIC))
    machine.run(*UP, "--vlan-aware", "--save")
    before = machine.addresses("br0")
    files = "/etc/systemd/network/00-1-tapbridge-*"
    assert f"PermanentMACAddress={NIC_MAC}" in machine.run(f"cat {files}").stdout
    machine.wait_for("tapbridge service install --quiet")  # systemd is slow here, and not waited for long
    machine.run("tapbridge", "tap", "add", "web0", "--bridge", "br0", "--vlan", "7", "--persist", "--quiet")
    vlans = machine.run("bridge", "-j", "vlan", "show").stdout
    machine.reboot()
    machine.wait_for(LEASE.format("br0"))
    assert machine.addresses("br0") == before
    assert machine.addresses(NIC) == []
    (bridge,) = json.loads(machine.run("tapbridge", "status", "--json").stdout)["bridges"]
    assert (bridge["uplink"], bridge["mac"], bridge["saved"], bridge["vlan_aware"]) == (NIC, NIC_MAC, True, True)
    assert f"nic={NIC}" in machine.run("ip", "-d", "link", "show", "dev", "br0").stdout
    machine.wait_for("bridge vlan show dev web0 | grep -q 7")
    assert by_port(machine.run("bridge", "-j", "vlan", "show").stdout) == by_port(vlans)
    machine.wait_for("tapbridge tap del web0 --quiet; tapbridge service remove --quiet")
    machine.run("tapbridge unsave --quiet; tapbridge down --quiet")
    machine.wait_for(LEASE.format(NIC))
    assert machine.addresses(NIC) == before
    assert machine.run(f"ls {files}; ip -br link show type bridge", check=False).stdout == ""
    machine.run("systemctl", "disable", "--now", "systemd-networkd")
    machine.run(f"rm /etc/systemd/network/nic.network; ip addr flush dev {NIC}; ip link set {NIC} down")


@pytest.mark.skipif(not WHOLE, reason="it boots twice, which takes minutes: script/test vm --all")
def test_a_nic_of_ifupdown_s_that_is_plugged_in_gives_way_to_a_bridge_that_a_boot_makes(machine: Vm) -> None:
    machine.run(f"printf 'allow-hotplug {NIC}\niface {NIC} inet dhcp\n' >/etc/network/interfaces.d/nic")
    machine.run(f"systemctl enable networking; ifup {NIC}", timeout_s=60)
    machine.wait_for(LEASE.format(NIC))
    before = machine.addresses(NIC)
    machine.run(*UP, "--vlan-aware", "--save")
    machine.reboot()
    machine.wait_for(LEASE.format("br0"))
    assert (machine.addresses("br0"), machine.addresses(NIC)) == (before, [])
    assert machine.run("cat /sys/class/net/br0/bridge/vlan_filtering").stdout == "1\n"
    machine.run("tapbridge unsave --quiet; tapbridge down --quiet")
    assert machine.addresses(NIC) == before
    machine.reboot()
    machine.wait_for(LEASE.format(NIC))
    assert machine.addresses(NIC) == before
    machine.run(f"systemctl disable networking; ifdown {NIC}; rm /etc/network/interfaces.d/nic", check=False)
