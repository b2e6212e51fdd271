"""Who is found to hold a link, what is refused, and what the steps are."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tapbridge.model.errors import Exit, Refused
from tapbridge.model.noun import replace
from tapbridge.model.state import PERMANENT, Address, Client, LeaseFile, Link, State
from tapbridge.model.step import PutAddress, StartClient, StopClient, WriteFile
from tapbridge.model.values import IfName
from tapbridge.owners.dhcpcd_files import manage, origin_of, with_origin
from tapbridge.owners.owner import Read
from tapbridge.owners.table import find_owner, hand_over

NIC, BRIDGE = IfName("eth0"), IfName("br0")
LEASES = "/var/lib/dhcp/dhclient.eth0.leases"
LEASE = 'default-duid "\\001x";\nlease {\n  interface "eth0";\n  fixed-address 192.0.2.50;\n}\n'
IFUPDOWN = ("/sbin/dhclient", "-4", "-v", "-i", "-pf", "/run/dhclient.eth0.pid", "-lf", LEASES, "-I",
            "-df", "/var/lib/dhcp/dhclient6.eth0.leases", "eth0")  # fmt: skip


def client(program: str = "dhclient", link: str | None = "eth0", pid: int = 7, *, argv: tuple[str, ...] = (),
           files: tuple[str, ...] = (), environment: tuple[str, ...] = ()) -> Client:  # fmt: skip
    return Client(
        link=None if link is None else IfName(link),
        program=program,
        pid=pid,
        argv=argv or (program, *([link] if link else [])),
        environment=environment,
        files=tuple(LeaseFile(path=path, sha256="") for path in files),
    )


def host(*clients: Client, addresses: tuple[Address, ...] = ()) -> State:
    links = (Link(name=NIC, index=2), Link(name=BRIDGE, index=3, kind="bridge"))
    return State(links=links, addresses=addresses, clients=clients)


def reading(found: Mapping[str, str]) -> Read:
    return found.get


def handed_over(now: Client, source: IfName, target: IfName, disk: dict[str, str | None]) -> Client:
    """The client after its hand-over from one link to the other; what is written goes to `disk`."""
    state = host(now)
    handed = hand_over(find_owner(state, source), state, source, target, read=disk.get)
    for step in (*handed.before, *handed.after):
        if isinstance(step, WriteFile):
            disk[step.path] = step.content
        elif isinstance(step, StartClient):
            now = step.client
    return now


LEASED = Address(link=NIC, family=4, ip="192.0.2.50", prefix=24, valid_lft=300, preferred_lft=300, flags=0)


def test_nobody_holds_a_bare_link() -> None:
    assert find_owner(host(client(link="eth1")), NIC) is None
    assert hand_over(None, host(), NIC, BRIDGE, read=reading({})).before == ()


@pytest.mark.parametrize(
    ("clients", "name", "proof"),
    [
        ((client(files=(LEASES,)),), "dhclient", f"dhclient (PID 7) holds the lease of eth0, see {LEASES}"),
        ((client("dhcpcd"),), "dhcpcd", "dhcpcd (PID 7) holds the lease of eth0"),
        ((client("dhcpcd", None),), "dhcpcd", "dhcpcd (PID 7) runs and may configure any link"),
        ((client("udhcpc"),), "udhcpc", "udhcpc (PID 7) holds the lease of eth0"),
        ((client("systemd-networkd"),), "systemd-networkd", "systemd-networkd (PID 7) manages eth0"),
        ((client("NetworkManager"), client()), "NetworkManager", "NetworkManager (PID 7) manages eth0"),
        (
            (client(argv=("dhclient", "-sf", "/usr/libexec/nm-dhcp-helper", "eth0")),),
            "NetworkManager",
            "dhclient (PID 7) manages eth0",
        ),
        (
            (client("systemd-networkd", files=("/run/systemd/network/10-netplan-eth0.network",)),),
            "netplan (systemd-networkd)",
            "systemd-networkd (PID 7) manages eth0, see /run/systemd/network/10-netplan-eth0.network",
        ),
        ((client("connman", None),), "connman", "connman (PID 7) runs and may configure any link"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else "",
)
def test_an_owner_is_named_with_its_proof(clients: tuple[Client, ...], name: str, proof: str) -> None:
    owner = find_owner(host(*clients), NIC)
    assert owner is not None
    assert (owner.name, owner.proof) == (name, proof)


UNBUILT = ["systemd-networkd", "connman", "wicked", "netifd"]


@pytest.mark.parametrize("program", UNBUILT)
def test_what_is_not_built_is_refused_and_can_be_forced(program: str) -> None:
    state = host(client(program))
    owner = find_owner(state, NIC)
    with pytest.raises(Refused) as refused:
        hand_over(owner, state, NIC, BRIDGE, read=reading({}))
    assert refused.value.exit is Exit.REFUSED
    assert program in refused.value.message
    assert refused.value.hint is not None
    assert "--force" in refused.value.hint
    assert "{" not in refused.value.hint
    forced = hand_over(owner, state, NIC, BRIDGE, read=reading({}), force=True)
    assert (forced.before, forced.after) == ((), ())
    assert [risk.code for risk in forced.risks] == ["owner-left-alone"]


@pytest.mark.parametrize("program", [*UNBUILT, "dhcpcd"])
def test_nobody_is_kept_from_the_way_back(program: str) -> None:
    state = host(client(program, "br0", argv=(f"{program}: br0",)))
    handed = hand_over(find_owner(state, BRIDGE), state, BRIDGE, NIC, read=reading({}))
    assert [risk.code for risk in handed.risks] == ["owner-left-alone"]
    assert find_owner(host(client(program, None)), BRIDGE) is None, "who may hold any NIC does not hold our bridge"


def test_dhclient_goes_with_all_that_has_the_links_name_and_keeps_its_identity() -> None:
    state = host(client(argv=IFUPDOWN, files=(LEASES,)), addresses=(LEASED,))
    handed = hand_over(find_owner(state, NIC), state, NIC, BRIDGE, read=reading({LEASES: LEASE}))
    assert handed.before == (StopClient(client=state.clients[0]),)
    path = "/var/lib/dhcp/dhclient.br0.leases"
    assert handed.after[:2] == (
        WriteFile(path=path, content=LEASE.replace("eth0", "br0")),
        WriteFile(path="/run/dhclient.eth0.pid", content=None),
    )
    (start,) = (step for step in handed.after if isinstance(step, StartClient))
    assert start.client.argv == ("/sbin/dhclient", "-4", "-v", "-i", "-pf", "/run/dhclient.br0.pid", "-lf", path, "-I",
                                 "-df", "/var/lib/dhcp/dhclient6.eth0.leases", "br0")  # fmt: skip
    assert (start.client.link, start.client.pid) == ("br0", 0)
    assert handed.risks == ()


@pytest.mark.parametrize(
    "argv",
    [
        IFUPDOWN,
        ("dhclient", "-lf", "/srv/br0-site/eth0.leases", "eth0"),
        ("dhclient", "-cf", "/etc/own.conf", "-lf", "/x/leases", "eth0"),
        ("dhclient", "eth0", "-e", "IF=eth0", "-H", "eth0"),
    ],
)
@pytest.mark.parametrize("configuration", ["", 'interface "eth0" { send host-name "me"; }'])
def test_there_and_back_is_the_same_client(argv: tuple[str, ...], configuration: str) -> None:
    path = argv[argv.index("-lf") + 1] if "-lf" in argv else "/var/lib/dhcp/dhclient.leases"
    before = client(argv=argv, files=(path,), environment=("PATH=/sbin", "PATH_DHCLIENT_PID=/run/a.eth0.pid"))
    disk: dict[str, str | None] = {
        path: LEASE,
        "/etc/own.conf": configuration,
        "/etc/dhcp/dhclient.conf": configuration,
    }
    original = dict(disk)
    now = before
    for source, target in ((NIC, BRIDGE), (BRIDGE, NIC)):
        now = handed_over(now, source, target, disk)
        lease = next(p for p, text in disk.items() if text and f'interface "{target}"' in text and "fixed" in text)
        now = replace(now, pid=9, files=(LeaseFile(path=lease, sha256=""),))
    assert (now.argv, now.environment, now.link) == (before.argv, before.environment, before.link)
    assert {path: text for path, text in disk.items() if text is not None} == original


UDHCPC = ("/bin/busybox", "udhcpc", "-i", "eth0", "-p", "/run/udhcpc.eth0.pid", "-n", "-x", "hostname:eth0")
DHCPCD = ("/usr/sbin/dhcpcd", "-4", "-h", "eth0", "eth0")
DHCPCD_LEASE = "/var/lib/dhcpcd/eth0.lease"


def test_udhcpc_goes_with_its_pid_file() -> None:
    state = host(client("udhcpc", argv=UDHCPC))
    handed = hand_over(find_owner(state, NIC), state, NIC, BRIDGE, read=reading({}))
    assert handed.before == (StopClient(client=state.clients[0]),)
    *forgotten, start = handed.after
    assert forgotten == [WriteFile(path=f"/run/udhcpc.{link}.pid", content=None) for link in ("eth0", "br0")]
    assert isinstance(start, StartClient)
    assert start.client.argv == tuple(" ".join(UDHCPC).replace(" eth0", " br0").replace(".eth0.", ".br0.").split())
    assert (start.client.link, start.client.pid, handed.risks) == ("br0", 0, ())


def test_dhcpcd_goes_with_its_lease_and_with_what_its_configuration_says_of_the_link() -> None:
    state = host(client("dhcpcd", argv=DHCPCD, files=(DHCPCD_LEASE,)))
    disk = {DHCPCD_LEASE: "\0\udcff", "/etc/dhcpcd.conf": "duid\ninterface eth0\niaid 7\n"}
    handed = hand_over(find_owner(state, NIC), state, NIC, BRIDGE, read=disk.get)
    assert handed.before == (StopClient(client=state.clients[0]),)
    lease, conf, start = handed.after
    assert lease == WriteFile(path="/var/lib/dhcpcd/br0.lease", content="\0\udcff", mode=0o640)
    assert isinstance(conf, WriteFile)
    assert conf.path == "/run/dhcpcd.br0.conf"
    assert conf.content is not None
    assert "interface br0\niaid 7" in conf.content
    assert isinstance(start, StartClient)
    assert start.client.argv == ("/usr/sbin/dhcpcd", "-f", conf.path, "-4", "-h", "eth0", "br0")
    assert handed.risks == ()


@pytest.mark.parametrize("program", ["udhcpc", "dhcpcd"])
@pytest.mark.parametrize("words", [(), ("-f", "/etc/own.conf")])
@pytest.mark.parametrize("configuration", ["duid\n", "interface eth0\nmetric 7\n", "denyinterfaces br*\n"])
def test_there_and_back_is_the_same_again(program: str, words: tuple[str, ...], configuration: str) -> None:
    argv = UDHCPC if program == "udhcpc" else (DHCPCD[0], *words, *DHCPCD[1:])
    before = client(program, argv=argv, files=() if program == "udhcpc" else (DHCPCD_LEASE,))
    disk: dict[str, str | None] = {
        DHCPCD_LEASE: "lease",
        "/etc/dhcpcd.conf": configuration,
        "/etc/own.conf": configuration,
    }
    original = dict(disk)
    now = before
    for source, target in ((NIC, BRIDGE), (BRIDGE, NIC)):
        now = handed_over(now, source, target, disk)
        leases = tuple(replace(file, path=file.path.replace(NIC, target)) for file in before.files)
        now = replace(now, pid=9, files=leases)
    assert (now.argv, now.link) == (before.argv, before.link)
    assert {path: text for path, text in disk.items() if text is not None} == original


def test_a_dhcpcd_that_chooses_its_links_is_told_which() -> None:
    state = host(client("dhcpcd", argv=("/usr/sbin/dhcpcd", "-q"), files=(DHCPCD_LEASE,)))
    handed = hand_over(find_owner(state, NIC), state, NIC, BRIDGE, read={"/etc/dhcpcd.conf": "duid\n"}.get)
    (text,) = (step.content for step in handed.after if isinstance(step, WriteFile) and step.path.endswith(".conf"))
    assert text is not None
    assert text.splitlines()[1:] == ["denyinterfaces eth0 tbkeep* tbpeer*", "duid", "interface br0"]


@pytest.mark.parametrize("booted", [False, True])
def test_dhcpcd_has_the_nic_again_by_a_copy_as_long_as_its_configuration_names_the_saved_bridge(booted: bool) -> None:
    own, copy = "/run/dhcpcd.br0.conf", "/run/dhcpcd.eth0.conf"
    words = ("/usr/sbin/dhcpcd", "-q") if booted else ("/usr/sbin/dhcpcd", "-f", own, "-q")
    saved = manage("interface br0\nmetric 5\n", "eth0", "br0")
    unit = "/etc/systemd/system/tapbridge-br0.service"
    disk = {"/etc/dhcpcd.conf": saved, own: with_origin(saved, None), unit: ""}
    state = host(replace(client("dhcpcd", argv=words), link=BRIDGE))
    handed = hand_over(find_owner(state, BRIDGE), state, BRIDGE, NIC, read=disk.get)
    files = {step.path: step.content for step in handed.after if isinstance(step, WriteFile)}
    (start,) = (step for step in handed.after if isinstance(step, StartClient))
    assert start.client.argv == ("/usr/sbin/dhcpcd", "-f", copy, "-q")
    text = files[copy] or ""
    assert "interface eth0\nmetric 5\n" in text
    assert "denyinterfaces eth0" not in text
    assert files.keys() == {copy, "/run/tapbridge/br0.held-back", *([] if booted else [own])}

    state = host(client("dhcpcd", argv=start.client.argv))
    disk[copy] = text
    there = hand_over(find_owner(state, NIC), state, NIC, BRIDGE, read=disk.get)
    files = {step.path: step.content for step in there.after if isinstance(step, WriteFile)}
    assert files.keys() == {copy, own}
    assert (files[copy], origin_of(files[own] or "")) == (None, None)
    assert "interface br0\nmetric 5\n" in (files[own] or "")


def test_dhcpcd_s_own_service_starts_it_by_the_words_of_now_until_it_is_back() -> None:
    place = "/run/systemd/system/dhcpcd.service.d/tapbridge.conf"
    before = replace(client("dhcpcd", argv=("/usr/sbin/dhcpcd", "-q")), cgroup="/system.slice/dhcpcd.service")
    disk: dict[str, str | None] = {"/etc/dhcpcd.conf": ""}
    now = handed_over(before, NIC, BRIDGE, disk)
    assert (disk[place] or "").splitlines()[1:] == [
        "[Service]",
        "ExecStart=",
        "ExecStart=/usr/sbin/dhcpcd -b -f /run/dhcpcd.br0.conf -q",
    ]
    now = handed_over(now, BRIDGE, NIC, disk)
    assert (now.argv, disk[place]) == (before.argv, None)


@pytest.mark.parametrize(
    ("words", "unit"),
    [(("-q", "-h", "me & mine"), "dhcpcd.service"), (("-q", "-h", "$me"), "dhcpcd.service"), (("-q",), "own.service")],
)
def test_words_that_a_unit_would_read_otherwise_and_other_units_are_left_alone(
    words: tuple[str, ...], unit: str
) -> None:
    disk: dict[str, str | None] = {"/etc/dhcpcd.conf": ""}
    one = replace(client("dhcpcd", argv=("/usr/sbin/dhcpcd", *words)), cgroup=f"/system.slice/{unit}")
    handed_over(one, NIC, BRIDGE, disk)
    assert [path for path in disk if path.startswith("/run/systemd")] == []


def test_dhcpcd_without_a_lease_is_a_risk() -> None:
    state = host(client("dhcpcd", argv=DHCPCD))
    handed = hand_over(find_owner(state, NIC), state, NIC, BRIDGE, read=reading({}))
    assert [risk.code for risk in handed.risks] == ["lease-not-found"]


def test_under_the_same_name_only_the_process_changes() -> None:
    state = host(client(argv=IFUPDOWN, files=(LEASES,)))
    handed = hand_over(find_owner(state, NIC), state, NIC, NIC, read=reading({}))
    assert handed.before == (StopClient(client=state.clients[0]),)
    assert handed.after == (StartClient(client=replace(state.clients[0], pid=0)),)


def test_a_lease_file_without_the_links_name_stays_in_place_and_serves_both() -> None:
    path = "/var/lib/dhcp/dhclient.leases"
    state = host(client(argv=("dhclient", "eth0"), files=(path,)))
    handed = hand_over(find_owner(state, NIC), state, NIC, BRIDGE, read=reading({path: LEASE}))
    (written,) = (step for step in handed.after if isinstance(step, WriteFile) and step.content is not None)
    assert written.path == path
    assert written.content is not None
    assert written.content.count('interface "eth0"') == written.content.count('interface "br0"') == 1


def test_ipv4_and_dhcpv6_go_together_and_permanent_addresses_come_back() -> None:
    """PREINIT6 of dhclient-script takes the permanent global IPv6 addresses away."""
    fixed = Address(link=NIC, family=6, ip="2001:db8::7", prefix=64, flags=PERMANENT)
    passing = Address(link=NIC, family=6, ip="2001:db8::8", prefix=64, flags=0, valid_lft=300)
    local = Address(link=NIC, family=6, ip="fe80::7", prefix=64, flags=PERMANENT, scope=253)
    six = client(pid=8, argv=("dhclient", "-6", "eth0"), files=("/x/six.leases",))
    state = host(client(argv=IFUPDOWN, files=(LEASES,)), six, addresses=(fixed, passing, local))
    handed = hand_over(find_owner(state, NIC), state, NIC, BRIDGE, read=reading({LEASES: LEASE}))
    assert [step.client.pid for step in handed.before if isinstance(step, StopClient)] == [7, 8]
    starts = [step for step in handed.after if isinstance(step, StartClient)]
    assert [start.client.argv[1] for start in starts] == ["-4", "-6"]
    again = [step for step in handed.after if isinstance(step, PutAddress)]
    assert {step.address.ip for step in again} == {"2001:db8::7"}
    assert {step.address.link for step in again} == {BRIDGE}
    assert handed.after.index(again[0]) > handed.after.index(starts[1])


BOTH = ("dhclient", "eth0", "eth1")
REFUSED = {
    "several links": ((client(argv=BOTH), client(link="eth1", argv=BOTH)), "the same process serves eth1"),
    "any link": ((client(link=None),), "does not say which links"),
    "two for IPv4": ((client(pid=7), client(pid=8)), "two of them"),
    "a manager that is silent": ((client("dhcpcd", None, argv=("dhcpcd", "-q")),), "does not say which links"),
    "a title": ((client("dhcpcd", argv=("dhcpcd: eth0 [ip4]",)),), "command line cannot be read"),
    "udhcpc6": ((client("udhcpc", argv=("udhcpc6", "-i", "eth0")),), "udhcpc6 is not built"),
    "two udhcpc": ((client("udhcpc", pid=7), client("udhcpc", pid=8)), "several of them"),
    "a path from a folder": ((client("udhcpc", argv=("udhcpc", "-s", "./own")),), "./own is a path"),
    "a file system of its own": ((client(files=("/proc/7/root/x.leases",)),), "file system of its own"),
}  # fmt: skip


@pytest.mark.parametrize(("clients", "why"), REFUSED.values(), ids=REFUSED.keys())
def test_a_client_that_cannot_be_replaced_is_refused(clients: tuple[Client, ...], why: str) -> None:
    state = host(*clients)
    with pytest.raises(Refused, match=why) as refused:
        hand_over(find_owner(state, NIC), state, NIC, BRIDGE, read=reading({}))
    assert (refused.value.code, refused.value.subject) == ("owner-holds-nic", "eth0")


def test_an_address_that_is_not_in_the_lease_file_is_a_risk() -> None:
    state = host(client(argv=IFUPDOWN, files=(LEASES,)), addresses=(replace(LEASED, ip="192.0.2.51"),))
    handed = hand_over(find_owner(state, NIC), state, NIC, BRIDGE, read=reading({LEASES: LEASE}))
    assert [risk.code for risk in handed.risks] == ["lease-not-found"]
    without = host(client(argv=IFUPDOWN))
    handed = hand_over(find_owner(without, NIC), without, NIC, BRIDGE, read=reading({}))
    assert [risk.code for risk in handed.risks] == ["lease-not-found"]


@pytest.mark.parametrize(
    ("found", "stale"),
    [
        ({"/run/network/ifstate": "lo=lo\neth0=eth0\n"}, True),
        ({"/run/network/ifstate.eth0": "eth0=home\n"}, True),
        ({"/run/ifstate": "lo=lo 1 explicit\neth0=eth0 1 explicit\n"}, True),
        ({"/etc/network/interfaces": "auto eth0\niface eth0 inet dhcp\n"}, True),
        ({"/run/network/ifstate": "eth1=eth1\n", "/etc/network/interfaces": "iface eth1 inet dhcp\n"}, False),
        ({}, False),
    ],
)
def test_the_files_of_ifupdown_are_stale_after_a_move(found: dict[str, str], stale: bool) -> None:
    handed = hand_over(None, host(), NIC, BRIDGE, read=reading(found))
    assert [risk.code for risk in handed.risks] == ["owner-files-stale"] * stale
    assert hand_over(None, host(), NIC, NIC, read=reading(found)).risks == (), "the name is still true"
    assert hand_over(None, host(), BRIDGE, NIC, read=reading(found)).risks == (), "and on the way back it is again"
