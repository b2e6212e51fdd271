"""A LAN, and the command line of a guest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kit.booted import Lan, linux_argv, new_lan
from tapbridge.model.errors import Refused


@pytest.fixture
def lan(tmp_path: Path) -> Iterator[Lan]:
    """A bridge br0 in the namespace of the test, and behind its uplink a DHCP server."""
    with new_lan(tmp_path) as made:
        yield made


@pytest.fixture(scope="session")
def linux(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command line of a Linux guest without a card."""
    try:
        return linux_argv(tmp_path_factory.mktemp("guest"))
    except Refused as refused:
        pytest.skip(f"{refused.message}: {refused.hint}")
