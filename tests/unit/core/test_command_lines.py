"""How the command lines of DHCP clients are read, and written with other words."""

from __future__ import annotations

import pytest

from tapbridge.core import dhcpcd, udhcpc


@pytest.mark.parametrize(
    ("words", "link", "script", "pid_path", "foreground"),
    [
        ("udhcpc", "eth0", None, None, False),
        ("udhcpc -i br0 -fs /s -p/p", "br0", "/s", "/p", True),
        ("/bin/busybox udhcpc -nqi eth1 -x hostname:-i", "eth1", None, None, False),
        ("udhcpc -O -f -V -i --interface=eth2 -i eth3", "eth3", None, None, False),
        ("udhcpc --int eth2 --pidfile=/p --fore --script /s -a500 -t 5", "eth2", "/s", "/p", True),
        ("udhcpc -a -i eth2 -- -i eth4", "eth2", None, None, False),
    ],
)
def test_of_udhcpc(words: str, link: str, script: str | None, pid_path: str | None, foreground: bool) -> None:
    told = udhcpc.read_invocation(words.split())
    assert (told.link, told.script, told.pid_path, told.foreground) == (link, script, pid_path, foreground)


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        ("udhcpc -i eth0 -b", "udhcpc -i br0 -b"),
        ("udhcpc -qieth0 -V eth0", "udhcpc -qibr0 -V eth0"),
        ("udhcpc --interface=eth0", "udhcpc --interface=br0"),
        ("udhcpc -i eth1 -n -i eth0", "udhcpc -i br0 -n -i br0"),
        ("udhcpc -b", "udhcpc -b -i br0"),
    ],
)
def test_udhcpc_on_another_link(words: str, changed: str) -> None:
    assert " ".join(udhcpc.with_values(words.split(), {"i": "br0"})) == changed


@pytest.mark.parametrize(
    ("words", "links", "stem"),
    [
        ("dhcpcd eth0", ("eth0",), "eth0"),
        ("dhcpcd -q -4 -h eth1 -I '' eth0", ("eth0",), "eth0-4"),
        ("dhcpcd --ipv6only --metric 200 eth0 --waitip", ("eth0",), "eth0-6"),
        ("dhcpcd -46 eth0", ("eth0",), "eth0-6"),
        ("dhcpcd -q -b", (), ""),
        ("dhcpcd -M eth0", ("eth0",), ""),
        ("dhcpcd eth0 eth1", ("eth0", "eth1"), ""),
    ],
)
def test_of_dhcpcd(words: str, links: tuple[str, ...], stem: str) -> None:
    told = dhcpcd.read_invocation(words.split())
    assert (told.links, told.stem, told.alone) == (links, stem, stem != "")


def test_dhcpcd_on_another_link_and_with_another_configuration() -> None:
    argv = ("dhcpcd", "-h", "eth0", "-4", "eth0")
    moved = dhcpcd.with_link(argv, "eth0", "br0")
    assert moved == ("dhcpcd", "-h", "eth0", "-4", "br0")
    told = dhcpcd.with_configuration(moved, "/run/own")
    assert dhcpcd.read_invocation(told).conf_path == "/run/own"
    assert dhcpcd.with_configuration(told, None) == moved
    own = ("dhcpcd", "-qf/etc/own", "--config", "/etc/last", "eth0")
    assert dhcpcd.read_invocation(dhcpcd.with_configuration(own, "/run/own")).conf_path == "/run/own"
