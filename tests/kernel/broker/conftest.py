"""A broker for a test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kit.brokers import Site, site


@pytest.fixture
def broker() -> Iterator[Site]:
    """A broker that allows one user two taps, held to one address each."""
    with site() as made:
        yield made
