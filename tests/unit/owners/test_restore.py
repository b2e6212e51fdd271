"""The way back restarts a client whose link's name is another link's by now."""

from __future__ import annotations

from dataclasses import replace

from tapbridge.core.restore import restore_owner
from tapbridge.model.state import Client, File, Link, State
from tapbridge.model.step import RenameLink, StartClient, Step, StopClient, WriteFile
from tapbridge.model.values import IfName

NIC = Link(name=IfName("eth0"), index=2, up=True)
CLIENT = Client(link=NIC.name, program="dhclient", pid=100, argv=("dhclient", "eth0"))
BEFORE = State(links=(NIC,), clients=(CLIENT,))
PORT = replace(NIC, name=IfName("reth0"))


def acts(now: State) -> list[Step]:
    """What the owner's way back does, after the kernel's: the names are as before then."""
    swap = (RenameLink(link=NIC.name, to=PORT.name), RenameLink(link=IfName("br0"), to=NIC.name))
    plan = restore_owner(BEFORE, now, ("eth0", "reth0"), (), swap)
    return [step for step in plan.steps if isinstance(step, StopClient | StartClient)]


def test_a_client_that_was_started_on_the_bridge_under_the_same_name_is_replaced() -> None:
    started = replace(CLIENT, pid=200)
    assert acts(State(links=(NIC,), clients=(started,))) == [StopClient(client=started), StartClient(client=CLIENT)]


def test_one_that_was_not_stopped_yet_goes_on() -> None:
    assert acts(State(links=(NIC,), clients=(CLIENT,))) == []


def test_where_no_link_was_renamed_a_client_that_somebody_restarted_is_left_alone() -> None:
    now = State(links=(NIC,), clients=(replace(CLIENT, pid=300),))
    assert restore_owner(BEFORE, now, ("eth0", "br0")).steps == ()


def test_a_file_is_put_back_between_the_clients_end_and_start() -> None:
    was, there = File(path="/var/lib/dhcp/dhclient.leases", content="old", mode=0o640), File(path="/x", content="new")
    plan = restore_owner(BEFORE, State(links=(NIC,)), ("eth0",), ((was, there),))
    assert plan.steps == (
        WriteFile(path=was.path, content="old", mode=0o640, owner=(0, 0)),
        StartClient(client=CLIENT),
    )
