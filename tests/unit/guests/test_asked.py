"""What QEMU and the agents of guests answer, and where they are asked."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapbridge.guests.agent import read_agent
from tapbridge.guests.cmdline import Launch, Netdev, parse_launch
from tapbridge.guests.monitor import read_cards

MAC = "52:54:00:12:34:56"
NETWORK = """\
virtio-net-pci.0: index=0,type=nic,model=virtio-net-pci,macaddr=52:54:00:12:34:56\r
 \\ #net015: index=0,type=tap,ifname=tc,script=no,downscript=no\r
e1000.0: index=0,type=nic,model=e1000,macaddr=52:54:00:12:34:57\r
 \\ n0: index=0,type=tap,fd=24\r
card1: index=0,type=nic,model=virtio-net-pci,macaddr=52:54:00:12:34:58\r
 \\ n1: index=0,type=tap,fd=25\r
 \\ n1: index=1,type=tap,fd=26\r
card2: index=0,type=nic,model=e1000,macaddr=52:54:00:12:34:59\r
 \\ n2: index=0,type=user,net=10.0.2.0,restrict=off\r
card3: index=0,type=nic,model=e1000,macaddr=52:54:00:12:34:5a\r
 \\ n3: index=0,type=tap,helper=/usr/lib/qemu/qemu-bridge-helper,br=br0\r
hub 0\r
 \\ hub0port1: #net026: index=0,type=tap,ifname=th,script=no,downscript=no\r
"""  # QEMU 7.2


def answers(network: object = NETWORK, filters: object = ()) -> list[dict[str, Any]]:
    return [{"return": {}}, {"return": filters, "id": "filter"}, {"return": network, "id": "network"}]


def card(mac: str, **more: Any) -> Netdev:
    return Netdev(mac=mac, mac_source="qmp", **more)  # type: ignore[arg-type]


def test_qemu_tells_which_card_is_on_which_tap_and_its_present_mac() -> None:
    filters = [{"name": "card1", "main-mac": "52:54:00:AA:BB:01", "promiscuous": True}]
    assert read_cards(answers(filters=filters)) == (
        card("52:54:00:12:34:56", ifname="tc"),
        card("52:54:00:12:34:57", fds=(24,)),
        card("52:54:00:aa:bb:01", fds=(25, 26)),
        card("52:54:00:12:34:5a"),
    )


def test_without_the_human_monitor_the_cards_are_known_by_their_macs() -> None:
    told = answers(filters=[{"name": "card1", "main-mac": MAC}, {"name": "x", "main-mac": "no"}, 7])
    assert read_cards(told[:2]) == (card(MAC),)
    assert read_cards([{"error": {"class": "CommandNotFound"}, "id": "network"}, told[1]]) == (card(MAC),)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


@given(JSON, JSON)
def test_no_answer_of_qemu_s_upsets_the_reader(network: object, filters: object) -> None:
    assert all(netdev.mac_source == "qmp" for netdev in read_cards(answers(network, filters)))


CARDS = [
    {"name": "lo", "ip-addresses": [{"ip-address": "127.0.0.1", "ip-address-type": "ipv4", "prefix": 8}]},
    {
        "name": "eth0",
        "hardware-address": MAC,
        "ip-addresses": [
            {"ip-address": "192.0.2.31", "ip-address-type": "ipv4", "prefix": 24},
            {"ip-address": "2001:DB8::31", "ip-address-type": "ipv6", "prefix": 64},
            {"ip-address": "nonsense", "prefix": 64},
            {"ip-address": "192.0.2.32", "prefix": 999},
        ],
    },
]


def test_an_agent_tells_addresses_and_name() -> None:
    told = read_agent([{"return": 7}, {"return": CARDS}, {"return": {"host-name": "web"}}], 7)
    assert [(x.mac, x.family, x.ip, x.prefix, x.hostname, x.source, x.age) for x in told] == [
        (MAC, 4, "192.0.2.31", 24, "web", "agent", 0.0),
        (MAC, 6, "2001:db8::31", 64, "web", "agent", 0.0),
        (MAC, 4, "192.0.2.32", None, "web", "agent", 0.0),
    ]


@pytest.mark.parametrize("host", [{"return": {"host-name": "\x1b[2J"}}, {"error": {"class": "CommandNotFound"}}])
def test_a_name_that_is_none_is_left_out(host: dict[str, Any]) -> None:
    assert {x.hostname for x in read_agent([{"return": 7}, {"return": CARDS}, host], 7)} == {None}


def test_what_stands_before_our_number_was_said_to_somebody_else() -> None:
    assert read_agent([{"return": CARDS}, {"return": 6}], 7) == ()
    assert read_agent([{"return": CARDS}, {"return": 7}], 7) == ()
    assert read_agent([{"return": []}, {"return": 7}, {"return": CARDS}], 7) != ()


@given(st.lists(JSON, max_size=4))
def test_no_answer_of_an_agent_s_upsets_the_reader(told: list[object]) -> None:
    found = read_agent([{"return": 7}, *({"return": answer} for answer in told)], 7)
    assert all(sighting.source == "agent" for sighting in found)


def qemu(line: str) -> Launch:
    return parse_launch(shlex.split(f"qemu-system-x86_64 {line}"), "qemu-system-x86_64")


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("-qmp unix:/run/q.sock,server=on,wait=off", "/run/q.sock"),
        ("-qmp unix:/run/q.sock,server,nowait", "/run/q.sock"),
        ("-chardev socket,id=m,path=/run/q.sock,server=on,wait=off -mon chardev=m,mode=control", "/run/q.sock"),
        ("-mon m,mode=control -chardev socket,path=/run/q.sock,id=m,server,nowait", "/run/q.sock"),
        ("-qmp unix:/run/q.sock,server=on", None),  # whoever comes first lets the guest run
        ("-qmp unix:/run/q.sock", None),  # QEMU is the client
        ("-qmp unix:q.sock,server=on,wait=off", None),
        ("-qmp stdio", None),
        ("-chardev socket,id=m,fd=27,server=on,wait=off -mon chardev=m,mode=control", None),
        ("-chardev socket,id=m,path=/run/q.sock,server=on,wait=off -mon chardev=m,mode=readline", None),
    ],
)
def test_a_monitor_is_asked_only_where_that_changes_nothing(line: str, path: str | None) -> None:
    assert qemu(line).monitors == ((path,) if path else ())


@pytest.mark.parametrize(
    "port",
    [
        "virtserialport,chardev=a,name=org.qemu.guest_agent.0",
        '\'{"driver":"virtserialport","chardev":"a","name":"org.qemu.guest_agent.0"}\'',
    ],
)
def test_the_agent_s_socket_is_found_by_its_port(port: str) -> None:
    line = f"-chardev socket,path=/run/a.sock,server=on,wait=off,id=a -device virtio-serial -device {port}"
    assert qemu(line).agents == ("/run/a.sock",)
    assert qemu(line.replace("guest_agent.0", "other")).agents == ()
