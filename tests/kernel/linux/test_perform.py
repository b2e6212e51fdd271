"""Carrying steps out on the real kernel: errors, repetition, batches, waiting."""

from __future__ import annotations

import errno
import json
import threading
from contextlib import closing
from typing import Any

import pytest

from kit.command import run
from tapbridge.linux.acts import perform_alone
from tapbridge.linux.channel import Channel
from tapbridge.linux.host import LinuxHost
from tapbridge.linux.shield import Shields
from tapbridge.model.errors import HostError
from tapbridge.model.noun import replace
from tapbridge.model.state import Address, Bridge, Neighbour, Nexthop, Route, Rule, Scope, Sysctl
from tapbridge.model.step import (
    AddLink,
    AddRoute,
    AddRule,
    Await,
    DeleteAddress,
    DeleteLink,
    DeleteNeighbour,
    DeleteRoute,
    DeleteRule,
    PutAddress,
    PutNeighbour,
    PutRoute,
    RenameLink,
    SetAddressGeneration,
    SetAlias,
    SetMaster,
    SetMtu,
    SetSysctl,
    SetUp,
    Step,
)
from tapbridge.model.values import IfName, Mac

BR, NIC, FAR, NEW = IfName("br0"), IfName("nic0"), IfName("far0"), IfName("new0")
PAIR = AddLink(name=NIC, kind="veth", peer=FAR, mtu=1400, up=True)
OWN = Address(link=NIC, family=4, ip="192.0.2.1", prefix=24)


def route(dst: str, **more: Any) -> Route:
    return Route(family=6 if ":" in dst else 4, dst=dst, **{"nexthops": (Nexthop(link=NIC),), **more})


def refusal(host: LinuxHost, *steps: Step) -> HostError:
    with pytest.raises(HostError) as caught:
        host.perform(steps)
    return caught.value


def test_a_bridge_has_all_that_was_asked_from_its_first_moment(host: LinuxHost) -> None:
    options = Bridge(stp=False, forward_delay=300, mcast_snooping=False)
    host.perform([AddLink(name=BR, kind="bridge", mac=Mac("02:00:00:00:00:01"), mtu=1400, bridge=options, up=True)])
    told = json.loads(run("ip", "-d", "-j", "link", "show", "br0").stdout)[0]
    assert (told["address"], told["mtu"]) == ("02:00:00:00:00:01", 1400)
    assert told["linkinfo"]["info_data"]["forward_delay"] == 300
    run("ip", "link", "add", "p0", "address", "00:00:00:00:00:02", "type", "veth", "peer", "name", "p1")
    run("ip", "link", "set", "p0", "master", "br0")
    assert host.observe(Scope.LINKS).link("br0").mac == "02:00:00:00:00:01", "an address that was given stays"  # type: ignore[union-attr]


def test_a_pair_is_up_at_both_ends(host: LinuxHost) -> None:
    host.perform([PAIR, Await(link=NIC), Await(link=FAR)])
    near, far = (host.observe(Scope.LINKS).link(name) for name in (NIC, FAR))
    assert near is not None
    assert far is not None
    assert (near.mtu, far.mtu, near.operstate, far.operstate) == (1400, 1400, "up", "up")


def test_what_exists_is_not_made_again_and_not_changed(host: LinuxHost) -> None:
    host.perform([AddLink(name=BR, kind="bridge", mac=Mac("02:00:00:00:00:01"))])
    error = refusal(host, AddLink(name=BR, kind="bridge", mac=Mac("02:00:00:00:00:99")))
    assert (error.errno, error.index) == (errno.EEXIST, 0)
    assert host.observe(Scope.LINKS).link("br0").mac == "02:00:00:00:00:01"  # type: ignore[union-attr]


def test_an_altname_is_no_name_for_a_step(host: LinuxHost) -> None:
    host.perform([PAIR])
    run("ip", "link", "property", "add", "dev", NIC, "altname", "br0")
    host.perform([DeleteLink(link=BR)])
    assert host.observe(Scope.LINKS).link("nic0") is not None
    assert refusal(host, SetUp(link=BR, up=False)).errno == errno.ENODEV


