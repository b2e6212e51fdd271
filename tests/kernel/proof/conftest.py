"""A host whose eth0 is on a LAN with a gateway, and processes that end with the test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kit.holders import Processes
from kit.lan import batch, host_on_lan
from kit.netns import Netns
from tapbridge.linux.host import LinuxHost
from tapbridge.model.step import Await
from tapbridge.model.values import IfName


@pytest.fixture
def lan() -> Iterator[Netns]:
    """The LAN's namespace, where 192.0.2.1 and 2001:db8::1 are on p0; this thread is the host's."""
    with host_on_lan() as beyond, LinuxHost() as host:
        host.perform([Await(link=IfName("eth0"), limit_s=5)])
        with beyond.entered():
            batch("addr add fe80::1/64 dev p0 nodad")
        yield beyond


@pytest.fixture
def processes() -> Iterator[Processes]:
    """What the test starts, dead at its end."""
    started = Processes()
    try:
        yield started
    finally:
        started.end()
