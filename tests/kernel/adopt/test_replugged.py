"""A NIC that was unplugged leaves its bridge and guests behind; `up` puts the next NIC under that bridge."""

from __future__ import annotations

from pathlib import Path

import pytest

from kit.changes import document, until
from kit.command import run
from kit.lan import PLAIN, batch, host_on_lan, ping
from kit.netns import Netns
from tapbridge.core.compare import differences
from tapbridge.linux.host import LinuxHost


def _plug_in(lan: Netns) -> None:
    batch(f"link add eth0 type veth peer name p0 netns {lan.path}")
    with lan.entered():
        batch("link set p0 up\naddr add 192.0.2.1/24 dev p0\naddr add 2001:db8::1/64 dev p0 nodad")
    batch(PLAIN)
    assert until(lambda: "inet6 fe80" in run("ip", "-6", "addr", "show", "dev", "eth0").stdout)  # the kernel's, soon


@pytest.mark.parametrize("ends", ["kept", "taken back"])
def test_guests_stay_on_a_bridge_whose_nic_comes_back(ends: str, tmp_path: Path) -> None:
    with host_on_lan() as lan, LinuxHost() as host:
        document("up")
        batch("tuntap add tap9 mode tap\nlink set tap9 master br0 up")
        run("ip", "link", "del", "eth0")
        run("ip", "addr", "flush", "dev", "br0")
        run("ip", "-6", "route", "flush", "dev", "br0")
        _plug_in(lan)
        before = host.observe()
        document("up", "--confirm", "60", "--no-wait")
        assert "master br0" in run("ip", "link", "show", "dev", "tap9").stdout
        document("confirm" if ends == "kept" else "rollback")
        assert ping(lan, "192.0.2.2")
        assert "master br0" in run("ip", "link", "show", "dev", "tap9").stdout
        if ends == "taken back":
            now = host.observe()
            assert differences(before, now, tuple({link.name for link in (*before.links, *now.links)})) == ()
