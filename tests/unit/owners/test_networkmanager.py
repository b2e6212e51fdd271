"""What NetworkManager's hand-over writes, what it refuses, and that no name can add a line to a file of its."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapbridge.core.adopt import HandOver
from tapbridge.model.errors import HostError, Refused
from tapbridge.model.noun import replace
from tapbridge.model.state import Address, Client, LeaseFile, Link, State
from tapbridge.model.step import StartUnit, StopUnit, WriteFile, WriteLinkFile
from tapbridge.model.values import IfName, Mac
from tapbridge.owners.networkmanager_files import bridge_profile, escape, port_profile, read_keyfile, write_keyfile
from tapbridge.owners.table import find_owner, hand_over

NIC, BRIDGE, PORT = IfName("eth0"), IfName("br0"), IfName("reth0")
UUID = "763edf12-24e9-3d18-af8c-815a36dbe0b3"
PROFILE = "/etc/NetworkManager/system-connections/office.nmconnection"
LEASES = "/var/lib/NetworkManager/internal-"
UNIT = "NetworkManager.service"
KEYFILE = f"""# by hand
[connection]
id=office
uuid={UUID}
type=ethernet
zone=home
permissions=user:me:;

[802-3-ethernet]
mtu=1400

[ipv4]
method=auto
dns=192.0.2.1;
dhcp-hostname=me

[ipv6]
addr-gen-mode=stable-privacy
method=auto
route-metric=50
"""
STATE = f"""[device]
managed=true
connection-uuid={UUID}
nm-owned=false
route-metric-default-effective=101

[dhcp4]
dhcp4.dhcp_client_identifier=ff:00:00:00:01:00:01

[dhcp6]
dhcp6.dhcp6_client_id=00:04:72:8e
dhcp6.iaid=2b:50:67:35
"""
OF_BRIDGE = """[connection]
id=br0
uuid={ours}
type=bridge
interface-name=br0
autoconnect-priority=999
autoconnect-slaves=1
stable-id=763edf12-24e9-3d18-af8c-815a36dbe0b3
zone=home

[bridge]
mac-address=02:00:00:00:01:02
multicast-snooping=false
stp=false

[ipv4]
method=auto
dns=192.0.2.1;
dhcp-hostname=me
route-metric=101
dhcp-client-id=ff:00:00:00:01:00:01

[ipv6]
addr-gen-mode=stable-privacy
method=auto
route-metric=50
dhcp-duid=00:04:72:8e
dhcp-iaid=726689589

[proxy]

[user]
org.tapbridge.nic-profile=763edf12-24e9-3d18-af8c-815a36dbe0b3
"""
OF_PORT = """[connection]
id=br0 port eth0
uuid={port}
type=ethernet
interface-name=eth0
autoconnect-priority=999
master={ours}
slave-type=bridge
stable-id=763edf12-24e9-3d18-af8c-815a36dbe0b3

