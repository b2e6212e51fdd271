"""The files of systemd-networkd as text: what goes along, in which order, and what does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapbridge.owners.networkd_files import bridge_file, find_obstacle, original_of, port_file, settings

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
GRAMMAR = st.text("[]=#;\\ \t\nabNetwork", max_size=60)


def test_a_file_and_its_drop_ins_become_one_for_the_bridge() -> None:
    lines = bridge_file((OWN, DROP_IN), "eth0", "br0", 16909060).splitlines()
    assert lines[1:] == [
        *("[Match]", "Name=br0", "", "[Network]", "DHCP=yes", "DNS=192.0.2.1     192.0.2.2"),
        *("", "[Address]", "Address=192.0.2.7/24"),
        *("", "[Network]", "DNS=", "DNS=192.0.2.3", "", "[Address]", "Address=192.0.2.8/24"),
        *("", "[DHCPv4]", "IAID=16909060", "SendRelease=no", "", "[DHCPv6]", "IAID=16909060", "SendRelease=no"),
    ]


def test_without_a_lease_there_is_no_identity_to_keep() -> None:
    assert "IAID" not in bridge_file((OWN,), "eth0", "br0", None)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[Network]\nVLAN=office", "VLAN=office"),
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
    assert list(settings(bridge_file((one, other), "eth0", "br0", None)))[2:-4] == kept
