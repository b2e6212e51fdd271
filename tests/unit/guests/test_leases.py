"""Lease files, as their servers write them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapbridge.guests.leases import find_lease_file, parse_dnsmasq, parse_libvirt
from tapbridge.model.guest import Sighting

NOW = 1_700_000_000.0
DNSMASQ = """\
1700000600 52:54:00:aa:bb:01 192.168.7.31 web 01:52:54:00:aa:bb:01
0 52:54:00:aa:bb:02 192.168.7.32 * *
1699999999 52:54:00:aa:bb:03 192.168.7.33 gone *
duid 00:01:00:01:2c:11:22:33:02:00:00:00:00:01
1700000060 11184895 fd00:7::31 web 00:01:00:01:2c:11:22:33:52:54:00:aa:bb:01
1700000060 T11184896 fd00:7::32 db 00:03:00:01:52:54:00:aa:bb:02
1700000060 11184897 fd00:7::33 other 00:04:aa:bb:cc
"""


def test_leases_of_dnsmasq_tell_address_and_time_left() -> None:
    assert [(x.mac[-2:], x.ip, x.valid_lft, x.family) for x in parse_dnsmasq(DNSMASQ, now=NOW)] == [
        ("01", "192.168.7.31", 600, 4),
        ("02", "192.168.7.32", None, 4),
        ("01", "fd00:7::31", 60, 6),
        ("02", "fd00:7::32", 60, 6),
    ]


def test_leases_tell_names_and_client_ids_but_not_the_id_of_a_whole_machine() -> None:
    assert [(x.hostname, x.client_id) for x in parse_dnsmasq(DNSMASQ, now=NOW)] == [
        ("web", "01:52:54:00:aa:bb:01"),
        (None, None),
        ("web", None),
        ("db", None),
    ]
    entry = {"ip-address": "192.168.122.5", "mac-address": "52:54:00:aa:bb:01", "expiry-time": 0}
    strange = [{**entry, "hostname": "web", "client-id": "FF:01"}, {**entry, "hostname": "\x1b[2J", "client-id": 7}]
    found = parse_libvirt(json.dumps(strange), now=NOW)
    assert [(x.hostname, x.client_id) for x in found] == [("web", "ff:01"), (None, None)]


def test_a_lease_is_dynamic_and_of_unknown_age() -> None:
    first = parse_dnsmasq(DNSMASQ, now=NOW)[0]
    assert (first.source, first.dynamic, first.age, first.prefix) == ("lease", True, None, None)


def test_leases_of_libvirt_hold_on_their_own_network() -> None:
    text = json.dumps(
        [
            {"ip-address": "192.168.122.5", "mac-address": "52:54:00:AA:BB:01", "expiry-time": 1700000060},
            {"ip-address": "192.168.122.6", "mac-address": "52:54:00:aa:bb:02", "expiry-time": 1600000000},
            {"ip-address": 7, "mac-address": None},
            "nonsense",
        ]
    )
    assert parse_libvirt(text, now=NOW, link="virbr0") == (  # type: ignore[arg-type]
        Sighting(
            mac="52:54:00:aa:bb:01",  # type: ignore[arg-type]
            family=4,
            ip="192.168.122.5",
            source="lease",
            dynamic=True,
            valid_lft=60,
            link="virbr0",  # type: ignore[arg-type]
        ),
    )


@pytest.mark.parametrize("expiry", [-1, 10**400, 1.5e300, "soon", None, True])
def test_a_time_that_is_none_upsets_nothing(expiry: object) -> None:
    entry = {"ip-address": "192.0.2.1", "mac-address": "52:54:00:aa:bb:01", "expiry-time": expiry}
    assert all(sighting.valid_lft is None for sighting in parse_libvirt(json.dumps([entry]), now=NOW))


@pytest.mark.parametrize(
    ("words", "path"),
    [
        (("--dhcp-leasefile=/run/a",), "/run/a"),
        (("--no-daemon", "-l", "/run/b"), "/run/b"),
        (("-l/run/c",), "/run/c"),
        (("--dhcp-leasefile=/run/a", "--dhcp-leasefile=/run/d"), "/run/d"),
        (("--dhcp-leasefile=relative",), None),
        (("-k",), None),
    ],
)
def test_the_lease_file_is_the_one_that_dnsmasq_was_told(words: tuple[str, ...], path: str | None) -> None:
    assert find_lease_file(("dnsmasq", *words)) == path


_line = st.lists(
    st.sampled_from(["0", "1700000600", "9" * 400, "52:54:00:aa:bb:01", "192.168.7.1", "fd00::1", "*", "duid", "²"])
    | st.text(max_size=8),
    max_size=7,
).map(" ".join)


@given(st.lists(_line).map("\n".join))
def test_no_lease_file_upsets_the_parser(text: str) -> None:
    assert all(sighting.source == "lease" for sighting in parse_dnsmasq(text, now=NOW))


_value: st.SearchStrategy[object] = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.just([]) | st.just({"a": [0]})
)


@given(_value, _value, _value)
def test_no_status_file_upsets_the_parser(ip: object, mac: object, expiry: object) -> None:
    entry = {"ip-address": ip, "mac-address": mac, "expiry-time": expiry}
    for text in (json.dumps(ip), json.dumps([mac]), json.dumps([entry]), json.dumps([entry])[:-1]):
        assert parse_libvirt(text, now=NOW) == ()
    entry |= {"ip-address": "192.0.2.1", "mac-address": "52:54:00:aa:bb:01"}
    assert len(parse_libvirt(json.dumps([entry]), now=NOW)) <= 1
