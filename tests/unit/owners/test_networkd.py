"""What handing a NIC of systemd-networkd's over takes, there and back, as steps."""

from __future__ import annotations

import pytest

from tapbridge.core.adopt import adopt
from tapbridge.core.describe import describe
from tapbridge.core.effect import fold
from tapbridge.core.guard import guard
from tapbridge.core.release import GONE, release
from tapbridge.model.errors import Refused
from tapbridge.model.intent import Adopt, Release
from tapbridge.model.noun import replace
from tapbridge.model.plan import Plan
from tapbridge.model.state import (
    PROTO_DHCP,
    PROTO_RA,
    Address,
    Client,
    LeaseFile,
    Link,
    Nexthop,
    Route,
    State,
    Sysctl,
)
from tapbridge.model.step import AwaitClient, PauseClient, ReloadClient, ResumeClient, SetMaster, SetSysctl, WriteFile
from tapbridge.model.values import IfName, Mac
from tapbridge.owners.table import find_owner, hand_over

NIC, BRIDGE, PORT, LO = IfName("eth0"), IfName("br0"), IfName("reth0"), IfName("lo")
PATH = "/etc/systemd/network/20-wired.network"
OURS = {link: f"/run/systemd/network/00-0-tapbridge-{link}.network" for link in (NIC, BRIDGE)}
CLIENT = Client(
    link=NIC, program="systemd-networkd", pid=7, started=9, argv=("networkd",),
    files=(LeaseFile(path=PATH, sha256=""), LeaseFile(path="/etc/x.conf", sha256="")),
)  # fmt: skip
LEASED = Address(link=NIC, family=4, ip="192.0.2.50", prefix=24, label="eth0", flags=0, valid_lft=300, metric=1024)
ROUTED = Address(link=NIC, family=6, ip="2001:db8::5", prefix=128, flags=0x200, valid_lft=300)
OWN = Address(link=NIC, family=6, ip="fe80::1", prefix=64, scope=253)
GATEWAY = Route(
    family=4, dst="0.0.0.0/0", protocol=PROTO_DHCP, metric=1024, nexthops=(Nexthop(link=NIC, gateway="192.0.2.1"),)
)
ROUTER = Route(
    family=6, dst="::/0", protocol=PROTO_RA, metric=1024, nexthops=(Nexthop(link=NIC, gateway="fe80::9"),),
    nexthop_object=5,
)  # fmt: skip
CONNECTED = Route(
    family=4,
    dst="192.0.2.0/24",
    protocol=2,
    scope=253,
    metric=1024,
    prefsrc=LEASED.ip,
    nexthops=(Nexthop(link=NIC),),
)
HOST = State(
    links=(
        Link(name=LO, index=1, kind="loopback", up=True),
        Link(name=NIC, index=2, mac=Mac("02:00:00:00:00:01"), up=True, carrier=True, operstate="up"),
    ),
    addresses=(LEASED, ROUTED, OWN),
    routes=(CONNECTED, GATEWAY, ROUTER),
    sysctls=(Sysctl(link=NIC, stack="ipv6", name="disable_ipv6", value=0),),
    clients=(CLIENT,),
).sorted()
DISK = {
    PATH: "[Match]\nName=eth0\n[Network]\nDHCP=yes\n",
    "/run/systemd/netif/leases/2": "ADDRESS=192.0.2.50\nCLIENTID=ff010203040002ab11\n",
    "/etc/x.conf": "[DHCPv4]\nUseNTP=no\n",
}


def adopted(state: State = HOST, disk: dict[str, str] = DISK) -> Plan:
    handed = hand_over(find_owner(state, NIC), state, NIC, BRIDGE, read=disk.get)
    return adopt(Adopt(nic=NIC, bridge=BRIDGE), state, handed)


def released(state: State, disk: dict[str, str]) -> Plan:
    handed = hand_over(find_owner(state, BRIDGE), state, BRIDGE, NIC, read=disk.get)
    return release(Release(bridge=BRIDGE), state, handed)


