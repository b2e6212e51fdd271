"""A machine with a kernel of its own, for a file of tests: who changes what others see puts it back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kit.vm import Vm, vm


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vm]:
    """A Debian 12 that has booted, on a LAN."""
    with vm(tmp_path_factory.mktemp("vm")) as booted:
        yield booted


@pytest.fixture(autouse=True, scope="session")
def _root() -> None:
    """In a user namespace, where script/test runs for whoever is not root, the disk cannot be made as root's."""
    if Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"]:
        pytest.skip("only root can make the machine")
