"""What others have added goes along on the way back, also where they have renamed the link."""

from __future__ import annotations

from tapbridge.core.merge import merge
from tapbridge.model.noun import replace
from tapbridge.model.state import Address, Link, State
from tapbridge.model.values import IfName

ETH0, OTHER0 = IfName("eth0"), IfName("other0")
ADDRESS = Address(link=ETH0, family=4, ip="192.0.2.2", prefix=24)
ADDED = replace(ADDRESS, ip="198.51.100.7")


def test_what_was_added_to_a_link_that_was_renamed_is_kept_on_it() -> None:
    before = State(links=(Link(index=2, name=ETH0),), addresses=(ADDRESS,))
    now = State(links=(Link(index=2, name=OTHER0),), addresses=(replace(ADDED, link=OTHER0),))
    merged = merge(before, before, (), now, (ETH0, IfName("br0")))
    assert merged.state.addresses == (ADDRESS, ADDED)
    assert merged.told == ("198.51.100.7/24 was added meanwhile and is kept on eth0",)