def written(plan: Plan, disk: dict[str, str]) -> dict[str, str]:
    there: dict[str, str | None] = dict(disk)
    there.update((step.path, step.content) for step in plan.steps if isinstance(step, WriteFile))
    return {path: text for path, text in there.items() if text is not None}


def test_it_has_the_bare_bridge_in_hand_and_stands_still_until_the_move_is_made() -> None:
    plan = adopted()
    kinds = (AwaitClient, PauseClient, ReloadClient, ResumeClient, SetMaster, WriteFile)
    told = [type(step).__name__ for step in plan.steps if isinstance(step, kinds)]
    assert told == [
        *("WriteFile", "ReloadClient", "AwaitClient", "PauseClient", "SetMaster", "ResumeClient", "AwaitClient"),
        *("WriteFile", "ReloadClient", "AwaitClient"),
    ]
    assert [step.client for step in plan.steps if isinstance(step, PauseClient)] == [CLIENT]
    assert [step.leased for step in plan.steps if isinstance(step, AwaitClient)] == [(), ("192.0.2.50",), ()]
    assert [(c.link, [f.path for f in c.files]) for c in plan.after.clients] == [(BRIDGE, [OURS[BRIDGE]])]
    assert guard(plan, HOST.links[1]).ok


def test_its_identity_and_its_drop_ins_go_along() -> None:
    text = written(adopted(), DISK)[OURS[BRIDGE]]
    assert text.count("IAID=16909060") == 2
    assert "UseNTP=no" in text
    by_mac = {**DISK, "/run/systemd/netif/leases/2": "CLIENTID=01020000000001\n"}
    assert "IAID" not in written(adopted(disk=by_mac), by_mac)[OURS[BRIDGE]]


def test_the_lease_of_the_nic_is_given_up_while_nothing_can_be_sent_of_it() -> None:
    steps = adopted().steps
    switched = [n for n, step in enumerate(steps) if isinstance(step, SetSysctl) and step.sysctl.link == NIC]
    left = next(n for n, step in enumerate(steps) if isinstance(step, AwaitClient) and step.left)
    assert switched[0] < left < switched[1]
    assert isinstance(steps[left - 1], ReloadClient)


def test_the_copy_of_a_route_with_a_nexthop_object_cannot_be_taken_for_it() -> None:
    (copy,) = (r for r in adopted().after.routes if r.protocol == PROTO_RA)
    assert (copy.metric, copy.nexthop_object) == (1025, 0)


def test_there_and_back_the_host_is_never_cut_off_and_nothing_is_left() -> None:
    plan = adopted()
    disk = written(plan, DISK)
    back = released(plan.after, disk)
    assert written(back, disk) == DISK
    assert guard(back, next(link for link in plan.after.links if link.name == NIC)).ok
    assert back.after.clients == (replace(CLIENT, files=back.after.clients[0].files),)
    assert {(a.link, a.ip) for a in back.after.addresses} == {(a.link, a.ip) for a in HOST.addresses}
    assert [r.dst for r in back.after.routes_of(NIC) if r.metric > 4_000_000] == []
    assert {r.dst for r in back.after.routes_of(NIC)} >= {"0.0.0.0/0", "192.0.2.0/24", "::/0"}


SAVED = "/etc/systemd/network/00-1-tapbridge-"
HELD_BACK = {
    f"/run/systemd/network/00-1-tapbridge-{name}.d/held-back.conf": "[Match]\nHost=!*\n"
    for name in ("br0.netdev", "br0.network", "eth0.network")
}


