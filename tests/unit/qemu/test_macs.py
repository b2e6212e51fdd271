"""A guest's address: its own, the same at every start, nobody else's."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tapbridge.core.macs import Seed, check_mac, find_holder, guest_mac, own_macs, parse_prefix, suspects, tap_mac
from tapbridge.model.errors import Refused
from tapbridge.model.noun import replace
from tapbridge.model.state import ForwardingEntry, Link, Neighbour, State
from tapbridge.model.values import IfName, Mac, parse_mac

BR, ETH, TAP = IfName("br0"), IfName("eth0"), IfName("tbtap0")
UPLINK = Mac("02:00:00:00:01:02")
SEEDS = st.builds(Seed, machine_id=st.text(), uplink=st.sampled_from([None, UPLINK, Mac("02:00:00:00:01:03")]))
MACS = st.binary(min_size=6, max_size=6).map(lambda octets: Mac(octets.hex(":")))


@given(SEEDS, st.text(), st.integers(0, 99))
def test_an_address_is_stable_and_lawful(seed: Seed, guest: str, number: int) -> None:
    mac = guest_mac(seed, guest, number)
    assert guest_mac(seed, guest, number) == parse_mac(mac) == mac
    assert mac.startswith("52:54:00:")
    assert not mac.startswith("52:54:00:12:34:")
    check_mac(mac, {})
    assert tap_mac(mac) != mac


@given(SEEDS, st.text(min_size=1))
def test_another_host_guest_or_nic_has_another_address(seed: Seed, guest: str) -> None:
    one = {
        guest_mac(seed, guest, 0),
        guest_mac(seed, guest, 1),
        guest_mac(seed, guest + "x", 0),
        guest_mac(Seed(machine_id=seed.machine_id + "x", uplink=seed.uplink), guest, 0),
        guest_mac(Seed(machine_id=seed.machine_id, uplink=Mac("02:00:00:00:01:04")), guest, 0),
    }
    assert len(one) >= 4  # three bytes may meet once, twice is a fault


LAWFUL = st.lists(st.integers(0, 255), min_size=1, max_size=5).map(
    lambda octets: bytes([octets[0] & 0xFC | 2, *octets[1:]]).hex(":")
)
UNLAWFUL = st.one_of(
    st.text(alphabet="0123456789abcdefg:-. ", max_size=18),
    st.binary(min_size=0, max_size=7).map(lambda octets: octets.hex(":")),
)


@given(SEEDS, st.text(), st.integers(0, 99), LAWFUL, st.sets(st.integers(0, 3)))
def test_an_address_begins_as_it_is_asked_to_and_is_nobody_else_s(
    seed: Seed, guest: str, number: int, prefix: str, passed: set[int]
) -> None:
    assume(not prefix.startswith(("fe", "fa")) and prefix != "52:54:00:12:34")
    assert parse_prefix(prefix.upper().replace(":", "-")) == prefix
    taken: set[Mac] = set()
    for _ in passed:  # others came first
        taken.add(guest_mac(seed, guest, number, taken, prefix))
    mac = guest_mac(seed, guest, number, taken, prefix)
    assert mac == parse_mac(mac) == guest_mac(seed, guest, number, taken, prefix)
    assert f"{mac}".startswith(f"{prefix}:")
    assert mac not in taken
    assert int(mac[:2], 16) & 0b11 == 0b10
    check_mac(mac, {})
    assert tap_mac(mac)[:2] > mac[:2]


@given(UNLAWFUL)
def test_a_prefix_that_no_guest_may_have_is_no_prefix(text: str) -> None:
    try:
        prefix = parse_prefix(text)
    except ValueError:
        return
    octets = bytes.fromhex(prefix.replace(":", ""))
    assert 1 <= len(octets) <= 5
    assert octets[0] & 0b11 == 0b10
    assert octets[0] not in (0xFE, 0xFA)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "one to five bytes"),
        ("52:54:00:aa:bb:cc", "one to five bytes"),
        ("5254", "one to five bytes"),
        ("01:00:5e", "group addresses"),
        ("00:16:3e", "makers of cards"),
        ("fe", "addresses of taps"),
        ("52:54:00:12:34", "every QEMU"),
    ],
)
def test_why_a_prefix_is_refused_is_said(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_prefix(text)


def test_a_known_host_keeps_its_guests_addresses() -> None:
    seed = Seed(machine_id="0123456789abcdef0123456789abcdef", uplink=UPLINK)
    assert [guest_mac(seed, "web", number) for number in (0, 1)] == ["52:54:00:f9:b8:ae", "52:54:00:f5:b1:8f"]


def test_an_address_that_is_taken_is_passed_over() -> None:
    seed = Seed(machine_id="x", uplink=None)
    first = guest_mac(seed, "web", 0)
    assert guest_mac(seed, "web", 0, {first}) not in ("", first)


@given(MACS)
def test_a_tap_never_has_its_guests_address_and_never_the_lowest(mac: Mac) -> None:
    tap = tap_mac(mac)
    assert tap != mac
    assert tap[2:] == mac[2:]
    assert tap[:2] == ("fa" if mac[:2] == "fe" else "fe")


@pytest.mark.parametrize(
    ("mac", "why"),
    [
        ("01:00:5e:00:00:01", "group"),
        ("ff:ff:ff:ff:ff:ff", "group"),
        ("00:00:00:00:00:00", "no address"),
        ("52:54:00:12:34:56", "every QEMU"),
        ("52:54:00:12:34:57", "every QEMU"),
        (UPLINK, "eth0"),
    ],
)
def test_an_address_that_no_guest_may_have_is_refused(mac: str, why: str) -> None:
    with pytest.raises(Refused, match=why):
        check_mac(Mac(mac), {UPLINK: "eth0"})


def test_the_hosts_own_addresses_are_known() -> None:
    burnt_in = Mac("02:00:00:00:09:09")
    links = (
        Link(name=ETH, mac=UPLINK, permanent_mac=burnt_in),
        Link(name=IfName("lo"), kind="loopback", mac=Mac("00:00:00:00:00:00")),
    )
    assert own_macs(State(links=links)) == {UPLINK: "eth0", burnt_in: "eth0"}


def bridge_with(port: Link, **entry: bool) -> State:
    guest = Mac("52:54:00:00:00:01")
    row = ForwardingEntry(bridge=BR, port=port.name, mac=guest, **entry)
    return State(links=(Link(name=BR, kind="bridge"), port), forwarding=(row,))


def test_a_living_port_holds_an_address() -> None:
    port = Link(name=ETH, up=True, carrier=True, master=BR)
    assert find_holder(bridge_with(port), "br0", Mac("52:54:00:00:00:01")) == port
    assert find_holder(bridge_with(port), "br0", Mac("52:54:00:00:00:02")) is None
    assert find_holder(bridge_with(port), "br1", Mac("52:54:00:00:00:01")) is None


def test_a_silent_guest_holds_its_address_by_its_tap() -> None:
    tap = Link(name=TAP, kind="tap", mac=Mac("fe:54:00:00:00:07"), up=True, carrier=True, master=BR)
    assert find_holder(bridge_with(tap), "br0", Mac("52:54:00:00:00:07")) == tap
    assert find_holder(bridge_with(replace(tap, kind="veth")), "br0", Mac("52:54:00:00:00:07")) is None


def test_a_ghost_holds_nothing() -> None:
    living = Link(name=TAP, up=True, carrier=True, master=BR)
    for port in (replace(living, carrier=False), replace(living, up=False), replace(living, master=None)):
        assert find_holder(bridge_with(port), "br0", Mac("52:54:00:00:00:01")) is None
    assert find_holder(bridge_with(living, local=True), "br0", Mac("52:54:00:00:00:01")) is None


def test_a_neighbour_is_suspected_until_it_answers() -> None:
    mac = Mac("52:54:00:00:00:01")

    def neighbour(link: str, mac: str, state: int) -> Neighbour:
        return Neighbour(link=IfName(link), family=4, ip="192.0.2.9", mac=Mac(mac), state=state)

    stale = neighbour("br0", mac, 0x04)
    others = (neighbour("br1", mac, 0x04), neighbour("br0", UPLINK, 0x02), neighbour("br0", mac, 0x20))
    assert suspects(State(neighbours=(stale, *others)), "br0", mac) == (stale,)
