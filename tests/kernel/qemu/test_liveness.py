"""A neighbour is alive if it answers now, and only then."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kit.command import run
from kit.netns import new_netns
from tapbridge.linux.liveness import answers
from tapbridge.model.state import Neighbour
from tapbridge.model.values import Family, IfName, Mac

THERE = Mac("52:54:00:00:00:01")


@pytest.fixture(autouse=True)
def _lan() -> Iterator[None]:
    with new_netns() as here, new_netns() as there:
        with here.entered():
            run("ip", "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
            run("ip", "link", "add", "v0", "type", "veth", "peer", "name", "eth0", "netns", there.path)
            run("ip", "link", "set", "v0", "master", "br0", "up")
            run("ip", "link", "set", "br0", "up")
            run("ip", "addr", "add", "192.0.2.1/24", "dev", "br0")
            run("ip", "addr", "add", "2001:db8::1/64", "dev", "br0", "nodad")
        with there.entered():
            run("ip", "link", "set", "eth0", "address", THERE, "up")
            run("ip", "addr", "add", "192.0.2.2/24", "dev", "eth0")
            run("ip", "addr", "add", "2001:db8::2/64", "dev", "eth0", "nodad")
        with here.entered():
            yield


def stale(family: Family, ip: str, mac: str = THERE) -> Neighbour:
    run("ip", "neigh", "replace", ip, "lladdr", mac, "dev", "br0", "nud", "stale")
    return Neighbour(link=IfName("br0"), family=family, ip=ip, mac=Mac(mac))


def test_whoever_is_there_answers() -> None:
    assert answers(stale(4, "192.0.2.2"), limit_s=5)
    assert answers(stale(6, "2001:db8::2"), limit_s=5)


def test_whoever_is_gone_does_not() -> None:
    assert not answers(stale(4, "192.0.2.9"), limit_s=0.2)
    assert not answers(stale(6, "2001:db8::9"), limit_s=0.2)


def test_an_answer_from_another_address_does_not_count() -> None:
    assert not answers(stale(4, "192.0.2.2", "52:54:00:00:00:09"), limit_s=0.2)
