"""The way back restarts a client whose link's name is another link's by now."""

from __future__ import annotations

from tapbridge.core.restore import restore
from tapbridge.core.restore_owner import restore_owner
from tapbridge.model.noun import replace
from tapbridge.model.state import ALIAS, PROTO_KERNEL, Address, Client, File, Link, Nexthop, Route, State, Sysctl
from tapbridge.model.step import (
    AwaitClient,
    DeleteRoute,
    PutAddress,
    PutRoute,
    ReloadClient,
    RenameLink,
    SetMaster,
    SetSysctl,
    StartClient,
    StartUnit,
    Step,
    StopClient,
    StopUnit,
    WriteFile,
)
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


def test_a_service_of_many_links_is_told_to_read_its_files_anew_and_waited_for_but_never_ended() -> None:
    client = Client(link=NIC.name, program="systemd-networkd", pid=7, argv=("networkd",))
    leased = Address(link=NIC.name, family=4, ip="192.0.2.5", prefix=24, flags=0, valid_lft=60)
    hops = (Nexthop(link=NIC.name),)
    connected = Route(family=4, dst="192.0.2.0/24", protocol=PROTO_KERNEL, scope=253, nexthops=hops)
    default = Route(family=4, dst="0.0.0.0/0", nexthops=(Nexthop(link=NIC.name, gateway="192.0.2.1"),))
    before = State(links=(NIC,), addresses=(leased,), routes=(connected, default), clients=(client,))
    now = State(links=(NIC,), clients=(replace(client, link=IfName("br0")),))
    written = (File(path="/run/x"), File(path="/run/x", content="new"))
    plan = restore_owner(before, now, ("eth0", "br0"), (written,), (ReloadClient(client=client),))
    assert plan.steps == (
        WriteFile(path="/run/x", content=None, owner=(0, 0)),
        ReloadClient(client=client),
        PutRoute(route=connected),
        AwaitClient(client=client, leased=("192.0.2.5",), addresses=(leased,), routes=(connected,)),
    )
    assert restore_owner(before, now, ("eth0", "br0")).steps == (), "one that was told nothing knows nothing new"


def test_ipv6_is_allowed_before_its_addresses_are_put_back() -> None:
    switch = Sysctl(link=NIC.name, stack="ipv6", name="disable_ipv6", value=0)
    address = Address(link=NIC.name, family=6, ip="2001:db8::5", prefix=64)
    before = State(links=(NIC,), addresses=(address,), sysctls=(switch,))
    now = State(links=(NIC,), sysctls=(replace(switch, value=1),))
    steps = restore(before, now, ("eth0",)).steps
    assert steps[0] == SetSysctl(sysctl=switch)
    assert isinstance(steps[1], PutAddress)


MANAGER = Client(link=NIC.name, program="NetworkManager", pid=7, argv=("NetworkManager",), profile="before")
ELSEWHERE = replace(MANAGER, link=IfName("eth1"), profile="other")
STOP = StopUnit(unit="NetworkManager.service", clients=(MANAGER,))
START = StartUnit(unit="NetworkManager.service", clients=(MANAGER,))
KEYFILE = File(path="/run/x.nmconnection"), File(path="/run/x.nmconnection", content="ours")


def managed_again(*clients: Client) -> tuple[Step, ...]:
    """What the way back does for a manager that a change stops, from these clients."""
    before, now = State(links=(NIC,), clients=(MANAGER, ELSEWHERE)), State(links=(NIC,), clients=clients)
    return restore_owner(before, now, ("eth0", "br0"), (KEYFILE,), (STOP,)).steps


def test_a_manager_that_holds_the_bridge_is_stopped_for_its_files_and_started() -> None:
    bridge, port = replace(MANAGER, link=IfName("br0"), profile="ours"), replace(MANAGER, profile="port")
    file = WriteFile(path="/run/x.nmconnection", content=None, owner=(0, 0))
    assert managed_again(bridge, port, ELSEWHERE) == (STOP, file, START)
    assert managed_again(port, ELSEWHERE) == (STOP, file, START)
    assert managed_again() == (file, START)


def test_a_manager_that_the_change_had_not_come_to_is_left_alone() -> None:
    assert not any(isinstance(step, StopUnit | StartUnit) for step in managed_again(MANAGER, ELSEWHERE))


def test_no_route_of_the_bridge_that_goes_is_left_to_win_against_the_nic_s() -> None:
    """As it is where systemd-networkd 252 has found an address in place, whose metric it forgets."""
    route = Route(family=4, dst="192.0.2.0/24", protocol=PROTO_KERNEL, scope=253, nexthops=(Nexthop(link=NIC.name),))
    was = replace(route, metric=1024)
    bridge = Link(name=IfName("br0"), index=3, kind="bridge", up=True, alias=ALIAS)
    rival = replace(route, nexthops=(Nexthop(link=bridge.name),))
    now = State(links=(replace(NIC, master=bridge.name), bridge), routes=(rival,))
    plan = restore(State(links=(NIC,), routes=(was,)), now, ("eth0", "br0"))
    move = next(stage.steps for stage in plan.stages if any(isinstance(step, SetMaster) for step in stage.steps))
    assert move[0] == PutRoute(route=was)
    assert DeleteRoute(route=rival) in move
