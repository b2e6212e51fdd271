"""dhcpcd is replaced by one on the bridge, as seen by a real DHCP server and by the kernel."""

from __future__ import annotations

import os
import re
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from kit.command import run
from kit.handing import BRIDGE, NIC, clients, comparable_clients, ip_of, move, owners_state, perform, server_lease
from tapbridge.linux.clients import start_client, stop_client
from tapbridge.linux.dhcpcd_processes import family
from tapbridge.linux.files import find_text
from tapbridge.linux.pause import resume_client
from tapbridge.model.state import Client
from tapbridge.model.step import StartClient, StopClient
from tapbridge.owners.table import find_owner, hand_over

ANY_CHANGE = re.compile("DISCOVER|RELEASE|DECLINE|NAK")

pytestmark = pytest.mark.usefixtures("dhcpcd_files")


def _dhcpcd(lan: Any, *words: str) -> Client:
    """Start one that asks nobody whether its address is free, which takes five seconds, and waits for the lease."""
    run("dhcpcd", "-A", *words)
    lan.wait_for(lambda: ip_of("eth0"))
    lan.wait_for(lambda: len(clients()) == 1)
    (client,) = clients()
    return client


@pytest.mark.parametrize(
    "words",
    [("-4", "-h", "known", "-t", "20", "eth0"), ("eth0", "-q", "-b", "-4", "-o", "ntp_servers"), ("-4", "-B", "eth0")],
    ids=["foreground until then", "at once", "foreground"],
)
def test_the_lease_goes_to_the_bridge_and_back(served: Any, words: tuple[str, ...]) -> None:
    if "-B" in words:
        os.spawnlp(os.P_NOWAIT, "dhcpcd", "dhcpcd", "-q", *words)
    before = _dhcpcd(served, *words) if "-B" not in words else _wait(served)
    address, identity = ip_of("eth0"), server_lease(served)
    assert identity[4].startswith("ff:00:00:01:02:00:01")
    assert before.argv[0] == "/usr/sbin/dhcpcd"
    assert {word for word in words if word not in ("eth0", "-b")} <= set(before.argv)
    for source, target in ((NIC, BRIDGE), (BRIDGE, NIC)):
        mark = len(served.log())
        move(served, source, target)
        served.wait_for(lambda mark=mark: served.log_since(mark).count("DHCPACK") >= 2)  # INIT-REBOOT, then a renewal
        assert not ANY_CHANGE.search(served.log_since(mark))
        assert (ip_of(target), server_lease(served)[1:]) == (address, identity[1:])
        (client,) = clients()
        assert (client.link, client.program) == (target, "dhcpcd")
        assert sorted(path.name for path in Path("/var/lib/dhcpcd").glob("*.lease")) == _leases(target)
        there = [Path(f"/run/dhcpcd/{link}-4.pid").exists() for link in (source, target)]
        assert there == [False, True]
    assert comparable_clients((client,)) == comparable_clients((before,))


def _wait(lan: Any) -> Client:
    lan.wait_for(lambda: ip_of("eth0"))
    (client,) = clients()
    return client


def _leases(target: str) -> list[str]:
    return ["br0.lease", "eth0.lease"] if target == BRIDGE else ["eth0.lease"]


def test_what_its_configuration_says_of_the_link_goes_along(served: Any) -> None:
    """Also that bridges are not its business, as many hosts with guests have it."""
    conf = served.folder / "own.conf"
    conf.write_text("duid\npersistent\ndenyinterfaces br* wlan0\ninterface eth0\n  iaid 7\n  hostname told-for-eth0\n")
    before = _dhcpcd(served, "-4", "-f", str(conf), "eth0")
    address, identity = ip_of("eth0"), server_lease(served)
    assert identity[4].startswith("ff:00:00:00:07")
    for source, target in ((NIC, BRIDGE), (BRIDGE, NIC)):
        mark = len(served.log())
        move(served, source, target)
        served.wait_for(lambda mark=mark: "DHCPACK" in served.log_since(mark))
        assert "client provides name: told-for-eth0" in served.log_since(mark)
        assert not ANY_CHANGE.search(served.log_since(mark))
        assert (ip_of(target), server_lease(served)[1:]) == (address, identity[1:])
    assert comparable_clients(clients()) == comparable_clients((before,))
    assert list(Path("/run").glob("dhcpcd.*")) == []


def test_both_families_go_along(served: Any) -> None:
    """One process with a lease of each: that of DHCPv6 is confirmed."""
    conf = served.folder / "own.conf"
    conf.write_text("duid\npersistent\nnoipv6rs\nia_na\n")
    _dhcpcd(served, "-f", str(conf), "eth0")
    served.wait_for(lambda: _leased_v6("eth0"))
    address, leased = ip_of("eth0"), _leased_v6("eth0")
    served.wait_for(lambda: len(clients()[0].files) == 2)
    before = clients()
    for source, target in ((NIC, BRIDGE), (BRIDGE, NIC)):
        mark = len(served.log())
        move(served, source, target)
        served.wait_for(lambda mark=mark: "DHCPCONFIRM" in served.log_since(mark))
        served.wait_for(lambda mark=mark: "DHCPACK" in served.log_since(mark))
        assert not re.search(f"{ANY_CHANGE.pattern}|SOLICIT", served.log_since(mark))
        assert (ip_of(target), _leased_v6(target)) == (address, leased)
    assert comparable_clients(clients()) == comparable_clients(before)


