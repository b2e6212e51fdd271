"""What systemd-resolved keeps for a link, read and set on the real one where it is installed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kit.command import run
from kit.netns import new_netns
from tapbridge.linux.resolved import observe_dns, set_dns
from tapbridge.model.errors import HostError
from tapbridge.model.state import LinkDns
from tapbridge.model.values import IfName

RESOLVED = "/usr/lib/systemd/systemd-resolved"
SERVICE = "org.freedesktop.resolve1"
NIC = IfName("eth0")
DNS = LinkDns(
    link=NIC,
    servers=("192.0.2.1", "2001:db8::53", "9.9.9.9#dns.quad9.net"),
    domains=("lan.example", "~corp.example", "~."),
)


@pytest.fixture
def resolved(lan: Any) -> Iterator[Any]:
    """The host with resolved and a bus of its own."""
    if not os.path.exists(RESOLVED):
        pytest.skip("systemd-resolved is not installed")
    for folder in ("/run/dbus", "/run/systemd/resolve"):
        Path(folder).mkdir(parents=True, exist_ok=True)
    run("chown", "systemd-resolve:systemd-resolve", "/run/systemd/resolve")
    programs = {"org.freedesktop.DBus": ["dbus-daemon", "--system", "--nofork", "--nopidfile"], SERVICE: [RESOLVED]}
    started = []
    try:
        for name, words in programs.items():
            started.append(subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            lan.wait_for(lambda name=name: _has_owner(name))
        yield lan
    finally:
        for one in started:
            one.kill()
            one.wait()
        Path("/run/dbus/system_bus_socket").unlink(missing_ok=True)


def _has_owner(name: str) -> bool:
    bus = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
    return "true" in run("busctl", "--auto-start=no", "call", *bus, "NameHasOwner", "s", name, check=False).stdout


def test_where_it_does_not_run_nothing_is_known_and_nothing_asked(lan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    Path("/run/systemd/resolve").mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(subprocess, "Popen", never)
    assert observe_dns() == ()
    set_dns(DNS)


def test_what_is_set_is_read_again_and_taken_back(resolved: Any) -> None:
    assert observe_dns() == ()
    set_dns(DNS)
    assert observe_dns() == (DNS,)
    set_dns(LinkDns(link=NIC))
    assert observe_dns() == ()


def test_a_link_that_is_gone(resolved: Any) -> None:
    set_dns(LinkDns(link=IfName("gone0")))
    with pytest.raises(HostError, match="gone0"):
        set_dns(LinkDns(link=IfName("gone0"), servers=("192.0.2.1",)))


def test_a_resolved_of_another_namespace_is_none_of_ours(resolved: Any) -> None:
    set_dns(DNS)
    with new_netns() as other, other.entered():
        assert observe_dns() == ()
