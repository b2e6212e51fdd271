"""The program at the ingress of a NIC: what arrives on the NIC arrives on the bridge."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from kit.command import run
from kit.netns import Netns, in_netns, new_netns
from tapbridge.linux.host import LinuxHost
from tapbridge.model.step import Await, Shield, Unshield
from tapbridge.model.values import IfName

NIC, BR = IfName("nic0"), IfName("br0")
HOST = """
link add br0 address 02:00:00:00:00:01 type bridge
link add keep0 up master br0 type veth peer name keep1
link set keep1 up
link set br0 up
address add 192.0.2.1/24 dev br0
link set nic0 address 02:00:00:00:00:01 up
neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev nic0
"""
PEER = """
link set far0 address 02:00:00:00:00:09 up
address add 192.0.2.9/24 dev far0
neigh add 192.0.2.1 lladdr 02:00:00:00:00:01 dev far0 nud permanent
"""


@pytest.fixture
def wire() -> Iterator[tuple[LinuxHost, Netns]]:
    """A host whose NIC is on no bridge, and the namespace of its peer."""
    with in_netns(), new_netns() as peer, LinuxHost() as host:
        run("ip", "link", "add", NIC, "type", "veth", "peer", "name", "far0", "netns", peer.path)
        run("ip", "-batch", "-", stdin=HOST)
        with peer.entered():
            run("ip", "-batch", "-", stdin=PEER)
        host.perform([Await(link=NIC, limit_s=5), Await(link=BR, limit_s=5)])
        yield host, peer


@contextmanager
def listening(link: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, link.encode())
        receiver.bind(("192.0.2.1", 7))
        receiver.setblocking(False)
        yield receiver


def arrives_on(peer: Netns) -> set[str]:
    """The links on which a datagram of the peer arrives. On a veth it has arrived when it is sent."""
    with ExitStack() as stack:
        receivers = {link: stack.enter_context(listening(link)) for link in (NIC, BR)}
        with peer.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for number in range(50):
                sender.sendto(bytes((number,)), ("192.0.2.1", 7))
        found = set()
        for link, receiver in receivers.items():
            try:
                receiver.recv(1)
                found.add(str(link))
            except BlockingIOError:
                continue
        return found


def is_shielded(host: LinuxHost) -> bool:
    return host.shielded


def test_what_arrives_on_the_nic_arrives_on_the_bridge(wire: tuple[LinuxHost, Netns]) -> None:
    host, peer = wire
    assert arrives_on(peer) == {"nic0"}
    host.perform([Shield(link=NIC, to=BR)])
    assert is_shielded(host)
    assert arrives_on(peer) == {"br0"}
    host.perform([Shield(link=NIC, to=BR), Unshield(link=NIC)])
    assert not is_shielded(host)
    assert arrives_on(peer) == {"nic0"}
    host.perform([Unshield(link=NIC)])


@pytest.mark.parametrize(("tag", "link"), [("", "br0"), ("81000000", "br0"), ("81006000", "br0"), ("81000007", "nic0")])
def test_what_belongs_to_a_vlan_stays_on_the_nic(wire: tuple[LinuxHost, Netns], tag: str, link: str) -> None:
    """This kernel may know no VLANs, but takes every tag off. 0 is no VLAN: such a tag has a priority only."""
    host, peer = wire
    host.perform([Shield(link=NIC, to=BR)])
    frame = bytes.fromhex(f"020000000001020000000009{tag}88b5{'00' * 46}")
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88B5)) as receiver:
        receiver.setblocking(False)
        with peer.entered(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
            sender.bind(("far0", 0))
            sender.send(frame)
        _, place = receiver.recvfrom(100)
        assert place[0] == link


def test_a_shield_ends_with_its_host(wire: tuple[LinuxHost, Netns]) -> None:
    _, peer = wire
    with LinuxHost() as short_lived:
        short_lived.perform([Shield(link=NIC, to=BR)])
        assert arrives_on(peer) == {"br0"}
    assert arrives_on(peer) == {"nic0"}


def test_a_shield_ends_with_its_process(wire: tuple[LinuxHost, Netns]) -> None:
    _, peer = wire
    program = (
        "import sys; from tapbridge.linux.host import LinuxHost; from tapbridge.model.step import Shield\n"
        "host = LinuxHost(); host.perform([Shield(link='nic0', to='br0')]); print(host.shielded, flush=True)\n"
        "sys.stdin.read()"
    )
    words = [sys.executable, "-c", program]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "True\n"
        assert arrives_on(peer) == {"br0"}
        owner.kill()
    assert arrives_on(peer) == {"nic0"}


def test_who_may_not_load_programs_goes_without(wire: tuple[LinuxHost, Netns]) -> None:
    program = (
        "from tapbridge.linux.host import LinuxHost; from tapbridge.model.step import AddLink, Shield\n"
        "host = LinuxHost(); host.perform([AddLink(name='br0', kind='bridge', up=True),\n"
        "  AddLink(name='nic0', kind='veth', peer='far0', up=True), Shield(link='nic0', to='br0')])\n"
        "print(host.shielded)"
    )
    assert run("unshare", "--user", "--map-root-user", "--net", sys.executable, "-c", program).stdout == "False\n"
