"""A namespace with a bridge, and processes that are dead when it goes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kit.holders import Processes, make_bridge
from kit.netns import in_netns


@pytest.fixture
def processes() -> Iterator[Processes]:
    """What a test starts, in a namespace of its own that has a bridge br0."""
    with in_netns():
        make_bridge()
        started = Processes()
        try:
            yield started
        finally:
            started.end()
