"""ifupdown-ng's files as text: the bridge in the place of the NIC, by its own words."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapbridge.owners.ifupdown_files import statements
from tapbridge.owners.ifupdown_ng_files import (
    bridged,
    find_count,
    find_obstacle,
    is_started,
    options_of,
    outlook,
    with_counts,
)

MAC = "02:00:00:00:01:02"
MARK = f"tapbridge uplink={MAC} nic=eth0"
FOLDER = Path(__file__).with_name("interfaces_ng")
CASES = sorted(path.name for path in FOLDER.iterdir())
LINES = st.sampled_from([
    *("iface eth0", "iface eth0 inet static", "iface eth0 inet6 auto", "  address 192.0.2.7/24", "  use dhcp", ""),
    *("  gateway 192.0.2.1", "iface eth1 inet dhcp", "auto eth0", "auto lo eth0", "  netmask 255.255.0.0", "\teth0"),
    *("template eth0x", "  address 2001:db8::7", "# auto eth0 \\", "  note a b \\", "iface eth0.5", "  up echo eth00"),
])  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_bridge_has_the_place_of_the_nic(case: str) -> None:
    before, after = ((FOLDER / case / name).read_text() for name in ("before", "after"))
    assert find_obstacle(before, "eth0") is None
    assert bridged(before, "eth0", "br0", MAC, MARK) == after
    assert is_started(before, "eth0")
    assert is_started(after, "br0")


@given(st.lists(LINES, max_size=12).map("\n".join))
def test_the_bridge_is_what_the_nic_was_and_the_rest_stays(text: str) -> None:
    after = bridged(text, "eth0", "br0", MAC, MARK)
    was, is_now, left = outlook(text, "eth0"), outlook(after, "br0"), outlook(after, "eth0")
    assert (is_now.addresses, is_now.gateways, is_now.asked) == (was.addresses, was.gateways, was.asked)
    assert not left.addresses | left.gateways | left.asked
    others = [
        [one.words for one in statements(x) if one.head and one.head[1] not in ("eth0", "br0")] for x in (text, after)
    ]
    assert others[0] == others[1]
    assert is_started(after, "br0") == is_started(text, "eth0")


def test_a_bridge_that_tells_vlans_apart_is_told_so_at_boot() -> None:
    aware = bridged("iface eth0\n use dhcp\n", "eth0", "br0", MAC, MARK, vlan_aware=True)
    assert options_of(aware, "br0")["bridge-vlan-aware"] == "yes"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("iface eth0\n use dhcp\n hwaddress 02:00:00:00:00:01", "hwaddress"),
        ("iface eth0\n address 192.0.2.7\n ethtool-link-speed 100", "ethtool-link-speed"),
        ("iface eth0\n alias mine", "alias mine"),
        ("iface eth0\n use wifi", "use wifi"),
        ("iface eth0 inet ppp", "inet ppp"),
        ("iface eth0 inherits office", "a kind that a bridge cannot have"),
        ("iface eth0\n inherit office", "not alone"),
        ("iface eth0\n requires eth1", "not alone"),
        ("iface eth0\n up ip link set eth0 up", "names the link itself"),
        ("iface eth1\n inherit eth0", "another stanza inherits"),
        ("iface eth1 inherits eth0", "another stanza inherits"),
        ("auto eth0\n use dhcp", "below 'auto eth0'"),
        ("defaults\n mtu 1400", "not understood"),
        ("interface eth0\n use dhcp", "not understood"),
    ],
)
def test_what_a_bridge_cannot_have_is_told(text: str, told: str) -> None:
    obstacle = find_obstacle(text, "eth0")
    assert obstacle is not None
    assert told in obstacle


@pytest.mark.parametrize(
    "text", ["auto eth0\nsource-directory d\niface eth0\n use ipv6-ra", "iface eth1\n use wifi", "auto eth1\n use wifi"]
)
def test_what_does_a_bridge_no_harm_or_is_another_s_is_no_obstacle(text: str) -> None:
    assert find_obstacle(text, "eth0") is None


def test_an_address_without_a_mask_gets_one() -> None:
    text = "iface br0\n address 192.0.2.7\n address 192.0.2.8/32\niface br0 inet6 static\n address 2001:DB8::7\n"
    assert outlook(text, "br0").addresses == {"192.0.2.7/24", "192.0.2.8/32", "2001:db8::7/64"}
    assert outlook(text + " netmask 48\n", "br0").addresses == {"192.0.2.7/24", "192.0.2.8/32", "2001:db8::7/48"}


def test_the_nic_is_counted_for_the_bridge_as_well() -> None:
    text = "lo=lo 1 explicit\neth0=eth0 1 explicit\neth01=eth01\n"
    assert [find_count(text, link) for link in ("lo", "eth0", "eth01", "br0")] == [1, 1, 1, None]
    up = with_counts(text, "eth0", {"eth0": "2", "br0": "1 explicit"})
    assert up == "lo=lo 1 explicit\neth0=eth0 2\nbr0=br0 1 explicit\neth01=eth01\n"
    assert with_counts(up, "eth0", {"eth0": "1 explicit", "br0": ""}) == text
