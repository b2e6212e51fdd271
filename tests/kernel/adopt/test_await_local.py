"""An IPv6 address is in use some time after it is acknowledged; a plan waits for that before it relies on it."""

from __future__ import annotations

import pytest

from kit.command import run
from kit.lan import batch, host_on_lan
from tapbridge.core.adopt import adopt
from tapbridge.linux.host import LinuxHost
from tapbridge.model.errors import HostError
from tapbridge.model.intent import Adopt
from tapbridge.model.state import Address
from tapbridge.model.step import AwaitLocal, DeleteAddress, PutAddress
from tapbridge.model.values import IfName

BRIDGE = IfName("br9")
IP = "2001:db8::42"


def test_an_address_in_use_is_not_waited_for_and_one_to_come_is() -> None:
    with host_on_lan(), LinuxHost() as host:
        batch(f"link add {BRIDGE} type bridge\nlink set {BRIDGE} up")
        address = Address(link=BRIDGE, family=6, ip=IP, prefix=64)
        host.perform(
            [PutAddress(address=address), AwaitLocal(link=BRIDGE, ips=(IP,)), AwaitLocal(link=BRIDGE, ips=(IP,))]
        )
        assert f"local {IP} " in run("ip", "-6", "route", "show", "table", "local", "dev", BRIDGE).stdout


def test_an_address_that_never_comes_into_use_is_an_error_that_names_it() -> None:
    with host_on_lan(), LinuxHost() as host, pytest.raises(HostError, match=IP):
        host.perform([AwaitLocal(link=IfName("eth0"), ips=(IP,), limit_s=0.05)])


@pytest.mark.parametrize("take_name", [False, True], ids=["br0", "take-name"])
def test_every_address_that_leaves_the_nic_was_waited_for_on_the_bridge(take_name: bool) -> None:
    with host_on_lan(rich=True), LinuxHost() as host:
        plan = adopt(Adopt(nic=IfName("eth0"), take_name=take_name), host.observe())
    waited: set[str] = set()
    for step in plan.steps:
        if isinstance(step, AwaitLocal):
            waited |= set(step.ips)
        if isinstance(step, DeleteAddress) and step.address.family == 6:
            assert step.address.ip in waited
    assert len(waited) == 5