[ethernet]
mtu=1400
"""
FILES = {PROFILE: KEYFILE, "/run/NetworkManager/devices/2": STATE, f"{LEASES}{UUID}-eth0.lease": "ADDRESS=192.0.2.63\n"}
CLIENT = Client(
    link=NIC,
    program="NetworkManager",
    pid=7,
    argv=("/usr/sbin/NetworkManager", "--no-daemon"),
    cgroup=f"/system.slice/{UNIT}",
    files=(LeaseFile(path=PROFILE, sha256=""),),
    profile=UUID,
)
HOST = State(
    links=(
        Link(name=NIC, index=2, mac=Mac("02:00:00:00:01:02")),
        Link(name=BRIDGE, index=3, kind="bridge"),
    ),
    clients=(CLIENT,),
)
ANSWERS = {
    "VERSION": "1.42.4\n",
    "DEVICE,STATE": "eth0:connected\nlo:connected (externally)\ntun0:connected (externally)\nwlan0:connected\n",
    "TYPE,DEVICE,NAME": "802-3-ethernet:eth0:office\nloopback:lo:lo\ntun:tun0:tun0\n",
}


def answering(answers: Mapping[str, str]) -> Any:
    """An Ask by the fields that nmcli is asked for."""

    def ask(*words: str) -> str:
        assert words[:3] == ("nmcli", "-t", "-f")
        if words[3] not in answers:
            raise HostError("nmcli is not there")
        return answers[words[3]]

    return ask


def handed_over(
    host: State = HOST, files: Mapping[str, str] = FILES, answers: Mapping[str, str] = ANSWERS, *, force: bool = False
) -> HandOver:
    """NIC to bridge."""
    ask = answering(answers)
    return hand_over(find_owner(host, NIC), host, NIC, BRIDGE, read=files.get, ask=ask, force=force)


def written(handed: HandOver) -> dict[str, str | None]:
    """The files by their paths; those of a link by its name."""
    found: dict[str, str | None] = {}
    for step in handed.after:
        if isinstance(step, WriteFile):
            found[step.path] = step.content
        elif isinstance(step, WriteLinkFile):
            found[f"{step.folder}/{step.link}"] = step.content
    return found


def test_it_is_stopped_and_started_with_files_for_bridge_and_port() -> None:
    handed = handed_over()
    assert handed.before == (StopUnit(unit=UNIT, clients=(CLIENT,)),)
    *_, start = handed.after
    assert isinstance(start, StartUnit)
    held = {client.link: client.profile for client in start.clients}
    ours, port = held[BRIDGE], held[NIC]
    assert len({ours, port, UUID}) == 3
    assert written(handed) == {
        f"{LEASES}{ours}-br0.lease": "ADDRESS=192.0.2.63\n",
        "/run/NetworkManager/system-connections/tapbridge-br0.nmconnection": OF_BRIDGE.format(ours=ours),
        "/run/NetworkManager/system-connections/tapbridge-br0-port.nmconnection": OF_PORT.format(ours=ours, port=port),
        "/run/NetworkManager/devices/br0": f"[device]\nmanaged=true\nconnection-uuid={ours}\nnm-owned=true\n",
        "/run/NetworkManager/devices/2": f"[device]\nmanaged=true\nconnection-uuid={port}\nnm-owned=false\n",
    }
    profiles = [step for step in handed.after if isinstance(step, WriteFile) and "system-connections" in step.path]
    assert {step.mode for step in profiles} == {0o600}
    assert handed.risks == ()


def test_there_and_back_leaves_the_files_as_they_were() -> None:
    disk: dict[str, str | None] = dict(FILES)
    there = handed_over()
    *_, start = there.after
    assert isinstance(start, StartUnit)
    for path, content in written(there).items():
        disk[path.replace("devices/br0", "devices/3")] = content
    bridged = replace(HOST, clients=start.clients)
    ask = answering(ANSWERS)
    back = hand_over(find_owner(bridged, BRIDGE), bridged, BRIDGE, NIC, read=disk.get, ask=ask)
    *_, again = back.after
    assert back.before == (StopUnit(unit=UNIT, clients=start.clients[:1] + start.clients[1:]),)
    assert isinstance(again, StartUnit)
    assert [(client.link, client.profile) for client in again.clients] == [(NIC, UUID)]
    disk.update(written(back))
    left = {path: text for path, text in disk.items() if text is not None and path != "/run/NetworkManager/devices/2"}
    assert left == {path: text for path, text in FILES.items() if path != "/run/NetworkManager/devices/2"}
    told = read_keyfile(disk["/run/NetworkManager/devices/2"] or "")["device"]
    assert told == read_keyfile(STATE)["device"]


def test_the_profiles_of_a_saved_bridge_are_hidden_until_it_is_there_again() -> None:
    there = handed_over()
    *_, start = there.after
    assert isinstance(start, StartUnit)
    uuids = [client.profile for client in start.clients]
    run, etc = (f"/{place}/NetworkManager/system-connections" for place in ("run", "etc"))
    names = "tapbridge-br0.nmconnection", "tapbridge-br0-port.nmconnection"
    saved = {f"{etc}/{name}": written(there)[f"{run}/{name}"] for name in names}
    disk: dict[str, str | None] = {**FILES, **saved}
    clients = tuple(
        replace(client, files=(LeaseFile(path=path, sha256=""),))
        for client, path in zip(start.clients, saved, strict=True)
    )
    booted = replace(HOST, clients=clients)
    ask = answering(ANSWERS)
    back = hand_over(find_owner(booted, BRIDGE), booted, BRIDGE, NIC, read=disk.get, ask=ask)
    stones = {f"{run}/{uuid}.nmmeta": f"[nmmeta]\nuuid={uuid}\nloaded-path=/dev/null\n" for uuid in uuids}
    assert {path: text for path, text in written(back).items() if "system-connections" in path} == stones
    assert {step.mode for step in back.after if isinstance(step, WriteFile) and step.path in stones} == {0o600}
    assert isinstance(back.after[-1], StartUnit)
    disk |= written(back)
    files = {path: text for path, text in disk.items() if text is not None}
    again = written(handed_over(files=files))
    assert {path: again[path] for path in stones} == dict.fromkeys(stones)


def test_a_bridge_whose_profile_is_somebody_else_s_is_left_alone() -> None:
    bridged = replace(HOST, clients=(replace(CLIENT, link=BRIDGE),))
    back = hand_over(find_owner(bridged, BRIDGE), bridged, BRIDGE, NIC, read=FILES.get, ask=answering(ANSWERS))
    assert (back.before, back.after, [risk.code for risk in back.risks]) == ((), (), ["owner-left-alone"])


REFUSED: dict[str, tuple[Client, str, str]] = {
    "802.1X": (CLIENT, KEYFILE + "[802-1x]\neap=tls;\n", r"802\.1X"),
    "looking on": (CLIENT, KEYFILE + "[.nmmeta]\nexternal=true\n", "only looks on"),
    "shared": (CLIENT, KEYFILE.replace("method=auto\ndns", "method=shared\ndns"), "method=shared"),
    "another type": (CLIENT, KEYFILE.replace("type=ethernet", "type=pppoe"), "of the type pppoe"),
    "no keyfile": (replace(CLIENT, files=()), KEYFILE, "in no keyfile"),
    "no profile": (replace(CLIENT, profile=""), KEYFILE, "not connected it by a profile yet"),
    "not of systemd": (replace(CLIENT, cgroup="/user.slice/session-1.scope"), KEYFILE, "not run by systemd"),
    "a container": (replace(CLIENT, files=(LeaseFile(path="/proc/7/root/x", sha256=""),)), KEYFILE, "of its own"),
}


@pytest.mark.parametrize(("client", "keyfile", "why"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_handed_over_is_refused(client: Client, keyfile: str, why: str) -> None:
    with pytest.raises(Refused, match=why) as refused:
        handed_over(replace(HOST, clients=(client,)), {**FILES, PROFILE: keyfile})
    assert (refused.value.code, refused.value.subject) == ("owner-holds-nic", "eth0")


def test_a_bridge_that_it_holds_by_another_profile_is_refused() -> None:
    own = replace(CLIENT, link=BRIDGE, profile="its own", files=(LeaseFile(path="/run/br0", sha256=""),))
    host = replace(HOST, clients=(CLIENT, own))
    with pytest.raises(Refused, match="it holds br0 as well"):
        handed_over(host)
    looking_on = {**FILES, "/run/br0": "[.nmmeta]\nexternal=true\n"}
    assert handed_over(host, looking_on).after == handed_over().after


def test_a_vlan_that_would_lose_its_parent_is_refused_with_what_helps() -> None:
    """Another profile holds the NIC on the bridge, so whatever looks for the NIC's own finds nothing."""
    name, path = IfName("eth0.7"), "/etc/NetworkManager/system-connections/vlan.nmconnection"
    vlan = replace(CLIENT, link=name, profile="7", files=(LeaseFile(path=path, sha256=""),))
    links = (*HOST.links, Link(name=name, index=4, kind="vlan", parent=NIC))
    host = replace(HOST, links=links, clients=(CLIENT, vlan))
    with pytest.raises(Refused, match=r"the profile of eth0\.7 names this one as its parent") as refused:
        handed_over(host, {**FILES, path: f"[vlan]\nid=7\nparent={UUID}\n"})
    assert refused.value.hint is not None
    assert "nmcli connection modify 7 vlan.parent eth0" in refused.value.hint
    assert handed_over(host, {**FILES, path: "[vlan]\nid=7\nparent=eth0\n"}) == handed_over()


