"""A limit for what a guest sends and gets. The first of the kernels that these tests run on has no police; what a guest
sends is measured in tests/vm."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kit import flood
from kit.brokers import taps
from kit.command import run
from kit.holders import make_bridge, tapbridge
from kit.joining import join
from kit.netns import in_netns
from tapbridge.core.rate import burst_bytes
from tapbridge.linux.channel import Channel
from tapbridge.linux.host import LinuxHost
from tapbridge.linux.rates import encode_rate
from tapbridge.linux.tun import OpenTap, open_tap
from tapbridge.model.errors import Refused
from tapbridge.model.hold import Hold
from tapbridge.model.state import Scope
from tapbridge.model.step import LimitRate
from tapbridge.model.values import IfName, Mac

RATE = 4_000_000


@pytest.fixture
def tap() -> Iterator[OpenTap]:
    """A tap beside a bridge br0, whose other port leads to lan0."""
    with in_netns():
        make_bridge()
        run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", flood.LINK)
        run("ip", "link", "set", "eth0", "master", "br0", "up")
        run("ip", "link", "set", flood.LINK, "address", flood.HOST.hex(":"), "up")
        opened = open_tap(Mac("fe:54:00:aa:00:01"))
        yield opened
        opened.close()


def holds() -> tuple[Hold, ...]:
    """What holds the guests of this thread's namespace."""
    with LinuxHost() as host:
        return host.observe(Scope.LINKS).holds


def has_police() -> bool:
    """Whether this kernel can drop what is too much."""
    with in_netns(), LinuxHost() as host:
        run("ip", "link", "add", "nic0", "type", "veth", "peer", "name", "nic1")
        try:
            host.perform([LimitRate(link=IfName("nic0"), rate=RATE)])
        except Refused:
            return False
        return True


@pytest.mark.parametrize("again", [False, True], ids=["once", "lowered"])
def test_what_a_guest_gets_is_held_to_the_rate(tap: OpenTap, again: bool) -> None:
    with LinuxHost() as host:
        index = next(link.index for link in host.observe(Scope.LINKS).links if link.name == tap.name)
    channel = Channel()
    queue = [encode_rate(index, rate)[0] for rate in ([10 * RATE, RATE] if again else [RATE])]
    assert channel.carry_out(queue) == [None] * len(queue)
    channel.close()
    join(tap)
    assert [hold.rate for hold in holds()] == [], "what is free in one direction is held to no rate"
    shown = run("tc", "qdisc", "show", "dev", tap.name).stdout
    assert f"rate 4Mbit burst {burst_bytes(RATE) // 1024}Kb" in shown
    assert 0.5 * RATE < flood.back(tap.descriptors[0]) < 1.2 * RATE


def test_both_directions_are_held_or_nothing_is_made(tap: OpenTap) -> None:
    if has_police():
        join(tap, rate=RATE)
        assert 0.5 * RATE < flood.there(tap.descriptors[0]) < 1.2 * RATE
        assert 0.5 * RATE < flood.back(tap.descriptors[0]) < 1.2 * RATE
        assert [hold.rate for hold in holds()] == [RATE]
        return
    with pytest.raises(Refused, match="this kernel cannot limit the rate of a guest"):
        join(tap, rate=RATE)
    with LinuxHost() as host:
        left = host.observe(Scope.LINKS).link(tap.name)
    assert left is not None and (left.master, left.up) == (None, False)


def test_run_says_what_the_kernel_lacks_and_leaves_nothing() -> None:
    if has_police():
        pytest.skip("this kernel lacks nothing")
    with in_netns():
        make_bridge()
        done = tapbridge("run", "--net", "br0", "--rate", "100M", "--", "qemu-system-x86_64", check=False)
        assert done.returncode == 3
        assert "this kernel cannot limit the rate of a guest" in done.stderr and "act_police" in done.stderr
        assert taps() == []
