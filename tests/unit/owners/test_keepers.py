"""In whose files a bridge is saved: chosen, written, read back by their own program, refused."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapbridge.core.mark import make_mark
from tapbridge.core.outlook import Outlook, differences
from tapbridge.model.errors import HostError, Refused, UsageError
from tapbridge.model.noun import replace
from tapbridge.model.permanent import Permanent, Written
from tapbridge.model.state import (
    PROTO_KERNEL,
    PROTO_STATIC,
    Address,
    Client,
    File,
    LeaseFile,
    Link,
    Nexthop,
    Route,
    State,
)
from tapbridge.model.step import WriteFile
from tapbridge.model.values import IfName, Mac
from tapbridge.owners.ifupdown_files import bridged, statements
from tapbridge.owners.keep_ifupdown import IFUPDOWN
from tapbridge.owners.keep_ifupdown_ng import IFUPDOWN_NG
from tapbridge.owners.keep_networkd import NETWORKD_KEEPER
from tapbridge.owners.keep_networkmanager import NETWORKMANAGER_KEEPER
from tapbridge.owners.keep_unit import DHCPCD_KEEPER, SYSTEMD_KEEPER
from tapbridge.owners.keeper import Form, Keeper, Scene, mark_file, require_plain
from tapbridge.owners.keepers import choose_keeper, competitors
from tapbridge.owners.networkd_files import netdev_file, port_file, saved_port_file, settings
from tapbridge.owners.owner import nobody
from tapbridge.owners.table import find_owner

MAC = Mac("02:00:00:00:01:02")
PERMANENT = Mac("02:00:00:00:09:09")
BR0, ETH0 = IfName("br0"), IfName("eth0")
UUID = "6c0f2d4e-7f1b-4d7b-9d40-0f6b8f5f1a01"
PROFILE = f"""[connection]
id=br0
uuid={UUID}
type=bridge
interface-name=br0
autoconnect-priority=999

[ipv4]
method=manual
address1=192.0.2.7/24,192.0.2.1

[ipv6]
method=auto

