"""The flow by which a user is here is found, and nobody else's is taken for it."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kit.holders import Processes
from kit.netns import Netns
from tapbridge.linux import flows
from tapbridge.linux.flows import find_visitor, inbound_flows
from tapbridge.model.proof import Flow
from tapbridge.model.values import Family

PORT = 2222
HOST = {4: "192.0.2.2", 6: "2001:db8::2"}
IPS = tuple(HOST.values())

# Listens as a process of that name, accepts one connection, runs the command and stays.
ACCEPTOR = f"""
import ctypes, socket, subprocess, sys
ctypes.CDLL(None).prctl(15, sys.argv[1].encode(), 0, 0, 0)  # PR_SET_NAME
door = socket.create_server(("::", {PORT}), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
flow, _ = door.accept()
subprocess.run(sys.argv[2:])
sys.stdin.read()
"""
# Runs the command as the child of a process of that name.
UNDER = """
import ctypes, subprocess, sys
ctypes.CDLL(None).prctl(15, sys.argv[1].encode(), 0, 0, 0)
subprocess.run(sys.argv[2:])
"""
FIND = "import sys; from tapbridge.linux.flows import find_visitor; print(find_visitor(sys.argv[1:]), flush=True)"
FINDER = (sys.executable, "-c", FIND, *IPS)
CHILD = ("sh", "-c", '"$@"; :', "sh")
LEFT_BEHIND = ("setsid", "--fork")
ALONE = ("unshare", "--pid", "--fork", "--mount-proc", *CHILD)
"""With a process 1 of its own, to which comes who is left behind."""


def accepting(name: str, *command: str) -> tuple[str, ...]:
    """The command of an acceptor."""
    return (sys.executable, "-c", ACCEPTOR, name, *command)


def flow_of(client: socket.socket, family: Family = 4) -> Flow:
    name = client.getsockname()
    return Flow(family=family, local_ip=HOST[family], local_port=PORT, remote_ip=name[0], remote_port=name[1])


@contextmanager
def connected(lan: Netns, family: Family = 4) -> Iterator[socket.socket]:
    """A connection from the LAN to the host."""
    with lan.entered():
        client = socket.create_connection((HOST[family], PORT), timeout=5)
    with client:
        yield client


def found(process: subprocess.Popen[str]) -> str:
    """What the finder prints."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("family", [4, 6])
def test_the_flow_of_an_ancestor(lan: Netns, processes: Processes, family: Family) -> None:
    """An IPv4 connection of an IPv6 socket is one of IPv4."""
    acceptor = processes.start(*accepting("anything", *CHILD, *CHILD, *FINDER), until="ready")
    with connected(lan, family) as client:
        assert found(acceptor) == str(flow_of(client, family))


def test_a_flow_that_nobody_has_accepted_is_seen_and_is_nobodys(lan: Netns) -> None:
    assert inbound_flows(IPS) == frozenset()
    with socket.create_server((HOST[4], PORT)) as door, connected(lan) as client:
        assert inbound_flows(IPS) == {flow_of(client)}
        assert find_visitor(IPS) is None
        with door.accept()[0]:
            assert find_visitor(IPS) == flow_of(client)
            with connected(lan) as other:
                assert inbound_flows(IPS) == {flow_of(client), flow_of(other)}


def test_flows_to_other_addresses_and_outbound_ones_do_not_count(lan: Netns) -> None:
    with lan.entered():
        beyond = socket.create_server(("192.0.2.1", PORT))
    with beyond, socket.create_server((HOST[4], PORT)) as door, connected(lan), door.accept()[0]:
        assert inbound_flows(("192.0.2.99",)) == frozenset()
        assert find_visitor(("192.0.2.99",)) is None
        seen = inbound_flows(IPS)
        with socket.create_connection(("192.0.2.1", PORT), timeout=5):
            assert inbound_flows(IPS) == seen


@pytest.mark.parametrize("name", ["sshd", "sshd-session"])
def test_who_was_left_behind_by_his_session_came_by_an_sshd(lan: Netns, processes: Processes, name: str) -> None:
    acceptor = processes.start(*ALONE, *accepting(name, *LEFT_BEHIND, *FINDER), until="ready")
    with connected(lan) as client:
        assert found(acceptor) == str(flow_of(client))


def test_who_is_left_behind_did_not_come_by_any_other_server(lan: Netns, processes: Processes) -> None:
    acceptor = processes.start(*ALONE, *accepting("nginx", *LEFT_BEHIND, *FINDER), until="ready")
    with connected(lan):
        assert found(acceptor) == "None"


@pytest.mark.parametrize(("name", "remote"), [("tmux: server", True), ("screen", True), ("login", False)])
def test_in_tmux_the_user_came_by_an_sshd_and_at_a_console_by_none(
    lan: Netns, processes: Processes, name: str, remote: bool
) -> None:
    session = (sys.executable, "-c", UNDER, name, *FINDER)
    acceptor = processes.start(*ALONE, *accepting("sshd", *LEFT_BEHIND, *session), until="ready")
    with connected(lan) as client:
        assert found(acceptor) == (str(flow_of(client)) if remote else "None")


def test_without_an_inbound_flow_no_process_is_looked_at(lan: Netns, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("a process was looked at")

    for name in ("pids", "parent", "descriptors", "command_name"):
        monkeypatch.setattr(flows, name, never)
    with socket.create_server((HOST[4], PORT)):
        assert find_visitor(IPS) is None


def test_a_flow_of_another_namespace_is_none_of_ours(lan: Netns, processes: Processes) -> None:
    """The same addresses there, and an ancestor that has a flow, but not here."""
    command = (*CHILD, "unshare", "--net", *FINDER)
    acceptor = processes.start(*accepting("sshd", *command), until="ready")
    with connected(lan):
        assert found(acceptor) == "None"
