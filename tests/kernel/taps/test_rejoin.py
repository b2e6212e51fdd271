"""A tap keeps its place: when its bridge is made again, it is a port of it again."""

from __future__ import annotations

import pytest

from kit.command import run
from kit.holders import Processes
from kit.lan import host_on_lan
from tapbridge.cli.main import main
from tapbridge.core.compare import differences
from tapbridge.linux.host import LinuxHost
from tapbridge.model.state import State


def observed() -> State:
    with LinuxHost() as host:
        return host.observe()


def master(tap: str) -> str | None:
    link = observed().link(tap)
    assert link is not None
    return link.master


@pytest.mark.parametrize("take_name", [False, True], ids=["br0", "take-name"])
def test_up_gives_a_tap_its_place_back(take_name: bool, capsys: pytest.CaptureFixture[str]) -> None:
    up = ["up", "--quiet", *(["--take-name"] if take_name else [])]
    bridge = "eth0" if take_name else "br0"
    with host_on_lan():
        assert main(up) == 0
        assert main(["tap", "add", "t0", "--bridge", bridge, "--quiet"]) == 0
        assert main(["tap", "add", "t1", "--quiet"]) == 0
        assert main(["down", "--quiet"]) == 0
        assert (master("t0"), master("t1")) == (None, None)
        run("ip", "link", "set", "t0", "mtu", "1400")
        before = observed()
        assert main([*up, "--dry-run"]) == 0
        assert f"make t0 a port of {bridge}" in capsys.readouterr().out
        assert main([*up, "--script"]) == 0
        assert main(up) == 0
        assert (master("t0"), master("t1")) == (bridge, None)
        assert [link.mtu for link in observed().links if link.name == "t0"] == [1500]
        run("ip", "link", "set", "t0", "nomaster")
        assert main(["down", "--quiet"]) == 0
        run("ip", "link", "set", "t0", "mtu", "1400")
        assert differences(before, observed(), ("t0", "t1", "eth0")) == ()


def test_down_is_refused_while_a_guest_has_the_tap() -> None:
    holder = Processes()
    with host_on_lan():
        assert main(["up", "--quiet"]) == 0
        assert main(["tap", "add", "t0", "--bridge", "br0", "--quiet"]) == 0
        holder.hold("t0")
        try:
            assert main(["down", "--quiet"]) == 3
            assert master("t0") == "br0"
        finally:
            holder.end()
        assert main(["down", "--quiet"]) == 0
        assert master("t0") is None