def test_a_dhclient_of_its_own_is_refused() -> None:
    helper = Client(
        link=NIC, program="dhclient", pid=8, argv=("dhclient", "-sf", "/usr/libexec/nm-dhcp-helper", "eth0")
    )
    with pytest.raises(Refused, match="a dhclient does its DHCP"):
        handed_over(replace(HOST, clients=(CLIENT, helper)))


def take_name(host: State = HOST, files: Mapping[str, str] = FILES) -> HandOver:
    """NIC to a bridge that gets its name."""
    ask = answering(ANSWERS)
    return hand_over(find_owner(host, NIC), host, NIC, NIC, port=PORT, read=files.get, ask=ask)


def test_where_the_bridge_takes_the_name_it_has_the_nic_s_and_the_port_another() -> None:
    there = take_name()
    *_, start = there.after
    assert isinstance(start, StartUnit)
    held = {client.link: client.profile for client in start.clients}
    ours, port = held[NIC], held[PORT]
    files = written(there)
    path = "/run/NetworkManager/system-connections/tapbridge-eth0"
    assert files[f"{path}.nmconnection"] == OF_BRIDGE.format(ours=ours).replace("br0", "eth0")
    of_port = OF_PORT.format(ours=ours, port=port).replace("eth0", "reth0").replace("br0", "eth0")
    assert files[f"{path}-port.nmconnection"] == of_port
    assert files[f"{LEASES}{ours}-eth0.lease"] == "ADDRESS=192.0.2.63\n"

    disk: dict[str, str | None] = {**FILES, **{path.replace("/eth0", "/3"): text for path, text in files.items()}}
    links = replace(HOST.links[1], name=NIC), replace(HOST.links[0], name=PORT)
    bridged = replace(HOST, links=links, clients=start.clients)
    ask = answering(ANSWERS)
    back = hand_over(find_owner(bridged, NIC), bridged, NIC, NIC, port=PORT, read=disk.get, ask=ask)
    disk |= written(back)
    assert {path for path, text in disk.items() if text is not None} == set(FILES)
    *_, again = back.after
    assert isinstance(again, StartUnit)
    assert [(client.link, client.profile) for client in again.clients] == [(NIC, UUID)]


