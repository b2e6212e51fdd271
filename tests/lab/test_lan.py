"""What a lab's LAN does for its hosts."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from kit.command import run
from tapbridge.lab.build import Lab, lab
from tapbridge.lab.settle import await_settled
from tapbridge.lab.spec import BEYOND_GATEWAY, Addresses, Spec
from tapbridge.model.values import Family, contains

FAMILIES: tuple[Family, ...] = (4, 6)


@pytest.fixture(scope="module", params=["leased", "static"])
def lan(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    addresses: Addresses = request.param
    with lab(Spec(name="lan", hosts=2, addresses=addresses, renew_seconds=90), tmp_path_factory.mktemp("run")) as made:
        yield made


def answers(made: Lab, place: str, ip: str, *more: str) -> bool:
    return made.run(place, ["ping", "-n", "-c", "1", "-W", "2", *more, ip], check=False).returncode == 0


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("target", ["router", "peer", "beyond", "lan"])
def test_a_host_reaches_every_place_and_is_reached(lan: Lab, target: str, family: Family) -> None:
    (own,) = lan.addresses("h1")[family]
    assert contains(family, lan.record.spec.subnet(family), own)
    assert answers(lan, "h1", lan.record.spec.ip(target, family))
    assert answers(lan, target, own)


@pytest.mark.parametrize("family", FAMILIES)
def test_hosts_reach_one_another_and_both_sides_of_the_router(lan: Lab, family: Family) -> None:
    (other,) = lan.addresses("h2")[family]
    assert answers(lan, "h1", other)
    assert answers(lan, "h1", BEYOND_GATEWAY[family])


def test_the_router_is_the_gateway_and_beyond_is_off_the_link(lan: Lab) -> None:
    for family in FAMILIES:
        (route,) = json.loads(lan.run("h1", ["ip", "-j", f"-{family}", "route", "show", "default"]).stdout)
        assert route["dev"] == "eth0"
        assert answers(lan, "h1", route["gateway"] + ("%eth0" if route["gateway"].startswith("fe80") else ""))
    hops = lan.run("h1", ["ping", "-n", "-c", "1", "-t", "1", lan.record.spec.ip("beyond", 4)], check=False).stdout
    assert lan.record.spec.ip("router", 4) in hops
    assert "exceeded" in hops


def test_names_are_known_on_the_lan(lan: Lab) -> None:
    for place, name in (("peer", "h1"), ("h1", "peer"), ("h2", "h1"), ("beyond", "router")):
        assert answers(lan, place, name), f"{place} does not know {name}"


def test_a_leased_address_is_the_server_s(lan: Lab) -> None:
    if lan.record.spec.addresses == "static":
        assert lan.addresses("h1") == {4: [lan.record.spec.ip("h1", 4)], 6: [lan.record.spec.ip("h1", 6)]}
        return
    leases = lan.run("router", ["cat", "/var/lib/misc/dnsmasq.leases"]).stdout.splitlines()
    given = {line.split()[1]: line.split()[2:4] for line in leases if len(line.split()) == 5}
    for host in lan.record.spec.host_names:
        assert given[lan.record.spec.mac(host)] == [lan.addresses(host)[4][0], host]
    kept = lan.run("h1", ["cat", "/var/lib/dhcp/dhclient.eth0.leases"]).stdout
    assert re.search(r"option dhcp-renewal-time 90;", kept)
    assert re.search(r"option dhcp-lease-time 3600;", kept)
    (address,) = [a for a in ipv4(lan, "h1") if a["local"] == lan.addresses("h1")[4][0]]
    assert address["dynamic"]


def ipv4(made: Lab, place: str) -> list[dict[str, object]]:
    (link,) = json.loads(made.run(place, ["ip", "-j", "-4", "addr", "show", "dev", "eth0"]).stdout)
    found: list[dict[str, object]] = link["addr_info"]
    return found


def test_the_router_gives_addresses_by_dhcpv6_too(lan: Lab) -> None:
    first, _ = lan.record.spec.lease_range(6)
    files = ["-lf", "/var/lib/dhcp/dhclient6.eth0.leases", "-pf", "/run/dhclient6.eth0.pid"]
    lan.run("h2", ["dhclient", "-6", "-1", *files, "eth0"])
    try:
        await_settled(lan.record.keeps["h2"], advertised=False, limit_s=10)
        given = [ip for ip in lan.addresses("h2")[6] if ip.startswith(first[:-3])]
        assert len(given) == 1
        assert answers(lan, "router", given[0])
    finally:
        lan.run("h2", ["dhclient", "-6", "-r", *files, "eth0"])


def test_what_is_done_in_a_place_stays_there(lan: Lab, tmp_path: Path) -> None:
    before = (run("hostname").stdout, Path("/etc/resolv.conf").read_bytes(), sorted(os.listdir("/etc")))
    lan.run("h1", ["sh", "-c", "echo spoiled > /etc/hostname; echo > /etc/new; mkdir /run/new; hostname spoiled"])
    lan.run("h1", ["sh", "-c", "echo > /var/lib/dhcp/new; rm /etc/passwd"])
    assert (run("hostname").stdout, Path("/etc/resolv.conf").read_bytes(), sorted(os.listdir("/etc"))) == before
    assert not Path("/run/new").exists()
    assert not Path("/var/lib/dhcp/new").exists()
    assert lan.run("h2", ["hostname"]).stdout == "h2\n"
    assert sorted(os.listdir("/sys/class/net")) != ["eth0", "lo"]
    assert lan.run("h1", ["ls", "/sys/class/net"]).stdout.split() == ["eth0", "lo"]
    shared = tmp_path / "shared"  # but the user's own files are there
    lan.run("h1", ["touch", str(shared)])
    assert shared.exists()


def test_a_lab_can_be_of_ipv4_alone_and_of_large_frames(tmp_path: Path) -> None:
    with lab(Spec(name="four", addresses="static", ipv6=False, mtu=9000), tmp_path) as made:
        assert made.addresses("h1") == {4: [made.record.spec.ip("h1", 4)], 6: []}
        assert "inet6" not in made.run("h1", ["ip", "addr"]).stdout
        assert answers(made, "h1", made.record.spec.ip("peer", 4), "-M", "do", "-s", "8972")


def test_two_labs_of_the_same_subnet_do_not_meet(tmp_path: Path) -> None:
    with (
        lab(Spec(name="one", addresses="static", subnet4="192.0.2.0/24", dad=False), tmp_path) as one,
        lab(Spec(name="two", addresses="static", subnet4="192.0.2.0/24", dad=False, hosts=2), tmp_path) as two,
    ):
        assert one.addresses("h1")[4] == two.addresses("h1")[4] == ["192.0.2.11"]
        assert answers(two, "peer", "192.0.2.12")
        assert not answers(one, "peer", "192.0.2.12")
        assert one.record.spec.mac("h1") != two.record.spec.mac("h1")
        one.down()
        assert answers(two, "peer", "192.0.2.11")
