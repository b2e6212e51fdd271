"""A host as a tree."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tapbridge.draw.graph import Edge, Graph, Node, natural
from tapbridge.draw.style import Role, ansi
from tapbridge.draw.text import speaks_unicode
from tapbridge.draw.tree import host_tree, tree
from tapbridge.model.guest import Guest, GuestNic, Sighting
from tapbridge.model.port import Port
from tapbridge.model.state import DADFAILED, PERMANENT, TENTATIVE, Address, Bridge, Link, State, Vlans
from tapbridge.model.values import IfName, Mac

BR0 = IfName("br0")
MAC = Mac("02:00:00:00:00:10")
GUEST = Mac("52:54:00:aa:bb:01")


def link(name: str, kind: str = "", **more: Any) -> Link:
    return Link(name=IfName(name), kind=kind, **{"up": True, "carrier": True, "mac": MAC, **more})


def port(name: str, kind: str = "", **more: Any) -> Link:
    return link(name, kind, **{"master": BR0, "master_kind": "bridge", "port": Port(), **more})


HOST = State(
    links=(
        link("lo", "loopback"),
        link("br0", "bridge", bridge=Bridge(), alias=f"tapbridge uplink={MAC} nic=eth0"),
        link("br1", "bridge", bridge=Bridge(stp=True), carrier=False),
        port("eth0"),
        port("tap2", "tap"),
        port("tap10", "tap", alias="tapbridge guest=db"),
        port("tap3", "tap", carrier=False),
        port("veth9", "veth", up=False),
        link("eth1"),
        link("eth1.5", "vlan", parent=IfName("eth1")),
        link("wlan0", "wifi", up=False),
    ),
    addresses=(
        Address(link=BR0, family=4, ip="192.0.2.10", prefix=24, valid_lft=3000),
        Address(link=BR0, family=6, ip="fe80::1", prefix=64),
        Address(link=IfName("eth0"), family=6, ip="fe80::2", prefix=64),
        Address(link=IfName("eth1"), family=6, ip="2001:db8::1", prefix=64, flags=PERMANENT | TENTATIVE | DADFAILED),
    ),
)
GUESTS = (
    Guest(
        name="web",
        pid=4711,
        uid=1000,
        hypervisor="qemu",
        program="qemu-system-x86_64",
        nics=(
            GuestNic(
                link=IfName("tap2"),
                bridge=BR0,
                mac=GUEST,
                addresses=(
                    Sighting(mac=GUEST, family=4, ip="192.0.2.31", source="dhcp", age=3.2, valid_lft=3600),
                    Sighting(mac=GUEST, family=6, ip="fe80::9", source="neighbour"),
                ),
            ),
        ),
    ),
)


def test_a_host_is_drawn_whole() -> None:
    assert host_tree(HOST, GUESTS) == (
        "br0  bridge, up, 02:00:00:00:00:10\n"
        "│  192.0.2.10/24, 50 min left\n"
        "│  fe80::1/64\n"
        "├─ eth0  uplink, up\n"
        "├─ tap10  tap, up\n"
        "│  └─ db\n"
        "├─ tap2  tap, up\n"
        "│  └─ web  qemu, PID 4711, 52:54:00:aa:bb:01\n"
        "│        192.0.2.31, dhcp, 3 s ago, 1 h left\n"
        "│        fe80::9, neighbour\n"
        "├─ tap3  tap, up, no process\n"
        "└─ veth9  veth, down\n"
        "\n"
        "br1  bridge, up, no carrier, STP on, 02:00:00:00:00:10\n"
        "\n"
        "eth1  NIC, up, 02:00:00:00:00:10\n"
        "│  2001:db8::1/64, tentative, duplicate\n"
        "└─ eth1.5  vlan, up, 02:00:00:00:00:10\n"
        "\n"
        "wlan0  wifi, down, 02:00:00:00:00:10"
    )


def test_a_bridge_that_tells_vlans_apart_says_who_is_where() -> None:
    own, seven = Vlans(first=1, last=1, pvid=True, untagged=True), Vlans(first=7, last=7, pvid=True, untagged=True)
    bridge = link("br0", "bridge", bridge=Bridge(vlan_filtering=True), vlans=(own,))
    tagged = (Vlans(first=7, last=8), Vlans(first=20, last=20))
    state = State(links=(bridge, port("eth0", vlans=(own, *tagged)), port("tap0", "tap", vlans=(seven,))))
    assert host_tree(state) == (
        "br0  bridge, up, VLAN-aware, 02:00:00:00:00:10\n"
        "├─ eth0  uplink, up, VLAN 1, with tags VLAN 7-8 20\n"
        "└─ tap0  tap, up, VLAN 7"
    )


def test_without_unicode_the_tree_is_ascii() -> None:
    drawn = host_tree(HOST, GUESTS, unicode=False)
    assert drawn.isascii()
    assert drawn.splitlines()[3:7] == [
        "|- eth0  uplink, up",
        "|- tap10  tap, up",
        "|  `- db",
        "|- tap2  tap, up",
    ]


def test_which_streams_take_lines() -> None:
    assert speaks_unicode("utf-8")
    assert not speaks_unicode("ascii")
    assert not speaks_unicode("iso-8859-1")
    assert not speaks_unicode("no-such-encoding")
    assert not speaks_unicode(None)


def test_colours_add_nothing_that_the_text_does_not_say() -> None:
    import re

    coloured = host_tree(HOST, GUESTS, style=ansi)
    assert coloured != host_tree(HOST, GUESTS)
    assert re.sub(r"\x1b\[\d*m", "", coloured) == host_tree(HOST, GUESTS)


def test_a_port_that_does_not_forward_is_told() -> None:
    state = State(links=(link("br0", "bridge"), port("eth0", port=Port(state=1))))
    assert "eth0  uplink, up, listening" in host_tree(state)


def test_a_guest_with_three_nics_hangs_on_each_tap_with_its_own_mac() -> None:
    macs = [Mac(f"52:54:00:00:00:0{number}") for number in range(3)]
    nics = tuple(GuestNic(link=IfName(f"tap{number}"), mac=mac) for number, mac in enumerate(macs))
    guest = Guest(name="web", pid=7, hypervisor="qemu", nics=nics)
    drawn = host_tree(State(links=tuple(link(f"tap{number}", "tap") for number in range(3))), [guest])
    assert [line for line in drawn.splitlines() if "web" in line] == [f"└─ web  qemu, PID 7, {mac}" for mac in macs]


def test_a_guest_of_an_unknown_program_is_called_by_it() -> None:
    guest = Guest(name="vpn", pid=7, hypervisor="other", program="openvpn", nics=(GuestNic(link=IfName("tap0")),))
    assert "vpn  openvpn, PID 7" in host_tree(State(links=(link("tap0", "tap"),)), [guest])


def test_the_other_end_of_a_veth_does_not_hang_on_it() -> None:
    state = State(links=(link("v0", "veth", parent=IfName("v1")), link("v1", "veth", parent=IfName("v0"))))
    assert [line.split()[0] for line in host_tree(state).splitlines() if line] == ["v0", "v1"]


def test_names_stand_in_the_order_of_their_numbers() -> None:
    assert sorted(["tap10", "tap2", "br0", "tap"], key=natural) == ["br0", "tap", "tap2", "tap10"]


@given(st.text(), st.text())
def test_no_name_acts_on_the_terminal(name: str, alias: str) -> None:
    state = State(links=(link(name, "tap", alias=f"tapbridge guest={alias}"),))
    drawn = host_tree(state, [Guest(name=alias, pid=1, program=name, hypervisor="other")])
    assert all(line.isprintable() for line in drawn.split("\n"))
    assert len(drawn.split("\n")) <= 2


_key = st.sampled_from("abcd")
_edge = st.builds(lambda above, below: Edge(above=above, below=below), _key, _key)


@given(st.lists(_edge, max_size=6))
def test_a_graph_that_bites_its_tail_is_drawn_and_ends(edges: list[Edge]) -> None:
    nodes = tuple(Node(key=key, name=key, role=Role.LINK) for key in "abcd")
    roots = set("abcd") - {edge.below for edge in edges}
    drawn = tree(Graph(nodes=nodes, edges=tuple(edges)))
    assert {line.strip() for line in drawn.splitlines() if line[:1].isalpha()} == roots
