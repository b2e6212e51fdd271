"""dhclient is replaced by one on the bridge, as seen by a real DHCP server and by the kernel."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from kit.command import run
from kit.handing import (
    BRIDGE,
    NIC,
    clients,
    comparable_clients,
    ip_of,
    lifetime_of,
    move,
    owners_state,
    perform,
    server_lease,
)
from tapbridge.linux.files import find_text
from tapbridge.model.errors import Refused
from tapbridge.model.step import WriteFile
from tapbridge.owners.table import find_owner, hand_over


def test_the_lease_goes_to_the_bridge_and_back(served: Any) -> None:
    served.dhclient("-4", *served.paths(), "eth0")
    address = ip_of("eth0")
    before = clients()
    mark = len(served.log())

    move(served, NIC, BRIDGE)
    assert ip_of("br0") == address
    assert ip_of("eth0") is None
    assert [(c.link, c.program) for c in clients()] == [("br0", "dhclient")]
    served.wait_for(lambda: served.log_since(mark).count("DHCPACK") >= 2)  # INIT-REBOOT, then the renewal
    assert not re.search("DISCOVER|RELEASE|DECLINE|NAK", served.log_since(mark))
    assert f"DHCPREQUEST(p0) {address}" in served.log_since(mark)

    mark = len(served.log())
    move(served, BRIDGE, NIC)
    assert ip_of("eth0") == address
    assert comparable_clients(clients()) == comparable_clients(before)
    served.wait_for(lambda: served.log_since(mark).count("DHCPACK") >= 2)
    assert not re.search("DISCOVER|RELEASE|DECLINE|NAK", served.log_since(mark))
    assert sorted(p.name for p in served.folder.glob("dhclient.*")) == ["dhclient.eth0.leases", "dhclient.eth0.pid"]
    assert int((served.folder / "dhclient.eth0.pid").read_text()) == clients()[0].pid


def test_the_new_client_renews_the_lifetime_on_the_bridge(served: Any) -> None:
    served.dhclient("-4", *served.paths(), "eth0")
    move(served, NIC, BRIDGE)
    run("ip", "addr", "change", f"{ip_of('br0')}/24", "dev", "br0", "valid_lft", "200", "preferred_lft", "200")
    assert lifetime_of("br0") in range(190, 201)
    served.wait_for(lambda: (lifetime_of("br0") or 0) > 250)


def test_a_client_with_an_identity_of_its_own_keeps_it(served: Any) -> None:
    """-i: the client-id is ff, four bytes of the MAC, and the DUID, which is in the lease file alone."""
    conf = served.folder / "own.conf"
    conf.write_text('send host-name "known-by-name";\n')
    served.dhclient("-4", "-i", *served.paths(), "-cf", str(conf), "eth0")
    address, identity = ip_of("eth0"), server_lease(served)
    assert identity[3] == "known-by-name"
    assert identity[4].startswith("ff:00:00:01:02")
    mark = len(served.log())
    move(served, NIC, BRIDGE)
    served.wait_for(lambda: "DHCPACK" in served.log_since(mark))
    assert ip_of("br0") == address
    assert server_lease(served)[1:] == identity[1:]
    assert "DISCOVER" not in served.log_since(mark)


def test_what_a_configuration_says_for_the_link_alone_goes_along(served: Any) -> None:
    """With the old file dhclient would configure eth0 beside br0: it serves every link that has a block there."""
    conf = served.folder / "own.conf"
    conf.write_text('interface "eth0" { send host-name "told-for-eth0"; send dhcp-client-identifier "me"; }\n')
    served.dhclient("-4", *served.paths(), "-cf", str(conf), "eth0")
    before, identity = clients(), server_lease(served)
    for source, target in ((NIC, BRIDGE), (BRIDGE, NIC)):
        mark = len(served.log())
        move(served, source, target)
        served.wait_for(lambda mark=mark: "DHCPACK" in served.log_since(mark))
        assert "client provides name: told-for-eth0" in served.log_since(mark)
        assert "DISCOVER" not in served.log_since(mark)
        assert server_lease(served)[1:] == identity[1:]
    assert comparable_clients(clients()) == comparable_clients(before)
    assert not os.path.exists("/run/dhclient.br0.lease-conf")


def test_a_client_that_chose_its_link_and_its_files_by_itself(served: Any) -> None:
    """`dhclient` without a word: the link is known by its packet socket, the lease file by its descriptor."""
    leases = served.folder / "dhclient.leases"
    served.dhclient(PATH_DHCLIENT_DB=str(leases), PATH_DHCLIENT_PID=str(served.folder / "dhclient.pid"))
    address = ip_of("eth0")
    (client,) = clients()
    assert client.link == "eth0"
    assert [file.path for file in client.files] == [str(leases)]
    mark = len(served.log())
    move(served, NIC, BRIDGE)
    served.wait_for(lambda: "DHCPACK" in served.log_since(mark))
    assert ip_of("br0") == address
    assert {'interface "eth0"', 'interface "br0"'} <= set(re.findall('interface "[a-z0-9]+"', leases.read_text()))
    mark = len(served.log())
    move(served, BRIDGE, NIC)
    served.wait_for(lambda: "DHCPACK" in served.log_since(mark))
    assert ip_of("eth0") == address
    assert 'interface "br0"' not in leases.read_text()
    assert not re.search("DISCOVER|RELEASE|NAK", served.log_since(mark))


def test_under_the_same_name_nothing_but_the_process_changes(served: Any) -> None:
    served.dhclient("-4", *served.paths(), "eth0")
    (before,), leases = clients(), Path(served.paths()[3]).read_text()
    state = owners_state()
    handed = hand_over(find_owner(state, NIC), state, NIC, NIC, read=find_text)
    assert not any(isinstance(step, WriteFile) for step in (*handed.before, *handed.after))
    perform(handed.before)
    assert Path(served.paths()[3]).read_text() == leases
    run("ip", "link", "set", "eth0", "name", "reth0")
    run("ip", "link", "add", "eth0", "address", "02:00:00:00:01:02", "up", "type", "bridge", "stp_state", "0")
    run("ip", "link", "set", "reth0", "master", "eth0")
    mark = len(served.log())
    perform(handed.after)
    served.wait_for(lambda: "DHCPACK" in served.log_since(mark))
    (after,) = clients()
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
    move(served, NIC, BRIDGE)
    served.wait_for(lambda: "DHCPCONFIRM" in served.log_since(mark))
    served.wait_for(lambda: "2001:db8:77::7" in run("ip", "-6", "addr", "show", "dev", "br0").stdout, 3)
    assert leased.group() in run("ip", "-6", "addr", "show", "dev", "br0").stdout
    assert not re.search("DHCPSOLICIT|DHCPRELEASE|DHCPDECLINE", served.log_since(mark))


def test_a_client_of_several_links_is_refused(served: Any) -> None:
    run("ip", "link", "add", "eth1", "type", "veth", "peer", "name", "q1")
    run("ip", "link", "set", "eth1", "up")
    served.dhclient("-4", "-nw", *served.paths("both"), "eth1", "eth0")
    served.wait_for(lambda: ip_of("eth0"))
    assert {client.link for client in clients()} == {"eth0", "eth1"}
    state = owners_state()
    with pytest.raises(Refused, match="the same process serves eth1"):
        hand_over(find_owner(state, NIC), state, NIC, BRIDGE, read=find_text)


def test_a_link_that_is_served_because_the_configuration_has_a_block_for_it_counts(served: Any) -> None:
    conf = served.folder / "own.conf"
    conf.write_text('interface "eth0" { send host-name "me"; }\n')
    run("ip", "link", "add", "eth1", "type", "veth", "peer", "name", "q1")
    run("ip", "link", "set", "eth1", "up")
    served.dhclient("-4", "-nw", *served.paths("both"), "-cf", str(conf), "eth1")
    served.wait_for(lambda: ip_of("eth0"))
    assert {client.link for client in clients()} == {"eth0", "eth1"}
