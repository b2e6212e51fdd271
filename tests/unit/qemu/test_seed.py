"""What guests' addresses are made from is kept, network by network."""

from __future__ import annotations

from pathlib import Path

import pytest

from tapbridge.model.errors import HostError
from tapbridge.model.state import Link, State
from tapbridge.model.values import IfName, Mac
from tapbridge.qemu.seed import choose_uplink, dump_seed, find_machine_id, load_seed

ONE, OTHER = Mac("02:00:00:00:01:02"), Mac("02:00:00:00:01:03")


def test_a_seed_survives_writing_and_reading() -> None:
    text = dump_seed(dump_seed(None, "", ONE), "lab", OTHER)
    assert load_seed(text, "") == ONE
    assert load_seed(text, "lab") == OTHER
    assert load_seed(text, "another") is None
    assert load_seed(text, None) is None
    assert load_seed(None, "") is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"uplinks": 1}', '{"uplinks": {"": "x"}}', '{"uplinks": {"": 1}}']
)
def test_a_damaged_file_is_said_and_not_passed_over(text: str) -> None:
    with pytest.raises(HostError, match="damaged"):
        load_seed(text, "")


def test_the_seed_is_the_permanent_address_of_the_uplink() -> None:
    bridge = Link(name=IfName("br0"), kind="bridge")
    uplink = Link(name=IfName("eth1"), mac=OTHER, permanent_mac=ONE, master=IfName("br0"))
    spare = Link(name=IfName("eth0"), mac=OTHER, permanent_mac=OTHER)
    assert choose_uplink(State(links=(bridge, spare, uplink)), "br0") == ONE
    assert choose_uplink(State(links=(bridge, spare)), "br0") == OTHER
    assert choose_uplink(State(links=(bridge, spare, uplink)), None) == ONE
    assert choose_uplink(State(links=(bridge,)), None) is None


def test_the_machine_id_is_read_where_it_is(tmp_path: Path) -> None:
    assert find_machine_id(tmp_path) == ""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/machine-id").write_text("uninitialized\n")
    assert find_machine_id(tmp_path) == ""
    (tmp_path / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    assert find_machine_id(tmp_path) == "0123456789abcdef0123456789abcdef"