def test_an_error_says_which_step_and_what_the_kernel_said(host: LinuxHost) -> None:
    host.perform([PAIR])
    bad = AddRoute(route=route("10.0.0.0/8", nexthops=(Nexthop(link=NIC, gateway="198.51.100.9"),)))
    error = refusal(host, SetMtu(link=NIC, mtu=1300), Await(link=NIC), PutAddress(address=OWN), bad)
    assert (error.index, error.errno) == (3, errno.ENETUNREACH)
    assert error.message.endswith("Nexthop has invalid gateway")
    assert "10.0.0.0/8" in error.message


def test_a_batch_goes_on_behind_the_step_that_failed(host: LinuxHost) -> None:
    host.perform([PAIR])
    error = refusal(host, SetMtu(link=NIC, mtu=1300), SetMtu(link=NIC, mtu=1), SetAlias(link=NIC, alias="later"))
    seen = host.observe(Scope.LINKS).link("nic0")
    assert seen is not None
    assert (error.index, seen.mtu, seen.alias) == (1, 1300, "later")


def test_a_link_that_is_not_there_fails_before_anything_is_sent(host: LinuxHost) -> None:
    host.perform([PAIR])
    error = refusal(host, SetMtu(link=NIC, mtu=1300), SetUp(link=BR, up=True))
    assert (error.index, error.errno) == (1, errno.ENODEV)
    assert "there is no link 'br0'" in error.message
    assert host.observe(Scope.LINKS).link("nic0").mtu == 1400  # type: ignore[union-attr]


def test_steps_behind_a_failed_batch_are_not_begun(host: LinuxHost) -> None:
    host.perform([PAIR])
    refusal(host, SetMtu(link=NIC, mtu=1), Await(link=NIC), SetAlias(link=NIC, alias="later"))
    assert host.observe(Scope.LINKS).link("nic0").alias is None  # type: ignore[union-attr]


GONE: dict[str, Step] = {
    "link": DeleteLink(link=IfName("none0")),
    "address": DeleteAddress(address=OWN),
    "address of a link that is gone": DeleteAddress(address=replace(OWN, link=IfName("none0"))),
    "IPv6 address": DeleteAddress(address=Address(link=NIC, family=6, ip="2001:db8::9", prefix=64)),
    "route": DeleteRoute(route=route("10.0.0.0/8")),
    "route with a metric": DeleteRoute(route=route("10.0.0.0/8", metric=7)),
    "route of a table that is not": DeleteRoute(route=route("10.0.0.0/8", table=4711)),
    "IPv6 route": DeleteRoute(route=route("2001:db8::/64", metric=7)),
    "route of a link that is gone": DeleteRoute(
        route=route("10.0.0.0/8", metric=7, nexthops=(Nexthop(link=IfName("none0")),))
    ),
    "neighbour": DeleteNeighbour(neighbour=Neighbour(link=NIC, family=4, ip="192.0.2.9")),
    "rule": DeleteRule(rule=Rule(family=4, priority=1000, table=77)),
}


@pytest.mark.parametrize("step", GONE.values(), ids=GONE.keys())
def test_deleting_what_is_not_there_is_no_error(host: LinuxHost, step: Step) -> None:
    host.perform([PAIR])
    before = host.observe()
    host.perform([step])
    host.perform([step, step])
    after = host.observe()
    assert (after.addresses, after.routes, after.rules) == (before.addresses, before.routes, before.rules)


def test_every_step_but_a_creation_can_be_repeated(host: LinuxHost) -> None:
    host.perform([PAIR, AddLink(name=BR, kind="bridge", up=True)])
    gateway = route("0.0.0.0/0", nexthops=(Nexthop(link=NIC, gateway="192.0.2.254"),))
    six = Address(link=NIC, family=6, ip="2001:db8::9", prefix=64)
    sequence: list[Step] = [
        SetMaster(link=NIC, master=BR),
        PutAddress(address=OWN),
        PutAddress(address=six),
        PutRoute(route=gateway),
        AddRoute(route=replace(gateway, metric=9)),
        AddRoute(route=route("2001:db8:9::/64", metric=9)),
        AddRule(rule=Rule(family=4, priority=1000, table=77, iif=NIC)),
        PutNeighbour(neighbour=Neighbour(link=NIC, family=4, ip="192.0.2.9", mac=Mac("02:00:00:00:00:09"), state=0x80)),
        SetSysctl(sysctl=Sysctl(link=NIC, stack="ipv4", name="rp_filter", value=2)),
        SetMaster(link=NIC, master=None),
    ]
    host.perform(sequence)
    once = host.observe()
    host.perform(sequence)
    again = host.observe()
    assert (once.addresses, once.routes, once.rules) == (again.addresses, again.routes, again.rules)
    host.perform([RenameLink(link=NIC, to=NEW)])
    host.perform([RenameLink(link=NIC, to=NEW), RenameLink(link=NIC, to=NEW)])
    assert host.observe(Scope.LINKS).link("new0") is not None


