"""The namespaces that other tests stand on."""

from __future__ import annotations

import os
import socket

import pytest

from kit.command import run
from kit.netns import in_netns, named_netns, new_netns

HERE = "/proc/thread-self/ns/net"


def test_a_test_is_in_its_own_namespace_and_comes_back() -> None:
    before = os.readlink(HERE)
    with in_netns() as netns:
        assert os.readlink(HERE) == os.readlink(netns.path) != before
        assert [name for _, name in socket.if_nameindex()] == ["lo"]
        assert "UP" in run("ip", "-o", "link", "show", "lo").stdout
    assert os.readlink(HERE) == before


def test_it_comes_back_when_the_test_fails() -> None:
    before = os.readlink(HERE)
    with pytest.raises(ZeroDivisionError), in_netns():
        _ = 1 / 0
    assert os.readlink(HERE) == before


def test_two_namespaces_are_joined_by_a_pair() -> None:
    with new_netns() as one, new_netns() as other:
        with one.entered():
            run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", other.path)
        with other.entered():
            assert "eth0" in [name for _, name in socket.if_nameindex()]


def test_a_named_namespace_is_known_to_ip_and_gone_afterwards() -> None:
    with named_netns("kit-test") as netns:
        assert "kit-test" in run("ip", "netns", "list").stdout
        assert "UP" in run("nsenter", f"--net={netns.path}", "ip", "-o", "link", "show", "lo").stdout
    assert "kit-test" not in run("ip", "netns", "list").stdout


def test_a_failing_command_says_what_it_said() -> None:
    with pytest.raises(AssertionError, match="does not exist"):
        run("ip", "link", "show", "no-such-link")
