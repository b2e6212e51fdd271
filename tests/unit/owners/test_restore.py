"""The way back restarts a client whose link's name is another link's by now."""

from __future__ import annotations

from dataclasses import replace

from tapbridge.core.restore import restore
from tapbridge.model.state import Client, Link, State
from tapbridge.model.step import StartClient, Step, StopClient
from tapbridge.model.values import IfName

NIC = Link(name=IfName("eth0"), index=2, up=True)
CLIENT = Client(link=NIC.name, program="dhclient", pid=100, argv=("dhclient", "eth0"))
BEFORE = State(links=(NIC,), clients=(CLIENT,))
BRIDGE = Link(name=IfName("eth0"), index=3, kind="bridge", alias="tapbridge 1 nic=eth0", up=True)
PORT = replace(NIC, name=IfName("reth0"), master=BRIDGE.name)


def acts(now: State) -> list[Step]:
    plan = restore(BEFORE, now, ("eth0", "reth0"))
    return [step for step in plan.steps if isinstance(step, StopClient | StartClient)]


def test_a_client_that_was_started_on_the_bridge_under_the_same_name_is_replaced() -> None:
    started = replace(CLIENT, pid=200)
    now = State(links=(BRIDGE, PORT), clients=(started,))
    assert acts(now) == [StopClient(client=started), StartClient(client=CLIENT)]


def test_one_that_was_not_stopped_yet_goes_on() -> None:
    assert acts(State(links=(BRIDGE, PORT), clients=(CLIENT,))) == []


def test_once_the_name_is_the_links_own_again_nothing_is_restarted() -> None:
    assert acts(State(links=(NIC,), clients=(replace(CLIENT, pid=300),))) == []