def _leased_v6(link: str) -> list[str]:
    return re.findall(r"2001:db8::[0-9a-f]+/128", run("ip", "-6", "addr", "show", "dev", link).stdout)


def test_none_of_its_processes_is_left_and_none_of_another_is_taken(served: Any) -> None:
    run("ip", "link", "add", "eth1", "type", "veth", "peer", "name", "q1")
    run("ip", "link", "set", "eth1", "up")
    client = _dhcpcd(served, "-4", "eth0")
    run("dhcpcd", "-4", "-b", "eth1")
    served.wait_for(lambda: {found.link for found in clients()} == {"eth0", "eth1"})
    other = next(found for found in clients() if found.link == "eth1")
    own, others = family([client.pid]), family([other.pid])
    assert len(own) > 2
    assert len(others) > 2
    stop_client(client)
    assert not [pid for pid in own if Path(f"/proc/{pid}").exists() and ") Z " not in _stat(pid)]
    assert others <= family([other.pid]) | {pid for pid in others if not Path(f"/proc/{pid}").exists()}
    assert comparable_clients(clients()) == comparable_clients((other,))
    assert ip_of("eth0") is not None
    assert "DHCPRELEASE" not in served.log()


@pytest.mark.parametrize("dead", [0, 1, 2, None])
def test_one_whose_end_was_cut_off_is_ended_and_no_other(served: Any, dead: int | None) -> None:
    """They stand still, and so many are dead, or all: let go on, the others would act on that."""
    client = _dhcpcd(served, "-4", "eth0")
    resume_client(client)
    assert comparable_clients(clients()) == comparable_clients((client,)), "it runs"
    assert Path("/run/dhcpcd/eth0-4.pid").exists()
    own = _stop(served, sorted(family([client.pid])))
    assert len(own) > 2
    for pid in own[:dead]:
        os.kill(pid, signal.SIGKILL)
    served.wait_for(lambda: all(") Z " in _stat(pid) for pid in own[:dead]))
    resume_client(client)
    assert [pid for pid in own if ") Z " not in _stat(pid)] == []
    assert ip_of("eth0") is not None
    assert list(Path("/run/dhcpcd").glob("eth0-4.*")) == []
    assert "DHCPRELEASE" not in served.log()


def test_one_that_is_started_again_keeps_its_address(served: Any) -> None:
    """As after a rollback, and where `persistent` is not configured too."""
    conf = served.folder / "own.conf"
    conf.write_text("clientid\n")
    client, address = _dhcpcd(served, "-4", "-f", str(conf), "eth0"), ip_of("eth0")
    mark = len(served.log())
    stop_client(client)
    assert clients() == ()
    assert ip_of("eth0") == address
    start_client(client)
    served.wait_for(lambda: "DHCPACK" in served.log_since(mark))
    assert not ANY_CHANGE.search(served.log_since(mark))
    assert comparable_clients(clients()) == comparable_clients((client,))


def test_under_the_same_name_no_file_changes(served: Any) -> None:
    client = _dhcpcd(served, "-4", "eth0")
    state = owners_state()
    handed = hand_over(find_owner(state, NIC), state, NIC, NIC, read=find_text)
    assert [type(step) for step in (*handed.before, *handed.after)] == [StopClient, StartClient]
    mark = len(served.log())
    perform((*handed.before, *handed.after))
    served.wait_for(lambda: "DHCPACK" in served.log_since(mark))
    assert comparable_clients(clients()) == comparable_clients((client,))
    assert not ANY_CHANGE.search(served.log_since(mark))


@pytest.mark.parametrize("words", [(), ("eth0", "eth1")], ids=["any", "some"])
def test_one_for_many_links_goes_along(served: Any, words: tuple[str, ...]) -> None:
    """A manager: its other link keeps what it has."""
    run("ip", "link", "add", "eth1", "type", "veth", "peer", "name", "q1")
    for link in ("eth1", "q1"):
        run("ip", "link", "set", link, "up")
    conf = served.folder / "own.conf"
    conf.write_text("duid\npersistent\ndenyinterfaces q* br*\ninterface eth0\n  iaid 7\n")
    run("dhcpcd", "-4", "-A", "--nodev", "-b", "-f", conf, *words)  # no udev says that eth0 is ready
    served.wait_for(lambda: ip_of("eth0"))
    before = clients()
    assert [client.link for client in before] == ["eth0", "eth1"]
    address, identity = ip_of("eth0"), server_lease(served)
    for source, target in ((NIC, BRIDGE), (BRIDGE, NIC)):
        mark = len(served.log())
        move(served, source, target)
        served.wait_for(lambda mark=mark: served.log_since(mark).count("DHCPACK") >= 2)
        assert not ANY_CHANGE.search(served.log_since(mark))
        assert (ip_of(target), server_lease(served)[1:]) == (address, identity[1:])
        assert {client.link for client in clients()} == {target, "eth1"}
    assert comparable_clients(clients()) == comparable_clients(before)
    assert list(Path("/run").glob("dhcpcd.*")) == []


def _stop(lan: Any, pids: list[int]) -> list[int]:
    """Let them stand still; those that do. One that had to do with the lease alone ends by itself once there is one."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    lan.wait_for(lambda: all(") T " in _stat(pid) or ") Z " in _stat(pid) for pid in pids))
    return [pid for pid in pids if ") T " in _stat(pid)]


def _stat(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ") Z "
