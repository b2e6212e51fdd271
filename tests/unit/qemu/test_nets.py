"""Which NICs were asked for, and which bridge is meant."""

from __future__ import annotations

import pytest

from tapbridge.cli.nets import NicRequest, find_bridge, nic_options, read_requests, script_options
from tapbridge.cli.parser import Parser
from tapbridge.model.errors import Refused, UsageError
from tapbridge.model.state import Link, State
from tapbridge.model.values import IfName, Mac

MAC = Mac("52:54:00:00:00:01")


def asked(text: str) -> tuple[NicRequest, ...]:
    parser = Parser(prog="tapbridge run")
    nic_options(parser)
    script_options(parser)
    args = parser.parse_args(text.split())
    return read_requests(args.nics, args.alone)


@pytest.mark.parametrize(
    ("text", "nics"),
    [
        ("", (NicRequest(),)),
        ("--mac 52-54-00-00-00-01", (NicRequest(mac=MAC),)),
        ("--net br0", (NicRequest(net="br0"),)),
        ("--model e1000 --net br0", (NicRequest(net="br0", model="e1000"),)),
        ("--model e1000 --net br0 --model rtl8139", (NicRequest(net="br0", model="rtl8139"),)),
        ("--net br0 --net br0", (NicRequest(net="br0"), NicRequest(net="br0"))),
        (
            "--net br0 --queues 2 --vhost off --rate 10M --net user --mtu 1400 --mac 52:54:00:00:00:01",
            (NicRequest(net="br0", queues=2, vhost="off", rate=10_000_000), NicRequest(net="user", mtu=1400, mac=MAC)),
        ),
        ("--net br0 --fd 3:4 --net br1 --tap tap0", (
            NicRequest(net="br0", fds=(3, 4)), NicRequest(net="br1", tap=IfName("tap0")))),
    ],
)  # fmt: skip
def test_options_belong_to_the_net_before_them(text: str, nics: tuple[NicRequest, ...]) -> None:
    assert asked(text) == nics


def test_addresses_and_the_guard_for_them_belong_together() -> None:
    assert asked("--guard ip --ip 192.0.2.10,2001:DB8::10") == (
        NicRequest(guard="ip", ip=("192.0.2.10", "2001:db8::10")),
    )
    assert asked("--guard mac --allow vlan,dhcp,vlan") == (NicRequest(guard="mac", allow=("dhcp", "vlan")),)
    assert asked("--guard mac --net br0") == (NicRequest(net="br0", guard="mac"),)
    for words in ("--guard ip", "--ip 192.0.2.10", "--guard mac --ip 192.0.2.10", "--guard ip --net br0 --net br1"):
        with pytest.raises(UsageError, match=r"belong together|stands before"):
            asked(words)


def test_an_option_before_several_nets_is_nobodys() -> None:
    with pytest.raises(UsageError, match="--mac stands before the first --net"):
        asked("--mac 52:54:00:00:00:01 --net br0 --net br1")


def test_an_option_is_named_as_it_is_written() -> None:
    with pytest.raises(UsageError, match="--mac-prefix stands before the first --net"):
        asked("--mac-prefix 02 --net br0 --net br1")
    with pytest.raises(UsageError, match="--fd stands before the first --net"):
        asked("--fd 3 --net br0 --net br1")


def test_an_address_is_given_whole_or_by_its_beginning() -> None:
    assert asked("--mac-prefix 02-AA") == (NicRequest(mac_prefix="02:aa"),)
    with pytest.raises(UsageError, match="--mac-prefix is for an address that --mac does not give"):
        asked("--net br0 --mac-prefix 02 --mac 52:54:00:00:00:01")
    with pytest.raises(UsageError, match="'00:16:3e' begins addresses that makers of cards have been given"):
        asked("--mac-prefix 00:16:3e")


def host(*links: Link) -> State:
    return State(links=links)


BR0 = Link(name=IfName("br0"), kind="bridge", alias="tapbridge uplink=02:00:00:00:01:02 nic=eth0")
ETH0 = Link(name=IfName("eth0"), mac=Mac("02:00:00:00:01:02"), master=IfName("br0"), master_kind="bridge")
LAN = Link(name=IfName("lan"), kind="bridge")
ETH1 = Link(name=IfName("eth1"), mac=Mac("02:00:00:00:01:03"), master=IfName("lan"), master_kind="bridge")
VIRBR = Link(name=IfName("virbr0"), kind="bridge")


def test_the_default_is_the_bridge_with_an_uplink() -> None:
    assert find_bridge(None, host(VIRBR, LAN, ETH1)) == LAN
    assert find_bridge("user", host()) is None


def test_of_several_the_default_is_ours() -> None:
    assert find_bridge(None, host(LAN, ETH1, BR0, ETH0)) == BR0
    other = host(Link(name=IfName("br0"), kind="bridge"), ETH0, LAN, ETH1)
    with pytest.raises(Refused, match="several bridges have an uplink: br0, lan"):
        find_bridge(None, other)


@pytest.mark.parametrize(
    ("net", "words", "hint"),
    [
        (None, "no bridge leads to the network", "tapbridge up"),
        ("lam", "no bridge 'lam'", "--net lan"),
        ("zzz", "no bridge 'zzz'", "virbr0"),
        ("eth1", "eth1 is no bridge", "--net lan"),
        ("eth9", "eth9 is no bridge", "tapbridge up eth9"),
        ("passt", "not built", "--net user"),
        ("vde:/tmp/x", "not built", "--net user"),
    ],
)
def test_what_is_no_network_is_refused_with_the_way_on(net: str | None, words: str, hint: str) -> None:
    state = host(LAN, ETH1, VIRBR, Link(name=IfName("eth9"))) if net else host(VIRBR)
    with pytest.raises(Refused, match=words) as refusal:
        find_bridge(net, state)
    assert hint in (refusal.value.hint or "")


def test_a_full_bridge_is_refused() -> None:
    ports = tuple(Link(name=IfName(f"tap{n}"), kind="tap", master=IfName("br0")) for n in range(1023))
    with pytest.raises(Refused, match="takes no more"):
        find_bridge("br0", host(BR0, *ports))
    assert find_bridge("br0", host(BR0, *ports[1:])) == BR0
