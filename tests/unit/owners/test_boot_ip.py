"""What a boot makes of a NIC by `ip=` on the kernel's command line, and what is told of that."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapbridge.model.errors import Refused
from tapbridge.model.state import Address, Link, State
from tapbridge.model.values import IfName, Mac
from tapbridge.owners.boot_ip import find_boot_address
from tapbridge.owners.keep_ifupdown import IFUPDOWN
from tapbridge.owners.keep_unit import SYSTEMD_KEEPER
from tapbridge.owners.keeper import Scene
from tapbridge.owners.keepers import choose_keeper, competitors
from tapbridge.owners.owner import nobody
from tapbridge.owners.table import find_owner, hand_over

NIC, BRIDGE = IfName("eth0"), IfName("br0")
MAC = Mac("52:54:00:12:34:56")
STATIC = "ip=192.0.2.7::192.0.2.1:255.255.255.0:host:eth0:off"
REPORT = "DEVICE='eth0'\nPROTO='dhcp'\nIPV4ADDR='192.0.2.7'\nIPV4GATEWAY='192.0.2.1'\nDHCPLEASETIME='300'\n"


def host(*ips: str, valid_lft: int | None = None) -> State:
    addresses = tuple(
        Address(link=NIC, family=6 if ":" in ip else 4, ip=ip, prefix=24, valid_lft=valid_lft) for ip in ips
    )
    return State(links=(Link(name=NIC, index=2),), addresses=addresses)


def found(words: str, *ips: str, report: str = "", container: bool = False, valid_lft: int | None = None) -> str | None:
    """The word by which the NIC is configured, and whether its address was lent, as one text."""
    disk = {"/proc/cmdline": f"root=/dev/vda1 {words} quiet\n"}
    disk |= {"/run/net-eth0.conf": report} if report else {}
    disk |= {"/run/systemd/container": "lxc\n"} if container else {}
    one = find_boot_address(disk.get, host(*(ips or ("192.0.2.7",)), valid_lft=valid_lft), NIC, NIC)
    return None if one is None else f"{one.word} {'lent' if one.leased else 'static'}"


@pytest.mark.parametrize(
    ("word", "how"),
    [
        (STATIC, "static"),
        ("ip=192.0.2.7", "static"),
        ("ip=192.0.2.7::192.0.2.1:255.255.255.0", "static"),
        ("ip=192.0.2.7:192.0.2.1:192.0.2.1:255.255.255.0:host::none", "static"),
        ("nfsaddrs=192.0.2.7:192.0.2.1:192.0.2.1:255.255.255.0:host:eth0:off:192.0.2.1::", "static"),
        ("ip=dhcp", "lent"),
        ("ip=on", "lent"),
        ("ip=:::::eth0:dhcp", "lent"),
        ("ip=:::::eth0", "lent"),
        ("ip=::::host::any", "lent"),
        ("ip=eth0:dhcp", "lent"),
        ("ip=eth0:dhcp:1500", "lent"),
    ],
)
def test_a_word_for_the_nic(word: str, how: str) -> None:
    assert found(word) == f"{word} {how}"


@pytest.mark.parametrize(
    "word",
    [
        "",
        "ip=off",
        "ip=none",
        "ip=",
        "ip=what",
        "ip=:::::eth0:off",
        "ip=192.0.2.8::192.0.2.1:255.255.255.0:host:eth0:off",
        "ip=192.0.2.7::192.0.2.1:255.255.255.0:host:eth1:off",
        "ip=eth1:dhcp",
        "ip=eth0:off",
        "ipv6.disable=1",
        "zip=dhcp",
        "-- ip=dhcp",
    ],
)
def test_a_word_for_nobody_or_another(word: str) -> None:
    assert found(word) is None


def test_ipv6_is_in_brackets() -> None:
    word = "ip=[2001:db8::7]::[2001:db8::1]:64:host:eth0:none"
    assert found(word, "2001:db8::7") == f"{word} static"
    assert found(word) is None


def test_of_several_words_the_one_that_is_for_the_nic() -> None:
    assert found(f"ip=eth1:dhcp {STATIC}") == f"{STATIC} static"


def test_what_was_lent_is_what_ipconfig_has_left_and_lasts() -> None:
    assert found("ip=dhcp", report=REPORT) == "ip=dhcp lent"
    assert found("ip=dhcp", "192.0.2.9", report=REPORT) is None
    assert found("ip=dhcp", "2001:db8::7") is None
    assert found("ip=dhcp", valid_lft=300) is None, "somebody renews it"


def test_in_a_container_it_is_the_machine_s_own_command_line() -> None:
    assert found(STATIC, container=True) is None


def test_that_nobody_renews_a_lease_is_told_on_the_way_up_alone() -> None:
    disk = {"/proc/cmdline": "ip=dhcp\n", "/run/net-eth0.conf": REPORT}
    state = host("192.0.2.7")
    (told,) = hand_over(find_owner(state, NIC), state, NIC, BRIDGE, read=disk.get).risks
    assert told.code == "lease-not-renewed"
    assert told.evidence == ("/proc/cmdline: ip=dhcp",)
    assert hand_over(None, state, NIC, BRIDGE, read={"/proc/cmdline": STATIC}.get).risks == ()
    up = State(links=(Link(name=BRIDGE, index=3, kind="bridge"),), addresses=host("192.0.2.7").addresses)
    assert hand_over(None, up, BRIDGE, NIC, read=disk.get).risks == ()


def scene(line: str) -> Scene:
    """A host whose eth0 is below br0, which has the address, booted by that command line."""
    bridge, port = Link(name=BRIDGE, index=3, kind="bridge", mac=MAC), Link(name=NIC, index=2, mac=MAC)
    state = State(links=(bridge, port), addresses=(Address(link=BRIDGE, family=4, ip="192.0.2.7", prefix=24),))
    disk = {"/proc/cmdline": line}
    return Scene(
        state=state,
        bridge=bridge,
        port=port,
        mark="ours",
        owner=None,
        read=disk.get,
        find_names=lambda folder: (),
        ask=nobody,
    )


def test_what_is_static_a_unit_takes_over() -> None:
    static = scene(f"quiet {STATIC}\n")
    assert choose_keeper(static, None) is SYSTEMD_KEEPER
    assert SYSTEMD_KEEPER.find(static) == f"/proc/cmdline: {STATIC}"
    assert list(competitors(static, SYSTEMD_KEEPER)) == []
    lines = (SYSTEMD_KEEPER.form(static).files[0].content or "").splitlines()
    flush = lines.index("ExecStart=ip address flush dev eth0")
    assert lines[flush + 1] == "ExecStart=ip -4 address replace 192.0.2.7/24 dev br0 scope global"


def test_whoever_else_is_to_make_the_bridge_is_in_its_way() -> None:
    (told,) = competitors(scene(STATIC), IFUPDOWN)
    assert (told.code, told.evidence) == ("competing-configuration", (f"/proc/cmdline: {STATIC}",))
    assert list(competitors(scene("quiet\n"), IFUPDOWN)) == []


def test_what_was_lent_at_boot_is_not_kept_for_good() -> None:
    lent = scene("ip=dhcp\n")
    with pytest.raises(Refused, match=r"was lent when the host booted \(ip=dhcp\)"):
        choose_keeper(lent, None)
    with pytest.raises(Refused, match=r"was lent at boot \(ip=dhcp\), and would be kept for good"):
        SYSTEMD_KEEPER.form(lent)


_part = st.sampled_from(["", "eth0", "dhcp", "off", "192.0.2.7", "[2001:db8::7]", "[", "]", "on", "none", "x" * 40])
_word = st.lists(_part, max_size=12).map(lambda parts: "ip=" + ":".join(parts))


@given(st.lists(_word | st.text(max_size=12), max_size=20).map(" ".join), st.text(max_size=80))
def test_no_command_line_upsets_the_reader(line: str, report: str) -> None:
    told = found(line, report=report)
    assert told is None or told.rpartition(" ")[0] in line
