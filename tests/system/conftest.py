"""A container with systemd, for a file of tests: who changes what others see puts it back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kit.container import Container, container


@pytest.fixture(scope="module")
def host() -> Iterator[Container]:
    """A Debian 12 that has booted, on a LAN."""
    with container() as booted:
        yield booted


@pytest.fixture(autouse=True, scope="session")
def _root() -> None:
    """In a user namespace, where script/test runs for whoever is not root, no container with systemd can be booted."""
    if Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"]:
        pytest.skip("only root can boot systemd in a container")
