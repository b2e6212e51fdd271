"""dhcpcd as the service of one link, and one for many links whose NIC gets another name: its words, and its files."""

from __future__ import annotations

import pytest

from tapbridge.model.errors import Refused
from tapbridge.model.noun import replace
from tapbridge.model.state import Client, Link, State
from tapbridge.model.step import StartClient, WriteFile
from tapbridge.model.values import IfName
from tapbridge.owners.table import find_owner, hand_over

NIC, BRIDGE, PORT = IfName("eth0"), IfName("br0"), IfName("reth0")
OF_ETH0 = Client(
    link=NIC,
    program="dhcpcd",
    pid=7,
    argv=("/usr/sbin/dhcpcd", "-4", "-w", "eth0"),
    cgroup="/system.slice/system-dhcpcd.slice/dhcpcd@eth0.service",
)
OF_ALL = replace(OF_ETH0, argv=("/usr/sbin/dhcpcd", "-q"), cgroup="/system.slice/dhcpcd.service")


BEFORE = (Link(name=NIC, index=2), Link(name=BRIDGE, index=3, kind="bridge"))
AFTER = (Link(name=PORT, index=2), Link(name=NIC, index=3, kind="bridge"))
"""Where the bridge has taken the name."""


def handed_over(
    now: Client, source: IfName, target: IfName, disk: dict[str, str | None], links: tuple[Link, ...] = BEFORE
) -> Client:
    """The client after its hand-over; what is written goes to `disk`."""
    state = State(links=links, clients=(now,))
    handed = hand_over(find_owner(state, source), state, source, target, port=PORT, read=disk.get)
    for step in handed.after:
        if isinstance(step, WriteFile):
            disk[step.path] = step.content
    start = handed.after[-1]
    assert isinstance(start, StartClient)
    return start.client


def test_the_service_of_one_link_starts_it_on_the_bridge_and_knows_how_to_end_it_there() -> None:
    place = "/run/systemd/system/dhcpcd@eth0.service.d/tapbridge.conf"
    disk: dict[str, str | None] = {"/etc/dhcpcd.conf": ""}
    now = handed_over(OF_ETH0, NIC, BRIDGE, disk)
    assert (disk[place] or "").splitlines()[2:] == [
        "ExecStart=",
        "ExecStart=/usr/sbin/dhcpcd -b -4 -w br0",
        "ExecStop=",
        "ExecStop=/usr/sbin/dhcpcd -x -4 br0",
        "PIDFile=/run/dhcpcd/br0-4.pid",
    ]
    now = handed_over(now, BRIDGE, NIC, disk)
    assert (now.argv, disk[place]) == (OF_ETH0.argv, None)


def test_the_service_of_one_link_would_end_with_the_name_of_its_nic() -> None:
    with pytest.raises(Refused, match="its service ends when the NIC gets another name"):
        handed_over(OF_ETH0, NIC, NIC, {})


def test_one_that_chooses_its_links_is_told_the_port_s_name_where_the_bridge_has_the_nic_s() -> None:
    text = "duid\ninterface eth0\nmetric 5\n"
    disk: dict[str, str | None] = {"/etc/dhcpcd.conf": text}
    own, unit = "/run/dhcpcd.eth0.conf", "/run/systemd/system/dhcpcd.service.d/tapbridge.conf"
    now = handed_over(OF_ALL, NIC, NIC, disk)
    assert (now.link, now.argv) == (NIC, ("/usr/sbin/dhcpcd", "-f", own, "-q"))
    assert (disk[own] or "").partition("\n")[2] == f"denyinterfaces reth0 tbkeep* tbpeer*\n{text}"
    assert f"ExecStart=/usr/sbin/dhcpcd -b -f {own} -q\n" in (disk[unit] or "")
    now = handed_over(now, NIC, NIC, disk, AFTER)
    assert (now.argv, disk[own], disk[unit]) == (OF_ALL.argv, None, None)