def test_an_ipv6_route_that_stands_in_the_way_is_an_error(host: LinuxHost) -> None:
    host.perform([PAIR, PutAddress(address=Address(link=NIC, family=6, ip="2001:db8::9", prefix=64))])
    there = route("2001:db8:9::/64", metric=9, protocol=4)
    host.perform([AddRoute(route=there), AddRoute(route=there)])
    error = refusal(host, AddRoute(route=replace(there, metrics=((2, 1300),))))
    assert error.errno == errno.EEXIST


def test_names_follow_the_renames_of_their_batch(host: LinuxHost) -> None:
    host.perform([AddLink(name=BR, kind="bridge", up=True), PAIR])
    host.perform(
        [
            SetMaster(link=NIC, master=BR),
            RenameLink(link=NIC, to=IfName("rnic0")),
            RenameLink(link=BR, to=NIC),
            PutAddress(address=OWN),
            SetMtu(link=IfName("rnic0"), mtu=1300),
            PutRoute(route=route("10.0.0.0/8")),
        ]
    )
    seen = host.observe()
    bridge, port = seen.link("nic0"), seen.link("rnic0")
    assert bridge is not None
    assert port is not None
    assert (bridge.kind, port.master, port.mtu) == ("bridge", "nic0", 1300)
    assert [address.link for address in seen.addresses if address.family == 4] == ["lo", "nic0"]


class _Watched:
    """A socket that counts what is sent through it."""

    def __init__(self, real: Any) -> None:
        self.real, self.sent = real, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def sendto(self, datagram: bytes, address: tuple[int, int]) -> int:
        self.sent += 1
        sent: int = self.real.sendto(datagram, address)
        return sent


def _sent(host: LinuxHost, steps: list[Step]) -> int:
    watched = _Watched(host._channel.socket)
    host._channel.socket = watched  # type: ignore[assignment]
    host.perform(steps)
    host._channel.socket = watched.real
    return watched.sent


def test_a_batch_is_one_message_to_the_kernel(host: LinuxHost) -> None:
    host.perform([AddLink(name=BR, kind="bridge", up=True), PAIR])
    lookups = 2  # one for each name
    steps: list[Step] = [
        SetMaster(link=NIC, master=BR),
        PutAddress(address=replace(OWN, link=BR)),
        PutRoute(route=route("10.0.0.0/8", nexthops=(Nexthop(link=BR),))),
        DeleteAddress(address=OWN),
    ]
    assert _sent(host, steps) == lookups + 1
    many: list[Step] = [AddRoute(route=route(f"10.{n >> 8}.{n & 255}.0/24", metric=1)) for n in range(500)]
    assert _sent(host, many) == 1 + 1


def test_more_than_the_buffers_hold_goes_in_several_messages(host: LinuxHost) -> None:
    host.perform([PAIR])
    many = 9000
    host.perform([AddRoute(route=route(f"10.{n >> 8}.{n & 255}.0/24", metric=1)) for n in range(many)])
    assert len(host.observe().routes_of("nic0")) >= many


def test_deleting_a_route_leaves_its_duplicate_at_another_metric(host: LinuxHost) -> None:
    host.perform([PAIR])
    plain, high = route("10.0.0.0/8"), route("10.0.0.0/8", metric=4000000)
    host.perform([AddRoute(route=plain), AddRoute(route=high)])
    host.perform([DeleteRoute(route=plain), DeleteRoute(route=plain)])
    host.perform([DeleteRoute(route=plain)])
    assert high in host.observe().routes


def test_deleting_a_route_that_another_has_replaced_in_its_batch_leaves_the_duplicate(host: LinuxHost) -> None:
    host.perform([PAIR, AddLink(name=BR, kind="bridge", up=True)])
    plain, high = route("10.0.0.0/8"), route("10.0.0.0/8", metric=4000000)
    other = replace(plain, nexthops=(Nexthop(link=BR),))
    host.perform([AddRoute(route=plain), AddRoute(route=high)])
    host.perform([PutRoute(route=other), DeleteRoute(route=plain)])
    assert {other, high} <= set(host.observe().routes)


