"""Telling wireless cards by what /proc and /sys say."""

from __future__ import annotations

from pathlib import Path

from tapbridge.linux.wireless import find_wireless
from tapbridge.model.state import Link
from tapbridge.model.values import IfName, Mac

TABLE = """Inter-| sta-|   Quality        |   Discarded packets               | Missed | WE
 face | tus | link level noise |  nwid  crypt   frag  retry   misc | beacon | 22
wlp2s0: 0000   54.  -56.  -256        0      0      0      0    103        0
"""


def card(name: str, index: int = 3, mac: str = "02:00:00:00:00:01") -> Link:
    return Link(name=IfName(name), index=index, mac=Mac(mac))


def entry(folder: Path, name: str, mark: str = "phy80211") -> None:
    (folder / name / mark).mkdir(parents=True)
    (folder / name / "ifindex").write_text("3\n")
    (folder / name / "address").write_text("02:00:00:00:00:01\n")


def found(tmp_path: Path, *cards: Link) -> frozenset[str]:
    return find_wireless(cards, wext=str(tmp_path / "wireless"), folder=str(tmp_path / "net"))


def test_a_card_that_proc_lists_is_wireless(tmp_path: Path) -> None:
    (tmp_path / "wireless").write_text(TABLE)
    assert found(tmp_path, card("wlp2s0"), card("eth0"), card("face")) == {"wlp2s0"}


def test_a_card_that_sys_marks_is_wireless(tmp_path: Path) -> None:
    entry(tmp_path / "net", "wlan0")
    entry(tmp_path / "net", "ath0", "wireless")
    assert found(tmp_path, card("wlan0"), card("ath0"), card("eth0")) == {"wlan0", "ath0"}


def test_a_card_of_another_network_namespace_says_nothing_of_ours(tmp_path: Path) -> None:
    entry(tmp_path / "net", "wlan0")
    assert found(tmp_path, card("wlan0", index=4)) == frozenset()
    assert found(tmp_path, card("wlan0", mac="02:00:00:00:00:02")) == frozenset()


def test_where_neither_is_there_no_card_is_wireless(tmp_path: Path) -> None:
    assert found(tmp_path, card("wlan0")) == frozenset()