@pytest.mark.parametrize("booted", [False, True])
def test_the_files_of_a_saved_bridge_are_held_back_before_they_are_read_until_it_is_there_again(booted: bool) -> None:
    plan = adopted()
    live = written(plan, DISK)
    saved = {f"{SAVED}br0.netdev": "", **{f"{SAVED}{x}.network": live[OURS[x]] for x in (NIC, BRIDGE)}}
    disk, state = {**live, **saved}, plan.after
    if booted:
        disk = {path: text for path, text in disk.items() if path not in OURS.values()}
        held = LeaseFile(path=f"{SAVED}br0.network", sha256="")
        state = replace(state, clients=(replace(state.clients[0], files=(held,)),))
    back = released(state, disk)
    steps = [step.path if isinstance(step, WriteFile) else type(step) for step in back.steps]
    assert max(steps.index(path) for path in HELD_BACK) < steps.index(ReloadClient)
    down = written(back, disk)
    comment = "# Written by tapbridge: not before the next boot.\n"
    assert down == {**DISK, **saved, **{path: comment + text for path, text in HELD_BACK.items()}}
    again = adopted(disk=down)
    assert [step.path for step in again.steps if isinstance(step, WriteFile)][-3:] == list(HELD_BACK)
    assert written(again, down) == {**live, **saved}


def test_they_are_held_back_also_where_nobody_reads_them_now() -> None:
    plan = adopted()
    disk = {**written(plan, DISK), f"{SAVED}br0.netdev": ""}
    stopped = replace(plan.after, clients=())
    handed = hand_over(None, stopped, BRIDGE, NIC, read=disk.get)
    assert written(release(Release(bridge=BRIDGE), stopped, handed), disk).keys() >= HELD_BACK.keys()
    assert hand_over(None, stopped, BRIDGE, NIC, read=disk.get, of_boot=False).after == ()  # another network's


def test_the_nic_has_no_ipv4_address_that_could_be_thrown_away_when_it_is_taken_back() -> None:
    plan = adopted()
    back = released(plan.after, written(plan, DISK))
    reload = next(n for n, step in enumerate(back.steps) if isinstance(step, ReloadClient))
    state = fold(back.steps[:reload], plan.after)
    assert [a.ip for a in state.addresses_of(NIC)] == ["2001:db8::5", "fe80::1"], "neighbours are answered on it alone"
    assert {a.ip for a in state.addresses_of(LO)} == {"192.0.2.50", "2001:db8::5"}
    assert {r.protocol for r in state.routes_of(NIC)} == {2}


@pytest.mark.parametrize(
    ("state", "disk", "why"),
    [
        (replace(HOST, clients=(replace(CLIENT, files=()),)), DISK, "by which file"),
        (HOST, {**DISK, PATH: "[Network]\nBridge=br9\n"}, "Bridge=br9"),
        (HOST, {key: text for key, text in DISK.items() if key != PATH}, "not there any more"),
        (replace(HOST, clients=(replace(CLIENT, files=(LeaseFile(path="/etc/00-0-a.network", sha256=""),)),)), DISK,
         "count before"),
        (replace(HOST, clients=(replace(CLIENT, files=(LeaseFile(path="/proc/7/root/x.network", sha256=""),)),)), DISK,
         "file system of its own"),
        (replace(HOST, clients=(CLIENT, replace(CLIENT, link=BRIDGE))), DISK, "configures br0 already"),
    ],
)  # fmt: skip
def test_what_cannot_be_carried_is_refused(state: State, disk: dict[str, str], why: str) -> None:
    with pytest.raises(Refused, match=why):
        hand_over(find_owner(state, NIC), state, NIC, BRIDGE, read=disk.get)


def renamed(disk: dict[str, str] = DISK) -> Plan:
    """The NIC under a bridge that has its name."""
    handed = hand_over(find_owner(HOST, NIC), HOST, NIC, NIC, port=PORT, bridge=BRIDGE, read=disk.get)
    return adopt(Adopt(nic=NIC, bridge=BRIDGE, take_name=True), HOST, handed)


