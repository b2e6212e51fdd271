"""The fault suite's record: what every test tried goes into one table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import pytest

from kit.tally import Tally


@pytest.fixture
def tallies(record_property: pytest.FixtureRequest) -> Iterator[list[Tally]]:
    """Where a test puts what it counts."""
    found: list[Tally] = []
    yield found
    for tally in found:
        record_property("tally", asdict(tally))
