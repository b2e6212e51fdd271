"""Whether the kernel's bridges tell VLANs apart: tried without anybody noticing, and said where they do not."""

from __future__ import annotations

import json

import pytest

from kit.command import run
from kit.lan import host_on_lan
from kit.netns import in_netns
from tapbridge.cli.main import main
from tapbridge.core.compare import comparable
from tapbridge.linux.host import LinuxHost
from tapbridge.linux.vlans import lacks_vlans


def can() -> bool:
    """By other means than the program's."""
    with in_netns():
        return run("ip", "link", "add", "br0", "type", "bridge", "vlan_filtering", "1", check=False).returncode == 0


def test_it_is_found_out_and_nothing_is_left() -> None:
    known = can()
    with host_on_lan(), LinuxHost() as host:
        before = host.observe()
        assert lacks_vlans() is not known
        assert comparable(host.observe()) == comparable(before)


def test_a_bridge_is_vlan_aware_or_refused_before_anything_is_touched(capsys: pytest.CaptureFixture[str]) -> None:
    known = can()
    with host_on_lan(), LinuxHost() as host:
        before = host.observe()
        code = main(["up", "--vlan-aware", "--yes", "--confirm", "0", "--json"])
        found = json.loads(capsys.readouterr().out)
        bridges = [link.bridge.vlan_filtering for link in host.observe().links if link.bridge is not None]
        assert (code, found["outcome"], bridges) == ((0, "done", [True]) if known else (3, "refused", []))
        if not known:
            assert [finding["code"] for finding in found["findings"]] == ["no-vlans"]
            assert comparable(host.observe()) == comparable(before)


@pytest.mark.parametrize("words", [["run", "--vlan", "7", "--", "qemu-system-x86_64"], ["args", "--vlan", "7"]])
def test_a_guest_gets_into_no_vlan_of_a_bridge_that_tells_none_apart(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with host_on_lan(), LinuxHost() as host:
        assert main(["up", "--yes", "--confirm", "0", "--quiet"]) == 0
        before = host.observe()
        assert main(words) == 3
        assert "br0 does not tell VLANs apart" in capsys.readouterr().err
        assert main(["tap", "add", "t0", "--bridge", "br0", "--vlan", "7"]) == 3
        assert main(["tap", "add", "t0", "--vlan", "7"]) == 2
        assert main(["args", "--net", "user", "--vlan", "7"]) == 3
        assert main(["args", "--vlan", "4095"]) == 2
        assert comparable(host.observe()) == comparable(before)
