"""Taps as a table."""

from __future__ import annotations

from tapbridge.draw.style import plain
from tapbridge.draw.taps import HEADINGS, tap_columns, tap_table
from tapbridge.model.guest import TapUse
from tapbridge.model.values import IfName

TAPS = (
    TapUse(name=IfName("t0"), owner="alice", bridge=IfName("br0"), queues=4, saved=True, ours=True),
    TapUse(name=IfName("t1"), group="kvm", queues=1, saved=False, in_use=True, guest="db 1", pid=7, ours=True),
    TapUse(name=IfName("x"), in_use=True, vlan=7, rate=2_500_000, guard="ip"),
)


def test_a_program_finds_a_word_in_each_column() -> None:
    assert [" ".join(line.split()) for line in tap_columns(TAPS).splitlines()] == [
        " ".join(HEADINGS),
        "t0 alice - br0 4 yes yes dead - - - -",
        "t1 - kvm - 1 no yes db\\x201 7 - - -",
        "x - - - - - no (not\\x20seen) - 7 2500000 ip",
    ]


def test_on_a_terminal_names_keep_their_blanks() -> None:
    assert "db 1" in tap_table(TAPS, plain)