def test_a_vlan_whose_parent_would_be_the_bridge_is_refused() -> None:
    name, path = IfName("eth0.7"), "/etc/NetworkManager/system-connections/vlan.nmconnection"
    vlan = replace(CLIENT, link=name, profile="7", files=(LeaseFile(path=path, sha256=""),))
    links = (*HOST.links, Link(name=name, index=4, kind="vlan", parent=NIC))
    with pytest.raises(Refused, match=r"the profile of eth0\.7 names the NIC as its parent, which would be the bridge"):
        take_name(replace(HOST, links=links, clients=(CLIENT, vlan)), {**FILES, path: "[vlan]\nid=7\nparent=eth0\n"})


@pytest.mark.parametrize("version", ["1.30.6", "1.54.0", "", "1.4"])
def test_an_unknown_version_is_refused_and_tried_by_force(version: str) -> None:
    answers = {**ANSWERS, "VERSION": f"{version}\n"}
    with pytest.raises(Refused, match="private files may differ"):
        handed_over(answers=answers)
    assert handed_over(answers=answers, force=True) == handed_over()
    with pytest.raises(Refused, match="which version it is"):
        handed_over(answers={})


def test_what_is_connected_anew_is_told_before() -> None:
    active = "802-3-ethernet:eth0:office\nwifi:wlan0:Home: 2\nvpn:tun0:work\n802-3-ethernet:eth1:other\n"
    (risk,) = handed_over(answers={**ANSWERS, "TYPE,DEVICE,NAME": active}).risks
    assert (risk.code, risk.severity.value) == ("manager-restarts", "warning")
    assert risk.message.endswith("what else it holds: wifi 'Home: 2', vpn 'work'")