[user]
org.tapbridge.nic-profile={UUID}
"""
PORT = f"[connection]\nid=br0 port eth0\nuuid={UUID}\ntype=ethernet\n"
NM = "/run/NetworkManager/system-connections/tapbridge-br0"
RUN = "/run/systemd/network/00-0-tapbridge"
ETC = "/etc/systemd/network"
NOTHING: Mapping[str, str] = MappingProxyType({})
INTERFACES = "auto eth0\niface eth0 inet dhcp\n"


def scene(
    program: str = "", files: Mapping[str, str] | None = None, ask: Callable[..., str] = nobody, held_by: str = ""
) -> Scene:
    """A host with eth0 below br0, held by that program, with those files."""
    texts = files or {}
    bridge = Link(name=BR0, index=3, kind="bridge", mac=MAC, up=True, carrier=True, operstate="up")
    port = Link(name=ETH0, index=2, mac=MAC, permanent_mac=PERMANENT, master=BR0, master_kind="bridge", up=True)
    clients: tuple[Client, ...] = ()
    if program:
        held = (LeaseFile(path=held_by, sha256=""),) if held_by else ()
        clients = (Client(link=BR0, program=program, pid=7, profile=UUID, files=held),)
    state = State(links=(bridge, port), clients=clients)
    folders: dict[str, list[str]] = {}
    for path in sorted(texts):
        folder, _, name = path.rpartition("/")
        folders.setdefault(folder, []).append(name)
    return Scene(
        state=state,
        bridge=bridge,
        port=port,
        mark=make_mark(port),
        owner=find_owner(state, BR0),
        read=texts.get,
        find_names=lambda folder: folders.get(folder, []),
        ask=ask,
    )


def networkd(**more: str) -> Scene:
    files = {
        f"{RUN}-br0.network": "[Match]\nName=br0\n[Network]\nDHCP=ipv4\n",
        f"{RUN}-eth0.network": port_file("eth0", "br0", f"{ETC}/eth0.network"),
        **more,
    }
    return scene("systemd-networkd", files, held_by=f"{RUN}-br0.network")


def networkmanager(more: Mapping[str, str] = NOTHING, ask: Callable[..., str] = nobody) -> Scene:
    files = {f"{NM}.nmconnection": PROFILE, f"{NM}-port.nmconnection": PORT, **more}
    return scene("NetworkManager", files, ask, held_by=f"{NM}.nmconnection")


def ifupdown(text: str = INTERFACES, ask: Callable[..., str] = nobody) -> Scene:
    return scene(files={"/etc/network/interfaces": text, "/etc/network/if-pre-up.d/bridge": ""}, ask=ask)


def ifupdown_ng(text: str = INTERFACES, ask: Callable[..., str] = nobody, more: Mapping[str, str] = NOTHING) -> Scene:
    files = {"/etc/network/interfaces": text, "/usr/libexec/ifupdown-ng/bridge": "", **more}
    return scene(files=files, ask=ask)


def test_the_keeper_is_who_holds_the_bridge_or_has_the_nic_in_its_files() -> None:
    assert choose_keeper(networkd(), None) is NETWORKD_KEEPER
    assert choose_keeper(networkmanager(), None) is NETWORKMANAGER_KEEPER
    assert choose_keeper(ifupdown(), None) is IFUPDOWN
    assert choose_keeper(ifupdown_ng(), None) is IFUPDOWN_NG
    assert choose_keeper(networkd(), "ifupdown") is IFUPDOWN
    with pytest.raises(Refused, match="nobody's files"):
        choose_keeper(scene(), None)
    with pytest.raises(Refused, match="held by dhclient"):
        choose_keeper(scene("dhclient"), None)
    with pytest.raises(
        UsageError, match="there is NetworkManager, systemd-networkd, ifupdown, ifupdown-ng, dhcpcd, systemd"
    ):
        choose_keeper(ifupdown(), "nobody")


def test_the_vlan_links_of_the_nic_s_own_file_and_its_drop_ins_stay_with_it() -> None:
    drop_in = "/run/systemd/network/eth0.network.d/lab.conf"
    one = networkd(**{f"{ETC}/eth0.network": "[Network]\nVLAN=office\n", drop_in: "[Network]\nVLAN=lab\n"})
    texts = {file.path: file.content or "" for file in NETWORKD_KEEPER.form(one).files}
    assert texts[f"{ETC}/00-1-tapbridge-eth0.network"].count("VLAN=office\nVLAN=lab\n") == 1
    assert "VLAN" not in texts[f"{ETC}/00-1-tapbridge-br0.network"]


def test_another_s_files_for_the_same_nic_are_told() -> None:
    one = networkd(**{"/etc/network/interfaces": INTERFACES})
    (found,) = competitors(one, NETWORKD_KEEPER)
    assert (found.code, found.subject) == ("competing-configuration", "eth0")
    assert not list(competitors(networkd(), NETWORKD_KEEPER))


def test_networkd_s_files_are_four_behind_those_of_now() -> None:
    texts = {file.path: file.content or "" for file in NETWORKD_KEEPER.form(networkd()).files}
    assert sorted(texts) == [
        f"{ETC}/00-1-tapbridge-{x}" for x in ("br0.link", "br0.netdev", "br0.network", "eth0.network")
    ]
    assert texts[f"{ETC}/00-1-tapbridge-br0.network"] == "[Match]\nName=br0\n[Network]\nDHCP=ipv4\n"
    assert f"PermanentMACAddress={PERMANENT}" in texts[f"{ETC}/00-1-tapbridge-eth0.network"]
    assert f"Alias=tapbridge uplink={PERMANENT} nic=eth0" in texts[f"{ETC}/00-1-tapbridge-br0.link"]
    generated = port_file("eth0", "br0", "/run/systemd/network/10-netplan-eth0.network")
    (told,) = NETWORKD_KEEPER.form(networkd(**{f"{RUN}-eth0.network": generated})).findings
    assert (told.code, told.message.partition(" ")[0]) == ("other-author", "netplan")
    with pytest.raises(Refused, match=f"{ETC}/00-0-first.network would count before"):
        NETWORKD_KEEPER.form(networkd(**{f"{ETC}/00-0-first.network": ""}))
    with pytest.raises(Refused, match="not hold the bridge by a file of ours"):
        NETWORKD_KEEPER.form(scene("systemd-networkd", held_by="/etc/x.network"))


def test_after_a_boot_networkd_gets_its_files_of_now_again() -> None:
    form = NETWORKD_KEEPER.form(networkd())
    files = tuple(Written(before=File(path=file.path), after=file) for file in form.files)
    saved = Permanent(bridge=BR0, nic=ETH0, keeper="systemd-networkd", files=files)
    assert NETWORKD_KEEPER.take_back(networkd(), saved) == ()
    booted = scene("systemd-networkd", held_by=f"{ETC}/00-1-tapbridge-br0.network")
    bridge, port, reload, wait = NETWORKD_KEEPER.take_back(booted, saved)
    before = networkd()
    assert [(x.path, x.content) for x in (bridge, port)] == [  # type: ignore[union-attr]
        (path, before.read(path)) for path in (f"{RUN}-br0.network", f"{RUN}-eth0.network")
    ]
    assert [type(x).__name__ for x in (reload, wait)] == ["ReloadClient", "AwaitClient"]


def test_what_brings_a_bridge_through_netplan_apply_is_saved_with_the_profiles() -> None:
    path = "/systemd/system/NetworkManager.service.d/tapbridge-br0.conf"
    one = networkmanager({f"/run{path}": "[Service]\n"})
    form = NETWORKMANAGER_KEEPER.form(one)
    assert form.files[2] == File(path=f"/etc{path}", content="[Service]\n")
    assert [finding.code for finding in form.findings] == ["other-author"]
    files = tuple(Written(before=File(path=file.path), after=file) for file in form.files)
    permanent = Permanent(bridge=BR0, nic=ETH0, keeper="NetworkManager", files=files)
    booted = scene("NetworkManager", held_by="/etc/NetworkManager/system-connections/tapbridge-br0.nmconnection")
    again = NETWORKMANAGER_KEEPER.take_back(booted, permanent)
    assert [step.path for step in again] == [f"{NM}.nmconnection", f"{NM}-port.nmconnection", f"/run{path}"]
    assert [step.mode for step in again] == [0o600, 0o600, 0o644]
    assert NETWORKMANAGER_KEEPER.take_back(one, permanent) == ()


def test_networkmanager_s_profiles_are_those_of_now_and_a_secret_of_root_s() -> None:
    one = networkmanager(ask=lambda *_, text: text)
    form = NETWORKMANAGER_KEEPER.form(one)
    assert [(file.path, file.mode) for file in form.files] == [
        ("/etc/NetworkManager/system-connections/tapbridge-br0.nmconnection", 0o600),
        ("/etc/NetworkManager/system-connections/tapbridge-br0-port.nmconnection", 0o600),
        (f"{ETC}/00-1-tapbridge-br0.link", 0o644),
    ]
    assert form.outlook == Outlook(
        addresses=frozenset(("192.0.2.7/24",)), gateways=frozenset(("192.0.2.1",)), asked=frozenset((6,))
    )
    assert NETWORKMANAGER_KEEPER.check(one, form) == ()
    rival = {"/etc/NetworkManager/system-connections/mine": "[connection]\nautoconnect-priority=999\n"}
    with pytest.raises(Refused, match="highest priority"):
        NETWORKMANAGER_KEEPER.form(networkmanager(rival))


def test_a_unit_makes_what_is_there_for_good_by_the_commands_of_a_user() -> None:
    one = scene()
    addresses = (
        Address(link=BR0, family=4, ip="192.0.2.7", prefix=24),
        Address(link=BR0, family=6, ip="2001:db8::7", prefix=64, valid_lft=60, preferred_lft=60),
    )
    routes = (
        Route(family=4, dst="192.0.2.0/24", protocol=PROTO_KERNEL, nexthops=(Nexthop(link=BR0),)),
        Route(family=4, dst="0.0.0.0/0", nexthops=(Nexthop(link=BR0, gateway="192.0.2.1"),)),
    )
    state = replace(one.state, addresses=addresses, routes=routes)
    assert choose_keeper(one, "systemd") is SYSTEMD_KEEPER
    unit, pulled = SYSTEMD_KEEPER.form(replace(one, state=state)).files
    lines = (unit.content or "").splitlines()
    assert unit.path == "/etc/systemd/system/tapbridge-br0.service"
    assert "Before=network-pre.target dhcpcd.service shutdown.target" in lines
    assert "ConditionPathExists=!/run/tapbridge/br0.held-back" in lines
    assert [line.removeprefix("ExecStart=") for line in lines if line.startswith("ExecStart=")] == [
        f"ip link add br0 address {MAC} type bridge stp_state 0 mcast_snooping 0 forward_delay 1500",
        f"ip link set br0 alias 'tapbridge uplink={PERMANENT} nic=eth0'",
        *("ip link set eth0 addrgenmode none", "ip link set eth0 master br0", "ip link set eth0 up"),
        *("ip link set br0 up", "ip address flush dev eth0", "ip -4 address replace 192.0.2.7/24 dev br0 scope global"),
        "ip -4 route append default table 254 proto 3 scope global via 192.0.2.1 dev br0",
    ]
    assert pulled.content == "# Written by tapbridge save.\n[Unit]\nWants=tapbridge-br0.service\n"
    assert pulled.path == "/etc/systemd/system/multi-user.target.d/tapbridge-br0.conf"
    with pytest.raises(Refused, match="dhclient holds it"):
        SYSTEMD_KEEPER.form(scene("dhclient"))


def test_dhcpcd_is_told_of_the_bridge_where_a_boot_starts_it() -> None:
    started = {"/etc/systemd/system/multi-user.target.wants/dhcpcd.service": ""}
    one = scene("dhcpcd", {"/etc/dhcpcd.conf": "interface eth0\nmetric 5", **started})
    assert choose_keeper(one, None) is DHCPCD_KEEPER
    unit, _, configuration = DHCPCD_KEEPER.form(one).files
    assert "address replace" not in (unit.content or "")
    assert configuration.content == "denyinterfaces eth0 tbkeep* tbpeer*\ninterface br0\nmetric 5\n"
    with pytest.raises(Refused, match="how a boot starts that is not known"):
        choose_keeper(scene("dhcpcd"), None)
    with pytest.raises(Refused, match=r"no boot starts dhcpcd\.service"):
        DHCPCD_KEEPER.form(scene("dhcpcd"))


@pytest.mark.parametrize(
    ("keeper", "one", "names"),
    [
        (NETWORKD_KEEPER, networkd(), ["/run/systemd/network/00-1-tapbridge-br0.netdev.d/held-back.conf"]),
        (NETWORKMANAGER_KEEPER, networkmanager(), [f"/run/NetworkManager/system-connections/{UUID}.nmmeta"]),
        (IFUPDOWN, ifupdown(), []),
        (IFUPDOWN_NG, ifupdown_ng(), []),
        (SYSTEMD_KEEPER, scene(), ["/run/tapbridge/br0.held-back"]),
    ],
)
def test_a_keeper_knows_what_holds_its_files_back(keeper: Keeper, one: Scene, names: list[str]) -> None:
    files = tuple(Written(before=File(path=file.path), after=file) for file in keeper.form(one).files)
    saved = Permanent(bridge=BR0, nic=ETH0, keeper=keeper.name, files=files)
    assert list(keeper.held_back_by(saved)[:1]) == names


@pytest.mark.parametrize(
    ("said", "told"),
    [(PROFILE.replace("address1", "route1"), "reads another profile"), (HostError("no"), "no; nothing")],
)
def test_what_nmcli_reads_otherwise_is_not_written(said: str | HostError, told: str) -> None:
    def ask(*_: str, text: str) -> str:
        if isinstance(said, HostError):
            raise said
        return said

    one = networkmanager(ask=ask)
    with pytest.raises(Refused, match=told):
        NETWORKMANAGER_KEEPER.check(one, NETWORKMANAGER_KEEPER.form(one))


@pytest.mark.parametrize("said", ["bridge_ports: eth1\nbridge_hw: 02:00:00:00:01:02\nbridge_stp: off\n", ""])
def test_what_ifquery_reads_otherwise_is_not_written(said: str) -> None:
    one = ifupdown(ask=lambda *_, text: said)
    with pytest.raises(Refused, match="ifquery reads no"):
        IFUPDOWN.check(one, IFUPDOWN.form(one))


def test_ifupdown_ng_has_the_bridge_in_its_own_words_and_in_its_memory() -> None:
    lan = "/etc/network/interfaces.d/lan.conf"
    state = "/run/ifstate"
    more = {lan: INTERFACES, state: "eth0=eth0 1 explicit\n"}
    one = ifupdown_ng("source-directory interfaces.d\n", lambda *_, text: text, more)
    form = IFUPDOWN_NG.form(one)
    (file,) = form.files
    assert (file.path, form.findings) == (lan, ())
    assert "    bridge-ports eth0\n" in (file.content or "")
    assert [(step.path, step.content) for step in form.live] == [(state, "eth0=eth0 2\nbr0=br0 1 explicit\n")]
    assert IFUPDOWN_NG.check(one, form) == ()
    saved = Permanent(bridge=BR0, nic=ETH0, keeper="ifupdown-ng", files=())
    after = ifupdown_ng(more={**more, state: form.live[0].content or ""})
    (step,) = IFUPDOWN_NG.take_back(after, saved)
    assert isinstance(step, WriteFile)
    assert step.content == more[state]
    assert IFUPDOWN_NG.forget(after.read, saved) == (step,), "so it is where the bridge is down already"
    assert IFUPDOWN_NG.take_back(one, saved) == ()
    (told,) = IFUPDOWN_NG.form(ifupdown_ng("auto lo eth0\niface eth0\n use dhcp\n")).findings
    assert told.code == "not-started-at-boot"


def test_what_ifupdown_ng_cannot_do_is_refused() -> None:
    with pytest.raises(Refused, match="it is ifupdown-ng that is installed here"):
        IFUPDOWN.form(ifupdown_ng())
    with pytest.raises(Refused, match="has no stanza for eth0"):
        IFUPDOWN_NG.form(ifupdown_ng("iface eth0\n"))
    with pytest.raises(Refused, match="or no /usr/libexec/ifupdown-ng"):
        IFUPDOWN_NG.form(ifupdown())
    with pytest.raises(Refused, match="there is no /usr/libexec/ifupdown-ng/bridge"):
        IFUPDOWN_NG.form(scene(files={"/usr/libexec/ifupdown-ng/link": ""}))
    beside = ifupdown_ng(more={"/usr/lib/ifupdown/settle-dad.sh": ""})
    assert choose_keeper(beside, None) is IFUPDOWN, "Debian 13 has both beside each other, the other by ifup-ng"
    one = ifupdown_ng(ask=lambda *_, text: text.replace("bridge-ports", "bridge_ports"))
    with pytest.raises(Refused, match="ifquery reads no 'bridge-ports eth0'"):
        IFUPDOWN_NG.check(one, IFUPDOWN_NG.form(one))


def absent(*words: str, text: str) -> str:
    raise HostError(f"{words[0]} cannot be started", errno=errno.ENOENT)


@pytest.mark.parametrize("make", [ifupdown, ifupdown_ng, networkmanager])
def test_what_nobody_could_check_is_told(make: Callable[..., Scene]) -> None:
    one = make(ask=absent)
    keeper = choose_keeper(one, None)
    assert [finding.code for finding in keeper.check(one, keeper.form(one))] == ["not-checked"]
    assert [finding.code for finding in NETWORKD_KEEPER.check(networkd(), Form(files=()))] == ["not-checked"]


@given(st.text(max_size=16) | st.from_regex(r"[ -~\n]{1,15}", fullmatch=True))
def test_no_name_adds_a_line_or_a_key(name: str) -> None:
    try:
        require_plain(IfName(name))
    except Refused:
        return
    one = scene()
    assert len(list(settings(netdev_file(name, MAC)))) == len(list(settings(netdev_file("br0", MAC))))
    ports = [saved_port_file(x, x, "/etc/a.network", f"Name={x}", "") for x in (name, "eth0")]
    assert len(list(settings(ports[0]))) == len(list(settings(ports[1])))
    assert len(list(settings(mark_file(one).content or ""))) == 4
    texts = [bridged(f"auto {x}\niface {x} inet dhcp\n", x, "br0", MAC, f"tapbridge nic={x}") for x in (name, "eth0")]
    assert [len(x.words) for x in statements(texts[0])] == [len(x.words) for x in statements(texts[1])]


def test_a_difference_to_now_is_told() -> None:
    mine = [
        Address(link=BR0, family=4, ip="192.0.2.7", prefix=24),
        Address(link=BR0, family=4, ip="192.0.2.8", prefix=24),
    ]
    leased = Address(link=BR0, family=4, ip="192.0.2.9", prefix=24, valid_lft=60, preferred_lft=60)
    told = Route(family=4, dst="0.0.0.0/0", protocol=PROTO_STATIC, nexthops=(Nexthop(link=BR0, gateway="192.0.2.1"),))
    state = State(addresses=(*mine, leased), routes=(told,))
    outlook = Outlook(addresses=frozenset(("192.0.2.7/24", "192.0.2.5/24")), gateways=frozenset(("192.0.2.3",)))
    messages = [finding.message.partition(",")[0] for finding in differences(outlook, state, BR0)]
    assert messages == [
        "192.0.2.8/24 is on br0 now",
        "192.0.2.9/24 is on br0 now",
        "192.0.2.5/24 would be on br0 after a reboot",
        "the default route by 192.0.2.1 is there now",
        "a default route by 192.0.2.3 would be there after a reboot",
    ]
    asked = Outlook(addresses=outlook.addresses, asked=frozenset((4,)), words=frozenset(("192.0.2.8",)))
    assert [f.message.partition(",")[0] for f in differences(asked, state, BR0)] == [messages[2]]