def test_waiting_ends_with_the_news_that_the_link_is_up(host: LinuxHost) -> None:
    host.perform([AddLink(name=NIC, kind="veth", peer=FAR)])
    host.perform([SetUp(link=NIC, up=True), SetUp(link=FAR, up=False)])
    raised = threading.Timer(0.2, run, ("ip", "link", "set", FAR, "up"))
    raised.start()
    host.perform([Await(link=NIC, limit_s=10)])
    raised.join()
    assert host.observe(Scope.LINKS).link("nic0").operstate == "up"  # type: ignore[union-attr]


def test_waiting_has_an_end(host: LinuxHost) -> None:
    host.perform([AddLink(name=BR, kind="bridge", up=True)])
    error = refusal(host, Await(link=BR, limit_s=0.05))
    assert error.errno == errno.ETIMEDOUT
    assert "after 0.05 s" in error.message
    assert refusal(host, Await(link=IfName("none0"))).errno == errno.ENODEV


def test_a_question_that_is_not_answered_is_asked_again_while_there_is_time(host: LinuxHost) -> None:
    class Hard(Channel):
        """Of hearing: the kernel's answer to the first question is lost."""

        heard = False

        def ask(self, kind: int, body: bytes) -> bytes:
            if not self.heard:
                self.heard = True
                raise OSError(errno.ENOBUFS, "no buffer space available")
            return super().ask(kind, body)

    host.perform([PAIR])
    with closing(Hard()) as channel:
        perform_alone(channel, Shields(), Await(link=NIC))
        assert channel.heard


def test_a_switch_that_is_not_there_is_named(host: LinuxHost) -> None:
    host.perform([PAIR])
    error = refusal(host, SetUp(link=NIC, up=True), SetSysctl(sysctl=Sysctl(link=NIC, stack="ipv4", name="x", value=1)))
    assert (error.index, error.errno) == (1, errno.ENOENT)
    assert "nic0 has no switch net.ipv4.conf.*.x" in error.message


@pytest.mark.parametrize("part", ["../../../kernel", "", "..", "a/b"])
def test_no_name_leads_out_of_the_folder_of_switches(host: LinuxHost, part: str) -> None:
    error = refusal(host, SetSysctl(sysctl=Sysctl(link=IfName(part), stack="ipv4", name="rp_filter", value=1)))
    assert error.errno == errno.EINVAL


def test_a_switch_of_a_link_with_a_dot_in_its_name(host: LinuxHost) -> None:
    dotted = IfName("eth0.7")
    host.perform([AddLink(name=dotted, kind="bridge")])
    host.perform([SetSysctl(sysctl=Sysctl(link=dotted, stack="ipv4", name="rp_filter", value=2))])
    assert host.observe().sysctl("eth0.7", "ipv4", "rp_filter") == 2


def test_reading_goes_on_while_links_come_and_go(host: LinuxHost) -> None:
    makes = "link add b{0} type bridge\naddress add 10.9.0.{0}/32 dev b{0}\nlink set b{0} up\n"
    lines = "".join(makes.format(n) + ("" if n % 3 else f"link del b{n - 1}\n") for n in range(1, 150))
    changing = threading.Thread(target=run, args=("ip", "-batch", "-"), kwargs={"stdin": lines})
    changing.start()
    readings = 0
    while changing.is_alive() or not readings:
        try:
            seen = host.observe()
        except HostError as error:
            if error.errno == errno.EINTR:  # the links changed during each of its attempts
                continue
            raise
        names = {link.name for link in seen.links}
        assert {address.link for address in seen.addresses} <= names
        assert {hop.link for route in seen.routes for hop in route.nexthops} <= names
        readings += 1
    changing.join()
    assert len(host.observe(Scope.LINKS).links) == 1 + 149 - 49


def test_a_link_too_small_for_ipv6_has_no_addresses_to_make(host: LinuxHost) -> None:
    host.perform([AddLink(name=BR, kind="bridge", mtu=1200), SetAddressGeneration(link=BR, mode=1)])
    assert host.observe(Scope.LINKS).link("br0").addr_gen_mode == 0  # type: ignore[union-attr]
    host.perform([PAIR, SetAddressGeneration(link=NIC, mode=3)])
    assert host.observe(Scope.LINKS).link("nic0").addr_gen_mode == 3  # type: ignore[union-attr]
    assert refusal(host, SetAddressGeneration(link=NIC, mode=99)).errno == errno.EINVAL