def test_a_bridge_that_takes_the_name_has_both_in_a_file_that_fits_bridges_alone() -> None:
    """And when networkd hears of the names, the NIC can send no IPv6 already."""
    plan = renamed()
    files = {path: text for path, text in written(plan, DISK).items() if path not in DISK}
    assert {path: text.splitlines()[1:4] for path, text in files.items()} == {
        OURS[NIC]: ["[Match]", "Name=eth0 br0", "Type=bridge"],
        f"/run/systemd/network/00-0-tapbridge-{PORT}.network": [f"# Its own file: {PATH}", "[Match]", f"Name={PORT}"],
    }
    tail = [type(step) for step in plan.steps[-12:]]
    assert tail.index(SetSysctl) < tail.index(ResumeClient) < tail.index(AwaitClient) < tail.index(WriteFile)
    awaited = [step for step in plan.steps if isinstance(step, AwaitClient)]
    assert [step.client.link for step in awaited] == [BRIDGE, NIC, BRIDGE, PORT]
    assert "[ ! -e /sys/class/net/br0 ] ||" in (describe(awaited[2]).command or ""), (
        "there is none of that name any more"
    )
    assert {client.link for client in plan.after.clients} == {NIC}

    disk = written(plan, DISK)
    back = hand_over(find_owner(plan.after, NIC), plan.after, NIC, NIC, port=PORT, bridge=GONE, read=disk.get)
    down = release(Release(bridge=NIC), plan.after, back)
    assert written(down, disk) == DISK
    left = next(step for step in down.steps if isinstance(step, WriteFile))
    assert (left.path, left.content) == (OURS[NIC], f"[Match]\nName={GONE}\n\n[Link]\nUnmanaged=yes\n")


def test_netplan_that_gives_the_nic_its_name_is_not_robbed_of_it() -> None:
    path = "/run/systemd/network/10-netplan-eth0"
    client = replace(CLIENT, files=(LeaseFile(path=f"{path}.network", sha256=""),))
    state, disk = replace(HOST, clients=(client,)), {f"{path}.network": DISK[PATH]}
    assert hand_over(find_owner(state, NIC), state, NIC, NIC, port=PORT, bridge=BRIDGE, read=disk.get).early
    disk[f"{path}.link"] = "[Link]\nName=eth0\n"
    with pytest.raises(Refused, match="set the NIC down to give it its name back"):
        hand_over(find_owner(state, NIC), state, NIC, NIC, port=PORT, bridge=BRIDGE, read=disk.get)
    assert hand_over(find_owner(state, NIC), state, NIC, BRIDGE, read=disk.get).early


def test_a_nic_without_a_file_of_its_own_is_simply_given_back() -> None:
    """Whoever took the file away since does not want it configured any more."""
    plan = adopted()
    disk = {path: text for path, text in written(plan, DISK).items() if path != PATH}
    handed = hand_over(find_owner(plan.after, BRIDGE), plan.after, BRIDGE, NIC, read=disk.get)
    assert not handed.anew
    assert written(release(Release(bridge=BRIDGE), plan.after, handed), disk).keys() == DISK.keys() - {PATH}


def test_our_files_go_also_where_nobody_reads_them_any_more() -> None:
    plan = adopted()
    disk = written(plan, DISK)
    stopped = replace(plan.after, clients=())
    handed = hand_over(find_owner(stopped, BRIDGE), stopped, BRIDGE, NIC, read=disk.get)
    assert written(release(Release(bridge=BRIDGE), stopped, handed), disk) == DISK
    other = replace(plan.after.clients[0], files=(LeaseFile(path="/etc/systemd/network/br.network", sha256=""),))
    taken = replace(plan.after, clients=(other,))
    handed = hand_over(find_owner(taken, BRIDGE), taken, BRIDGE, NIC, read=disk.get)
    assert [risk.code for risk in handed.risks] == ["owner-left-alone"]
    assert written(release(Release(bridge=BRIDGE), taken, handed), disk) == DISK
