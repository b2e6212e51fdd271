"""ifupdown's files as text: the bridge in the place of the NIC, everything else as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapbridge.owners.ifupdown_files import (
    bridged,
    configures,
    find_obstacle,
    includes,
    is_started,
    names,
    outlook,
    state_renamed,
    statements,
)

MAC = "02:00:00:00:01:02"
MARK = f"tapbridge uplink={MAC} nic=eth0"
FOLDER = Path(__file__).with_name("interfaces")
CASES = sorted(path.name for path in FOLDER.iterdir())
LINES = st.sampled_from([
    *("iface eth0 inet dhcp", "iface eth0 inet6 auto", "iface eth0 inet static", "  address 192.0.2.7/24"),
    *("  gateway 192.0.2.1", "iface eth0:1 inet static", "iface eth1 inet dhcp", "auto eth0", "auto lo eth0 eth1"),
    *("allow-hotplug eth0", "allow-hotplug eth1 \\", "# auto eth0 \\", "", "\teth0", "  up ip link set eth00 up"),
    *("source /etc/network/interfaces.d/*", "iface eth0.5 inet manual", "  note a b \\", "mapping eth1"),
])  # fmt: skip
TEXTS = st.lists(LINES, max_size=12).map("\n".join)


@pytest.mark.parametrize("case", CASES)
def test_the_bridge_has_the_place_of_the_nic(case: str) -> None:
    before, after = ((FOLDER / case / name).read_text() for name in ("before", "after"))
    assert find_obstacle(before, "eth0") is None
    assert bridged(before, "eth0", "br0", MAC, MARK) == after


def test_a_bridge_that_tells_vlans_apart_is_told_so_at_boot() -> None:
    text = "auto eth0\niface eth0 inet dhcp\n"
    plain, aware = (bridged(text, "eth0", "br0", MAC, MARK, vlan_aware=aware) for aware in (False, True))
    (more,) = set(aware.splitlines()) - set(plain.splitlines())
    assert more == "    up ip link set dev br0 type bridge vlan_filtering 1"
    assert more in [line for line in aware.splitlines() if line.startswith(" ")]


@given(TEXTS)
def test_what_is_not_about_the_nic_stays_as_it_is(text: str) -> None:
    after = bridged(text, "eth0", "br0", MAC, MARK)
    assert others(after, "br0") == others(text, "eth0")
    was, is_now = outlook(text, "eth0"), outlook(after, "br0")
    assert (is_now.addresses, is_now.gateways, is_now.asked) == (was.addresses, was.gateways, was.asked)
    assert configures(after, "br0") == configures(text, "eth0")
    assert not configures(after, "eth0")
    assert is_started(after, "br0") == is_started(text, "eth0")
    assert not is_started(after, "eth0")


def others(text: str, link: str) -> list[list[str]]:
    """The statements that are not about the link, in their order; those that name several without it."""
    found = []
    for one in statements(text):
        if one.head and one.head[1].partition(":")[0] in (link, "eth0"):
            continue
        words = [word for word in one.words if one.head or word.partition(":")[0] not in (link, "eth0")]
        if len(words) > 1 or one.head:
            found.append(words)
    return found


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("iface eth0 inet dhcp\n  hwaddress 02:00:00:00:00:01", "hwaddress"),
        ("iface eth0 inet dhcp\n  wpa-ssid home", "wpa-ssid home"),
        ("iface eth0 inet dhcp\n  bridge_ports eth1", "bridge_ports"),
        ("iface eth0 inet static\n  up ip route add \\\n  203.0.113.0/24 dev eth0", "203.0.113.0/24 dev eth0"),
        ("iface eth0 inet ppp", "inet ppp"),
        ("iface eth0 ipx static", "ipx"),
        ("iface eth0", "iface eth0"),
        ("mapping eth*\n  script /x", "mapping eth*"),
        ("iface eth1 inet dhcp inherits eth0", "inherits eth0"),
    ],
)
def test_what_a_bridge_cannot_have_is_told(text: str, told: str) -> None:
    obstacle = find_obstacle(text, "eth0")
    assert obstacle is not None
    assert told in obstacle


@pytest.mark.parametrize("text", ["iface eth1 inet ppp\n wpa-ssid x", "iface eth0 inet dhcp\n up echo eth00 eth0x"])
def test_what_is_another_s_is_no_obstacle(text: str) -> None:
    assert find_obstacle(text, "eth0") is None


def test_a_mask_is_a_prefix_as_well() -> None:
    text = "iface br0 inet static\n address 192.0.2.7\n netmask 255.255.254.0"
    text += "\niface br0 inet6 static\n address 2001:DB8::7"
    assert outlook(text, "br0").addresses == {"192.0.2.7/23", "2001:db8::7/64"}


def test_what_a_file_includes_is_found() -> None:
    text = "source /etc/a /etc/b*\n#source /etc/c\nsource-directory d\n"
    assert list(includes(text)) == [("source", "/etc/a"), ("source", "/etc/b*"), ("source-directory", "d")]
    assert names("iface br0 inet manual", "br0")
    assert not names("# iface br0 inet manual", "br0")


def test_what_is_up_is_renamed() -> None:
    assert state_renamed("lo=lo\neth0=eth0\neth01=eth01\n", "eth0", "br0") == "lo=lo\nbr0=br0\neth01=eth01\n"
