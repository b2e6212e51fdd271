"""The shell script of `up --script`."""

from __future__ import annotations

from tapbridge.core.describe import describe
from tapbridge.model.state import Address
from tapbridge.model.step import PutAddress
from tapbridge.model.values import IfName


def test_an_address_of_the_kernel_s_making_is_put_in_words_that_iproute2_6_1_knows() -> None:
    link_local = Address(link=IfName("br0"), family=6, ip="fe80::1", prefix=64, scope=253, proto=3)
    command = describe(PutAddress(address=link_local)).command
    assert command is not None
    assert "proto" not in command
