"""Guests as a table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapbridge.draw.style import ansi
from tapbridge.draw.table import HEADINGS, guest_columns, guest_table
from tapbridge.draw.text import in_place, short_size, short_time, visible, width, word
from tapbridge.model.guest import Guest, GuestNic, Sighting
from tapbridge.model.noun import replace
from tapbridge.model.values import IfName, Mac

MAC = Mac("52:54:00:aa:bb:01")
GUESTS = (
    Guest(
        name="db 1",
        pid=4711,
        uid=1000,
        hypervisor="qemu",
        program="qemu-system-x86_64",
        nics=(
            GuestNic(
                link=IfName("tap10"),
                bridge=IfName("br0"),
                mac=MAC,
                addresses=(
                    Sighting(mac=MAC, family=4, ip="192.0.2.31", source="dhcp", age=3.2),
                    Sighting(mac=MAC, family=6, ip="fe80::9", source="neighbour"),
                ),
                rx_bytes=123456789,
                tx_bytes=4000,
            ),
            GuestNic(link=IfName("tap11")),
        ),
    ),
    Guest(name="vpn", pid=99, uid=0, hypervisor="other", program="openvpn", nics=(GuestNic(link=IfName("tap2")),)),
    Guest(name=None, nics=(GuestNic(link=IfName("tap3"), bridge=IfName("br0"), rx_bytes=0, tx_bytes=0),)),
)
HELD = (
    Guest(
        name=None, nics=(GuestNic(link=IfName("tap0"), bridge=IfName("br0"), vlan=7, rate=100_000_000, guard="mac"),)
    ),
)


def test_a_program_finds_a_line_for_each_nic_and_a_word_for_each_column() -> None:
    assert [" ".join(line.split()) for line in guest_columns(GUESTS).splitlines()] == [
        "GUEST PID UID HYPERVISOR TAP BRIDGE MAC ADDRESS SOURCE RX TX VLAN RATE GUARD",
        "db\\x201 4711 1000 qemu tap10 br0 52:54:00:aa:bb:01 192.0.2.31,fe80::9 dhcp,neighbour 123456789 4000 - - -",
        "db\\x201 4711 1000 qemu tap11 - - - - - - - - -",
        "vpn 99 0 openvpn tap2 - - - - - - - - -",
        "- - - - tap3 br0 - - - 0 0 - - -",
    ]
    assert guest_columns(HELD).splitlines()[1].split()[-3:] == ["7", "100000000", "mac"]


def test_without_guests_the_headings_are_left() -> None:
    assert guest_columns(()).split() == list(HEADINGS)


def test_on_a_terminal_a_guest_is_named_once_and_every_address_has_a_line() -> None:
    table = """\
GUEST               PID   UID  HYPERVISOR  TAP    BRIDGE  MAC                ADDRESS     SOURCE           RX    TX
db 1               4711  1000  qemu        tap10  br0     52:54:00:aa:bb:01  192.0.2.31  dhcp, 3 s ago  123M  4.0k
                                                                             fe80::9     neighbour
                                           tap11
vpn                  99     0  openvpn     tap2
(no process seen)                          tap3   br0                                                      0     0"""
    assert guest_table(GUESTS, 120) == table


def test_a_terminal_has_a_column_for_what_holds_a_guest_where_one_is_held() -> None:
    assert guest_table(HELD, 120).splitlines() == [
        "GUEST              PID  UID  HYPERVISOR  TAP   BRIDGE  MAC  ADDRESS  SOURCE  RX  TX  VLAN  RATE  GUARD",
        "(no process seen)                        tap0  br0                                      7  100M  mac",
    ]
    assert guest_table(HELD, 80).splitlines()[1] == "  tap0 on br0, VLAN 7, rate 100M, guard mac"
    unguarded = replace(HELD[0], nics=(replace(HELD[0].nics[0], guard=None),))
    assert guest_table([unguarded], 120).splitlines()[0].endswith("VLAN  RATE")


def test_a_narrow_terminal_loses_nothing() -> None:
    assert guest_table(GUESTS, 80).splitlines() == [
        "db 1  qemu, PID 4711, uid 1000",
        "  tap10 on br0, 52:54:00:aa:bb:01, rx 123M, tx 4.0k",
        "    192.0.2.31  dhcp, 3 s ago",
        "    fe80::9  neighbour",
        "  tap11 on no bridge",
        "vpn  openvpn, PID 99, uid 0",
        "  tap2 on no bridge",
        "(no process seen)",
        "  tap3 on br0, rx 0, tx 0",
    ]


def test_the_table_is_as_wide_as_it_says() -> None:
    needed = max(map(len, guest_table(GUESTS, 1000).splitlines()))
    assert guest_table(GUESTS, needed) == guest_table(GUESTS, 1000)
    assert guest_table(GUESTS, needed - 1) != guest_table(GUESTS, 1000)


def test_columns_stand_below_one_another_whatever_the_script() -> None:
    guests = [
        Guest(name=name, nics=(GuestNic(link=IfName("tap0")),)) for name in ("web", "дом", "猫の家", "é", "e\u0301")
    ]
    lines = guest_table(guests, 120).splitlines()
    assert {width(line[: line.index("tap0")]) for line in lines[1:]} == {lines[0].index("TAP")}


@given(st.text(), st.text(max_size=15), st.integers(0, 200))
def test_no_name_acts_on_the_terminal_or_adds_a_column(name: str, link: str, columns: int) -> None:
    guest = Guest(name=name, pid=1, uid=0, hypervisor="other", program=name, nics=(GuestNic(link=IfName(link)),))
    assert all(len(line.split()) == len(HEADINGS) for line in guest_columns([guest]).split("\n"))
    assert all(line.isprintable() for line in guest_table([guest], columns).split("\n"))
    assert len(guest_table([guest], columns).split("\n")) == 2


def test_colours_do_not_move_the_columns() -> None:
    import re

    assert re.sub(r"\x1b\[\d*m", "", guest_table(GUESTS, 200, ansi)) == guest_table(GUESTS, 200)


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a b", "a b"), ("\x1b[31m", "\\x1b[31m"), ("\u202etxt", "\\u202etxt"), ("\udcff", "\\xff"), ("\n", "\\x0a")],
)
def test_what_a_terminal_would_act_upon_is_shown_as_a_number(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_a_word_has_no_blanks() -> None:
    assert word("a b") == "a\\x20b"
    assert word("") == "-"
    assert word("a\u3000b") == "a\\u3000b"


def test_a_size_is_short() -> None:
    counts = [count + more for place in range(65) for count in (2**place, 10 ** (place // 4)) for more in (-1, 0, 1)]
    assert max(len(short_size(count)) for count in counts if count >= 0) == 4


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0"), (999, "999"), (1000, "1.0k"), (9950, "10k"), (999_499, "999k"), (999_500, "1.0M")]
)
def test_sizes(count: int, text: str) -> None:
    assert short_size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (60, "1 min"), (7200, "2 h"), (172800, "2 d")]
)
def test_times(seconds: float, text: str) -> None:
    assert short_time(seconds) == text


def test_what_is_drawn_in_place_stands_over_its_predecessor_and_fits() -> None:
    assert in_place("a\nb", above=0, rows=3) == ("\r\x1b[J\x1b[?7la\nb\x1b[?7h", 2)
    assert in_place("a\nb\nc", above=2, rows=3) == ("\x1b[2A\r\x1b[J\x1b[?7la\nand 2 more lines\x1b[?7h", 2)
