"""dhclient is replaced by one on the bridge, as seen by a real DHCP server and by the kernel."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from kit.command import run
from tapbridge.linux.clients import observe_clients, start_client, stop_client
from tapbridge.linux.files import find_text, write_file
from tapbridge.model.errors import Refused
from tapbridge.model.state import Address, Client, Link, State
from tapbridge.model.step import PutAddress, StartClient, Step, StopClient, WriteFile
from tapbridge.model.values import IfName
from tapbridge.owners.table import find_owner, hand_over

NIC, BRIDGE = IfName("eth0"), IfName("br0")


def test_the_lease_goes_to_the_bridge_and_back(served: Any) -> None:
    served.dhclient("-4", *served.paths(), "eth0")
    address = _ip("eth0")
    before = _clients()
    mark = len(served.log())

    _move(served, NIC, BRIDGE)
    assert _ip("br0") == address
    assert _ip("eth0") is None
    assert [(c.link, c.program) for c in _clients()] == [("br0", "dhclient")]
    served.wait_for(lambda: served.log_since(mark).count("DHCPACK") >= 2)  # INIT-REBOOT, then the renewal
    assert not re.search("DISCOVER|RELEASE|DECLINE|NAK", served.log_since(mark))
    assert f"DHCPREQUEST(p0) {address}" in served.log_since(mark)

    mark = len(served.log())
    _move(served, BRIDGE, NIC)
    assert _ip("eth0") == address
    assert _comparable(_clients()) == _comparable(before)
    served.wait_for(lambda: served.log_since(mark).count("DHCPACK") >= 2)
    assert not re.search("DISCOVER|RELEASE|DECLINE|NAK", served.log_since(mark))
    assert sorted(p.name for p in served.folder.glob("dhclient.*")) == ["dhclient.eth0.leases", "dhclient.eth0.pid"]
    assert int((served.folder / "dhclient.eth0.pid").read_text()) == _clients()[0].pid


def test_the_new_client_renews_the_lifetime_on_the_bridge(served: Any) -> None:
    served.dhclient("-4", *served.paths(), "eth0")
    _move(served, NIC, BRIDGE)
    run("ip", "addr", "change", f"{_ip('br0')}/24", "dev", "br0", "valid_lft", "200", "preferred_lft", "200")
    assert _lifetime("br0") in range(190, 201)
    served.wait_for(lambda: (_lifetime("br0") or 0) > 250)


def test_a_client_with_an_identity_of_its_own_keeps_it(served: Any) -> None:
    """-i: the client-id is ff, four bytes of the MAC, and the DUID, which is in the lease file alone."""
    conf = served.folder / "own.conf"
    conf.write_text('send host-name "known-by-name";\n')
    served.dhclient("-4", "-i", *served.paths(), "-cf", str(conf), "eth0")
    address, identity = _ip("eth0"), _server_lease(served)
    assert identity[3] == "known-by-name"
    assert identity[4].startswith("ff:00:00:01:02")
    mark = len(served.log())
    _move(served, NIC, BRIDGE)
    served.wait_for(lambda: "DHCPACK" in served.log_since(mark))
    assert _ip("br0") == address
    assert _server_lease(served)[1:] == identity[1:]
    assert "DISCOVER" not in served.log_since(mark)


def test_what_a_configuration_says_for_the_link_alone_goes_along(served: Any) -> None:
    """With the old file dhclient would configure eth0 beside br0: it serves every link that has a block there."""
    conf = served.folder / "own.conf"
    conf.write_text('interface "eth0" { send host-name "told-for-eth0"; send dhcp-client-identifier "me"; }\n')
    served.dhclient("-4", *served.paths(), "-cf", str(conf), "eth0")
    before, identity = _clients(), _server_lease(served)
    for source, target in ((NIC, BRIDGE), (BRIDGE, NIC)):
        mark = len(served.log())
        _move(served, source, target)
        served.wait_for(lambda mark=mark: "DHCPACK" in served.log_since(mark))
        assert "client provides name: told-for-eth0" in served.log_since(mark)
        assert "DISCOVER" not in served.log_since(mark)
        assert _server_lease(served)[1:] == identity[1:]
    assert _comparable(_clients()) == _comparable(before)
    assert not os.path.exists("/run/dhclient.br0.lease-conf")


def test_a_client_that_chose_its_link_and_its_files_by_itself(served: Any) -> None:
    """`dhclient` without a word: the link is known by its packet socket, the lease file by its descriptor."""
    leases = served.folder / "dhclient.leases"
    served.dhclient(PATH_DHCLIENT_DB=str(leases), PATH_DHCLIENT_PID=str(served.folder / "dhclient.pid"))
    address = _ip("eth0")
    (client,) = _clients()
    assert client.link == "eth0"
    assert [file.path for file in client.files] == [str(leases)]
    mark = len(served.log())
    _move(served, NIC, BRIDGE)
    served.wait_for(lambda: "DHCPACK" in served.log_since(mark))
    assert _ip("br0") == address
    assert {'interface "eth0"', 'interface "br0"'} <= set(re.findall('interface "[a-z0-9]+"', leases.read_text()))
    mark = len(served.log())
    _move(served, BRIDGE, NIC)
    served.wait_for(lambda: "DHCPACK" in served.log_since(mark))
    assert _ip("eth0") == address
    assert 'interface "br0"' not in leases.read_text()
    assert not re.search("DISCOVER|RELEASE|NAK", served.log_since(mark))


def test_under_the_same_name_nothing_but_the_process_changes(served: Any) -> None:
    served.dhclient("-4", *served.paths(), "eth0")
    (before,), leases = _clients(), Path(served.paths()[3]).read_text()
    state = _state()
    handed = hand_over(find_owner(state, NIC), state, NIC, NIC, read=find_text)
    assert not any(isinstance(step, WriteFile) for step in (*handed.before, *handed.after))
    _perform(handed.before)
    assert Path(served.paths()[3]).read_text() == leases
    run("ip", "link", "set", "eth0", "name", "reth0")
    run("ip", "link", "add", "eth0", "address", "02:00:00:00:01:02", "up", "type", "bridge", "stp_state", "0")
    run("ip", "link", "set", "reth0", "master", "eth0")
    mark = len(served.log())
    _perform(handed.after)
    served.wait_for(lambda: "DHCPACK" in served.log_since(mark))
    (after,) = _clients()
    assert (after.link, after.argv) == ("eth0", before.argv)
    assert after.pid != before.pid
    assert "DISCOVER" not in served.log_since(mark)


def test_dhcpv6_and_static_addresses_beside_it(served: Any) -> None:
    """Its script flushes the permanent addresses of a link when it starts; they are there again."""
    run("ip", "addr", "add", "2001:db8:77::7/64", "dev", "eth0", "nodad")
    served.wait_for(lambda: not re.search("tentative", run("ip", "-6", "addr", "show", "dev", "eth0").stdout))
    served.dhclient("-6", *served.paths(family=6), "eth0")
    run("ip", "addr", "add", "2001:db8:77::7/64", "dev", "eth0", "nodad")
    leased = re.search(r"2001:db8::[0-9a-f]+/128", run("ip", "-6", "addr", "show", "dev", "eth0").stdout)
    assert leased
    mark = len(served.log())
    _move(served, NIC, BRIDGE)
    served.wait_for(lambda: "DHCPCONFIRM" in served.log_since(mark))
    served.wait_for(lambda: "2001:db8:77::7" in run("ip", "-6", "addr", "show", "dev", "br0").stdout, 3)
    assert leased.group() in run("ip", "-6", "addr", "show", "dev", "br0").stdout
    assert not re.search("DHCPSOLICIT|DHCPRELEASE|DHCPDECLINE", served.log_since(mark))


def test_a_client_of_several_links_is_refused(served: Any) -> None:
    run("ip", "link", "add", "eth1", "type", "veth", "peer", "name", "q1")
    run("ip", "link", "set", "eth1", "up")
    served.dhclient("-4", "-nw", *served.paths("both"), "eth1", "eth0")
    served.wait_for(lambda: _ip("eth0"))
    assert {client.link for client in _clients()} == {"eth0", "eth1"}
    state = _state()
    with pytest.raises(Refused, match="the same process serves eth1"):
        hand_over(find_owner(state, NIC), state, NIC, BRIDGE, read=find_text)


def test_a_link_that_is_served_because_the_configuration_has_a_block_for_it_counts(served: Any) -> None:
    conf = served.folder / "own.conf"
    conf.write_text('interface "eth0" { send host-name "me"; }\n')
    run("ip", "link", "add", "eth1", "type", "veth", "peer", "name", "q1")
    run("ip", "link", "set", "eth1", "up")
    served.dhclient("-4", "-nw", *served.paths("both"), "-cf", str(conf), "eth1")
    served.wait_for(lambda: _ip("eth0"))
    assert {client.link for client in _clients()} == {"eth0", "eth1"}


def _move(lan: Any, source: IfName, target: IfName) -> None:
    """The whole way by hand: owner, addresses and port, owner."""
    state = _state()
    handed = hand_over(find_owner(state, source), state, source, target, read=find_text)
    _perform(handed.before)
    assert _clients() == ()
    if target == BRIDGE:
        run("ip", "link", "add", "br0", "address", "02:00:00:00:01:02", "type", "bridge", "stp_state", "0")
        run("ip", "link", "set", "br0", "addrgenmode", "none", "up")
    _carry_addresses(source, target)
    run("ip", "link", "set", "eth0", *(["master", "br0"] if target == BRIDGE else ["nomaster"]))
    lan.wait_for(lambda: "state UP" in run("ip", "link", "show", target).stdout)
    run("ip", "addr", "flush", "dev", source)
    if source == BRIDGE:
        run("ip", "link", "del", "br0")
    _perform(handed.after)


def _carry_addresses(source: str, target: str) -> None:
    for link in json.loads(run("ip", "-j", "addr", "show", "dev", source).stdout):
        for a in link["addr_info"]:
            words = ["ip", "addr", "replace", f"{a['local']}/{a['prefixlen']}", "dev", target, "scope", a["scope"]]
            if a["valid_life_time"] < 2**32 - 1:
                words += ["valid_lft", str(a["valid_life_time"]), "preferred_lft", str(a["preferred_life_time"])]
            run(*words, *(["nodad"] if a["family"] == "inet6" else ["metric", "4000000"]))


def _perform(steps: tuple[Step, ...]) -> None:
    for step in steps:
        if isinstance(step, StopClient):
            stop_client(step.client)
        elif isinstance(step, StartClient):
            start_client(step.client)
        elif isinstance(step, WriteFile):
            write_file(step.path, step.content, step.mode)
        else:
            assert isinstance(step, PutAddress)
            place = f"{step.address.ip}/{step.address.prefix}"
            run("ip", "addr", "replace", place, "dev", step.address.link, "nodad")


def _state() -> State:
    """What the owners look at: links, addresses, clients."""
    links, addresses = [], []
    for one in json.loads(run("ip", "-d", "-j", "addr").stdout):
        name = IfName(one["ifname"])
        links.append(Link(name=name, index=one["ifindex"], kind=one.get("linkinfo", {}).get("info_kind", "")))
        for a in one["addr_info"]:
            ends = None if a["valid_life_time"] == 2**32 - 1 else a["valid_life_time"]
            addresses.append(
                Address(
                    link=name,
                    family=4 if a["family"] == "inet" else 6,
                    ip=a["local"],
                    prefix=a["prefixlen"],
                    scope=0 if a["scope"] == "global" else 253,
                    flags=0x80 if ends is None else 0,
                    valid_lft=ends,
                )
            )
    return State(links=tuple(links), addresses=tuple(addresses), clients=_clients()).sorted()


def _clients() -> tuple[Client, ...]:
    return observe_clients([link["ifname"] for link in json.loads(run("ip", "-j", "link").stdout)])


def _comparable(clients: tuple[Client, ...]) -> list[tuple[Any, ...]]:
    return [(c.link, c.program, c.argv, c.environment, [file.path for file in c.files]) for c in clients]


def _address(link: str) -> dict[str, Any] | None:
    found = json.loads(run("ip", "-4", "-j", "addr", "show", "dev", link).stdout)
    return next((a for one in found for a in one.get("addr_info", ())), None)


def _ip(link: str) -> str | None:
    found = _address(link)
    return found["local"] if found else None


def _lifetime(link: str) -> int | None:
    found = _address(link)
    return found["valid_life_time"] if found else None


def _server_lease(lan: Any) -> list[str]:
    """The line of the server: expiry, MAC, IP, name, client-id."""
    return (lan.folder / "server.leases").read_text().splitlines()[0].split()
