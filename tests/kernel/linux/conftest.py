"""A network namespace with one of everything, and a host in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kit.everything import keep_quiet, lay_out
from kit.netns import in_netns
from tapbridge.linux.host import LinuxHost


@pytest.fixture
def everything() -> Iterator[LinuxHost]:
    """A host that has one of everything."""
    with in_netns():
        lay_out()
        with LinuxHost() as host:
            yield host


@pytest.fixture
def host() -> Iterator[LinuxHost]:
    """A host with nothing but lo."""
    with in_netns():
        keep_quiet()
        with LinuxHost() as empty:
            yield empty
