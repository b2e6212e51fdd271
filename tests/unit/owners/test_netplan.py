"""What the hand-over writes where netplan renders for NetworkManager, and what it refuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tapbridge.core.adopt import HandOver
from tapbridge.model.errors import Refused
from tapbridge.model.noun import replace
from tapbridge.model.state import Client, LeaseFile, Link, State
from tapbridge.model.step import StartUnit, WriteFile
from tapbridge.model.values import IfName, Mac
from tapbridge.owners.table import find_owner, hand_over

NIC, BRIDGE = IfName("eth0"), IfName("br0")
UUID = "626dd384-8b3d-3690-9511-192b2c79b3fd"
PROFILE = "/run/NetworkManager/system-connections/netplan-eth0.nmconnection"
KEYFILE = "[connection]\nid=netplan-eth0\ntype=ethernet\ninterface-name=eth0\n\n[ipv4]\nmethod=auto\n"
DROP_IN = "/run/systemd/system/NetworkManager.service.d/tapbridge-br0.conf"
CLIENT = Client(
    link=NIC,
    program="NetworkManager",
    pid=7,
    argv=("/usr/sbin/NetworkManager", "--no-daemon"),
    cgroup="/system.slice/NetworkManager.service",
    files=(LeaseFile(path=PROFILE, sha256=""),),
    profile=UUID,
)
HOST = State(
    links=(Link(name=NIC, index=2, mac=Mac("02:00:00:00:01:02")), Link(name=BRIDGE, index=3, kind="bridge")),
    clients=(CLIENT,),
)


def ask(*words: str, **_: Any) -> str:
    return "1.42.4\n" if "VERSION" in words else ""


def handed_over(files: Mapping[str, str], host: State = HOST, nic: IfName = NIC) -> HandOver:
    """NIC to bridge."""
    return hand_over(find_owner(host, nic), host, nic, BRIDGE, read=files.get, ask=ask)


def written(handed: HandOver) -> dict[str, str | None]:
    return {step.path: step.content for step in handed.after if isinstance(step, WriteFile)}


def start_of(handed: HandOver) -> StartUnit:
    start = handed.after[-1]
    assert isinstance(start, StartUnit)
    return start


def test_netplan_s_own_files_stay_as_they_are() -> None:
    handed = handed_over({PROFILE: KEYFILE})
    assert not [path for path in written(handed) if "netplan" in path]
    assert DROP_IN in written(handed)


def test_the_drop_in_is_for_this_bridge_and_this_nic() -> None:
    handed = handed_over({PROFILE: KEYFILE})
    (line,) = (written(handed)[DROP_IN] or "").splitlines()[2:]
    assert 'grep -qwF "tapbridge uplink=02:00:00:00:01:02 nic=eth0" /sys/class/net/br0/ifalias && ' in line
    assert "|| ip link set eth0 up master br0;" in line
    for client in start_of(handed).clients:
        assert f"/sys/class/net/{client.link}/ifindex" in line
        assert f"connection-uuid={client.profile}\\\\n" in line


def test_there_and_back_leaves_the_files_as_they_were() -> None:
    disk: dict[str, str | None] = {PROFILE: KEYFILE}
    there = handed_over({PROFILE: KEYFILE})
    disk |= written(there)
    bridged = replace(HOST, clients=start_of(there).clients)
    back = hand_over(find_owner(bridged, BRIDGE), bridged, BRIDGE, NIC, read=disk.get, ask=ask)
    assert [(client.link, client.profile) for client in start_of(back).clients] == [(NIC, UUID)]
    disk |= written(back)
    left = {path for path, text in disk.items() if text is not None}
    assert left == {PROFILE, "/run/NetworkManager/devices/2"}


def test_the_drop_in_goes_with_the_bridge_also_where_networkmanager_runs_no_more() -> None:
    alone = replace(HOST, clients=())
    back = hand_over(None, alone, BRIDGE, NIC, read={DROP_IN: ""}.get, ask=ask)
    assert written(back) == {DROP_IN: None}


def test_a_bridge_with_the_name_that_netplan_disconnects_is_refused() -> None:
    with pytest.raises(Refused, match="would disconnect the bridge"):
        hand_over(find_owner(HOST, NIC), HOST, NIC, NIC, port=IfName("reth0"), read={PROFILE: KEYFILE}.get, ask=ask)


def test_a_name_that_could_say_something_in_a_unit_is_refused() -> None:
    nic = IfName("e'$(id)")
    client = replace(CLIENT, link=nic)
    host = replace(HOST, links=(replace(HOST.links[0], name=nic), HOST.links[1]), clients=(client,))
    with pytest.raises(Refused, match="cannot be written into a unit"):
        handed_over({PROFILE: KEYFILE}, host, nic)
