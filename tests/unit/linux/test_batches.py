"""Which steps go to the kernel together."""

from __future__ import annotations

from tapbridge.linux.perform import split_batches
from tapbridge.model.step import AddLink, Await, DeleteLink, SetMtu, SetUp, Step
from tapbridge.model.values import IfName

BR = IfName("br0")
MADE = AddLink(name=BR, kind="bridge")
UP, DOWN = SetUp(link=BR, up=True), SetUp(link=BR, up=False)
WAIT = Await(link=BR)


def batches(*steps: Step) -> list[list[Step]]:
    return [list(batch) for batch in split_batches(steps)]


def test_kernel_steps_beside_one_another_are_one_batch() -> None:
    assert batches(UP, SetMtu(link=BR, mtu=1400), DOWN, WAIT, UP, DOWN) == [
        [UP, SetMtu(link=BR, mtu=1400), DOWN],
        [WAIT],
        [UP, DOWN],
    ]


def test_a_batch_ends_with_the_link_that_it_makes() -> None:
    assert batches(DeleteLink(link=BR), MADE, UP) == [[DeleteLink(link=BR), MADE], [UP]]


def test_nothing_is_nothing() -> None:
    assert batches() == []
    assert batches(WAIT) == [[WAIT]]
