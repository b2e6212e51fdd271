"""A container with systemd, for a file of tests: who changes what others see puts it back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kit.container import Container, container


@pytest.fixture(scope="module")
def host() -> Iterator[Container]:
    """A Debian 12 that has booted, on a LAN."""
    with container() as booted:
        yield booted
