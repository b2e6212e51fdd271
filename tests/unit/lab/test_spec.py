"""Names and addresses of a lab."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapbridge.lab.spec import BEYOND, Mark, Spec, find_mark, load_spec, netns_name
from tapbridge.model.errors import UsageError
from tapbridge.model.values import Family, contains, parse_mac

FAMILIES: tuple[Family, ...] = (4, 6)
names = st.from_regex(r"\A[a-z][a-z0-9]{0,15}\Z")


@given(names, st.integers(1, 32), st.sampled_from(["static", "leased"]))
def test_every_address_is_another_and_in_its_subnet(name: str, hosts: int, addresses: str) -> None:
    spec = Spec(name=name, hosts=hosts, addresses="static" if addresses == "static" else "leased")
    for family in FAMILIES:
        first, last = spec.lease_range(family)
        found = [spec.ip(place, family) for place in spec.places]
        assert len(set(found)) == len(found)
        assert first not in found
        assert last not in found
        for place, ip in zip(spec.places, found, strict=True):
            assert contains(family, BEYOND[family] if place == "beyond" else spec.subnet(family), ip)
        assert contains(family, spec.subnet(family), first)
        assert contains(family, spec.subnet(family), last)
    macs = [spec.mac(place, port) for place in spec.places for port in (0, 1, 2)]
    assert len(set(macs)) == len(macs)
    assert all(parse_mac(mac).startswith("02:") for mac in macs)
    assert load_spec(spec.dump()) == spec
    assert all(len(netns_name(name, place)) < 256 for place in spec.places)


def test_labs_of_different_names_have_different_subnets_and_cards() -> None:
    one, two, usual = Spec(name="one"), Spec(name="two"), Spec()
    for family in FAMILIES:
        assert len({spec.subnet(family) for spec in (one, two, usual)}) == 3
        assert Spec(name="one").subnet(family) == one.subnet(family)
    assert len({spec.mac("h1") for spec in (one, two, usual)}) == 3
    assert usual.subnet4 == "192.0.2.0/24"


def test_an_address_reads_alike_in_both_families() -> None:
    spec = Spec(hosts=12)
    assert (spec.ip("h1", 4), spec.ip("h1", 6)) == ("192.0.2.11", "2001:db8:1::11")
    assert (spec.ip("h12", 4), spec.ip("h12", 6)) == ("192.0.2.22", "2001:db8:1::22")


def test_a_subnet_is_read_into_its_canonical_form() -> None:
    spec = Spec(subnet4="10.1.0.0/16", subnet6="FD00:0:0:1::/64")
    assert (spec.subnet4, spec.subnet6) == ("10.1.0.0/16", "fd00:0:0:1::/64")
    assert spec.ip("router", 4) == "10.1.0.1"


@pytest.mark.parametrize(
    "subnet", ["10.1.0.0", "10.1.0.1/16", "10.1.0.0/+16", "10.1.0.0/25", "fd00::/64", "x/24", "10.0.0.0/7"]
)
def test_a_subnet_that_will_not_do_is_refused(subnet: str) -> None:
    with pytest.raises(UsageError, match="IPv4 subnet"):
        Spec(subnet4=subnet)


@given(st.text(max_size=30))
def test_a_name_is_safe_wherever_it_is_written(name: str) -> None:
    safe = 1 <= len(name) <= 16 and name.isascii() and name.isalnum() and name.islower() and not name[0].isdigit()
    try:
        Spec(name=name)
    except UsageError:
        assert not safe
    else:
        assert name.isascii()
        assert name.isalnum()
        assert name == name.lower()


@given(names, st.sampled_from(["h1", "lan", "router"]), st.from_regex(r"\A[0-9a-f]{12}\Z"))
def test_a_mark_is_found_again(lab: str, place: str, shelf: str) -> None:
    mark = Mark(shelf, lab, place)
    assert find_mark(str(mark)) == mark


@given(st.text())
def test_no_other_text_is_a_mark(text: str) -> None:
    mark = find_mark(text)
    assert mark is None or str(mark) == text
