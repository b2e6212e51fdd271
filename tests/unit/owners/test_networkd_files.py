"""The files of systemd-networkd as text: what goes along, in which order, and what does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapbridge.owners.networkd_files import (
    bridge_file,
    find_obstacle,
    netdev_file,
    original_of,
    outlook,
    port_file,
    saved_port_file,
    settings,
)

OWN = """# a comment
[Match]
Name=en*
  [Network]
DHCP = yes
DNS=192.0.2.1 \\
; which goes on
   192.0.2.2
[Address]
Address=192.0.2.7/24
[X-Ours]
Note=no
"""
DROP_IN = "[Network]\nDNS=\nDNS=192.0.2.3\n[Address]\nAddress=192.0.2.8/24"
MAC = "02:00:00:00:01:02"
GRAMMAR = st.text("[]=#;\\ \t\nabNetwork", max_size=60)


def test_a_file_and_its_drop_ins_become_one_for_the_bridge() -> None:
    lines = bridge_file((OWN, DROP_IN), "eth0", ("br0",), 16909060).splitlines()
    assert lines[1:] == [
        *("[Match]", "Name=br0", "", "[Network]", "DHCP=yes", "DNS=192.0.2.1     192.0.2.2"),
        *("", "[Address]", "Address=192.0.2.7/24"),
        *("", "[Network]", "DNS=", "DNS=192.0.2.3", "", "[Address]", "Address=192.0.2.8/24"),
        *("", "[DHCPv4]", "IAID=16909060", "SendRelease=no", "", "[DHCPv6]", "IAID=16909060", "SendRelease=no"),
    ]


def test_a_vlan_stays_with_the_nic() -> None:
    text = "[Network]\nVLAN=office\nDHCP=yes\nVLAN=lab"
    assert find_obstacle((text,), "eth0") is None
    lines = bridge_file((text,), "eth0", ("br0",), None).splitlines()
    assert not any("VLAN" in line for line in lines)
    assert "DHCP=yes" in lines


def test_without_a_lease_there_is_no_identity_to_keep() -> None:
    assert "IAID" not in bridge_file((OWN,), "eth0", ("br0",), None)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[Network]\nMACVLAN=office", "MACVLAN=office"),
        ("[Network]\nBridge=br9", "Bridge=br9"),
        ("[Network]\nKeepConfiguration=dhcp", "KeepConfiguration=dhcp"),
        ("[Bridge]\nCost=1", "[Bridge]"),
        ("[RoutingPolicyRule]\nPriority=5", "[RoutingPolicyRule]"),
        ("[Network]\nBindCarrier=\\\neth0", "BindCarrier=eth0"),
        ("[Route]\nDestination=192.0.2.0/24\nNote=a eth0 b", "Note=a eth0 b"),
    ],
)
def test_what_a_bridge_cannot_take_over_is_told(text: str, told: str) -> None:
    obstacle = find_obstacle((OWN, text), "eth0")
    assert obstacle is not None
    assert told in obstacle


@pytest.mark.parametrize("text", ["[Network]\nKeepConfiguration=no\nVLAN=\nDHCPServer=off", "[Match]\nName=eth0", OWN])
def test_what_says_nothing_is_no_obstacle(text: str) -> None:
    assert find_obstacle((text,), "eth0") is None


def test_the_file_of_the_port_remembers_the_own_one() -> None:
    text = port_file("eth0", "br0", "/etc/systemd/network/20 wired.network")
    assert original_of(text) == "/etc/systemd/network/20 wired.network"
    assert list(settings(text)) == [
        *(("Match", "", ""), ("Match", "Name", "eth0")),
        *(("Link", "", ""), ("Link", "Unmanaged", "yes")),
    ]
    assert original_of("[Match]\nName=eth0\n") is None


@given(GRAMMAR, GRAMMAR)
def test_a_text_means_for_the_bridge_what_it_meant_for_the_nic(one: str, other: str) -> None:
    """Whatever is in a file, nothing of it becomes a line or a section that was not there."""
    kept = [
        said for text in (one, other) for said in settings(text) if said[0] != "Match" and not said[0].startswith("X-")
    ]
    assert list(settings(bridge_file((one, other), "eth0", ("br0",), None)))[2:-4] == kept


def test_a_boot_makes_the_bridge_of_three_more_files() -> None:
    assert netdev_file("br0", MAC).splitlines()[1:] == [
        *("[NetDev]", "Name=br0", "Kind=bridge", f"MACAddress={MAC}", ""),
        *("[Bridge]", "STP=no", "MulticastSnooping=no"),
    ]
    assert netdev_file("br0", MAC, vlan_aware=True) == netdev_file("br0", MAC) + "VLANFiltering=yes\n"
    text = saved_port_file(
        "eth0", "br0", "/etc/a.network", f"PermanentMACAddress={MAC}", "[Link]\nMTUBytes=1400\n" + OWN
    )
    assert original_of(text) == "/etc/a.network"
    assert [line for line in text.splitlines() if not line.startswith("#")] == [
        *("[Match]", f"PermanentMACAddress={MAC}", "", "[Network]", "Bridge=br0", "LinkLocalAddressing=no", ""),
        *("[Link]", "MTUBytes=1400"),
    ]


def test_vlan_links_stay_with_the_nic_that_a_boot_makes_a_port() -> None:
    text = saved_port_file("eth0", "br0", "/etc/a.network", "Name=eth0", "[Link]\nMTUBytes=1400\n", ("office", "lab"))
    of_network = [(key, value) for section, key, value in settings(text) if section == "Network" and key]
    assert of_network == [("Bridge", "br0"), ("LinkLocalAddressing", "no"), ("VLAN", "office"), ("VLAN", "lab")]


@given(GRAMMAR)
def test_the_port_takes_over_the_card_s_settings_and_nothing_else(text: str) -> None:
    port = saved_port_file("eth0", "br0", "/etc/a.network", "Name=eth0", text)
    card = [(key, value) for section, key, value in settings(text) if section == "Link" and key]
    wanted = [("Match", "Name", "eth0"), ("Network", "Bridge", "br0"), ("Network", "LinkLocalAddressing", "no")]
    assert [one for one in settings(port) if one[1]] == wanted + [("Link", *one) for one in card]


def test_what_a_file_makes_of_its_link_is_known() -> None:
    found = outlook(
        "[Network]\nAddress=192.0.2.1/24\nAddress=\nAddress=192.0.2.7/24\nDHCP=ipv6\nGateway=192.0.2.1\n"
        "[Address]\nAddress=2001:DB8::7/64\n[Route]\nGateway=192.0.2.9\nDestination=203.0.113.0/24\n"
        "[Route]\nDestination=203.0.114.0/24\nGateway=192.0.2.8\n[Route]\nGateway=2001:DB8::1\n"
    )
    assert found.addresses == {"192.0.2.7/24", "2001:db8::7/64"}
    assert found.gateways == {"192.0.2.1", "2001:db8::1"}
    assert found.asked == {6}