SLAAC = Address(link=NIC, family=6, ip="2001:db8::d15d:5bff:28a2:3980", prefix=64, flags=0, valid_lft=600)
LEASED = Address(link=NIC, family=6, ip="2001:db8::12d", prefix=128, flags=0, valid_lft=600)


def ipv6_of(handed: HandOver) -> Mapping[str, str]:
    """The section [ipv6] of the bridge's profile."""
    path = "/run/NetworkManager/system-connections/tapbridge-br0.nmconnection"
    return read_keyfile(written(handed)[path] or "")["ipv6"]


def test_an_ipv6_address_that_is_made_of_the_link_s_name_is_kept_or_the_change_told_before() -> None:
    handed = handed_over(replace(HOST, addresses=(SLAAC, LEASED)))
    kept = ipv6_of(handed)
    assert (kept["addr-gen-mode"], kept["token"], handed.risks) == ("eui64", "::d15d:5bff:28a2:3980", ())
    two = replace(HOST, addresses=(SLAAC, replace(SLAAC, ip="fd00::1:2:3:4")))
    assert [risk.code for risk in handed_over(two).risks] == ["stable-privacy"]
    assert "token" not in ipv6_of(handed_over(two))
    by_mac = {**FILES, PROFILE: KEYFILE.replace("addr-gen-mode=stable-privacy\n", "")}
    assert handed_over(two, by_mac).risks == ()
    assert "token" not in ipv6_of(handed_over(two, by_mac))


LINES = st.text(min_size=1).map(lambda text: text.replace("\0", ""))


@given(LINES, LINES)
def test_no_name_adds_a_line_or_a_key(bridge: str, nic: str) -> None:
    names = IfName(bridge), IfName(nic)
    there, told = read_keyfile(KEYFILE), read_keyfile(STATE)
    mac = Mac("02:00:00:00:01:02")
    one = bridge_profile(there, told, bridge=names[0], mac=mac, uuid="1")
    two = port_profile(there, port=names[1], bridge=names[0], uuid="2", master="1")
    plain = bridge_profile(there, told, bridge=BRIDGE, mac=mac, uuid="1")
    for profile, usual in ((one, plain), (two, port_profile(there, port=NIC, bridge=BRIDGE, uuid="2", master="1"))):
        read = read_keyfile(write_keyfile(profile))
        assert {name: set(keys) for name, keys in read.items() if name} == {n: set(k) for n, k in usual.items()}
        assert len(write_keyfile(profile).split("\n")) == len(write_keyfile(usual).split("\n"))


@pytest.mark.parametrize(
    ("value", "escaped"),
    [("br0", "br0"), (" x ", "\\sx "), ("a\nb=c", "a\\nb=c"), ("\\n", "\\\\n"), ("[x]", "[x]"), ("\t;", "\\t;")],
)
def test_values_are_written_by_the_rules_of_keyfiles(value: str, escaped: str) -> None:
    assert escape(value) == escaped
