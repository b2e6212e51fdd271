"""Debian's service of dhcpcd, which manages every link: its NIC goes under a bridge, and it has it back at the end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kit.container import DHCPCD, Container, container
from kit.tally import WHOLE

ADDRESS = "ip -4 -o addr show dev {} | grep -o '192.0.2.[0-9]*/24'"
SERVICE = ("dhcpcd.service", "ActiveState", "ExecMainStatus")


@pytest.fixture(scope="module")
def served() -> Iterator[Container]:
    """A host whose eth0 has its lease by that service."""
    with container() as host:
        host.run("rm -f /etc/resolv.conf; echo >/etc/resolv.conf; echo noarp >>/etc/dhcpcd.conf")
        host.path("/etc/systemd/system/dhcpcd.service").write_text(DHCPCD)
        host.run("systemctl enable --now dhcpcd")
        host.wait_for(ADDRESS.format("eth0"), limit_s=20)
        yield host


@pytest.mark.parametrize("back", ["down", "rollback"])
def test_the_lease_goes_to_the_bridge_and_back_to_the_service(served: Container, back: str) -> None:
    address = served.run(ADDRESS.format("eth0")).stdout
    before = served.show(*SERVICE)
    assert before == {"ActiveState": "active", "ExecMainStatus": "0"}
    now = served.run("date +%s.%N").stdout.strip()
    served.run("tapbridge", "up", "--yes", *(["--confirm", "300", "--no-wait"] if back == "rollback" else []))
    served.wait_for(f"journalctl -u dhcpcd --since @{now} | grep -q 'br0: leased'")
    served.run("systemctl", "start", "multi-user.target")  # which wants it, and would start another one
    if back == "down":
        served.run("systemctl", "restart", "dhcpcd")
        served.wait_for(ADDRESS.format("br0"))
    assert served.run(ADDRESS.format("br0")).stdout == address
    assert served.run(ADDRESS.format("eth0"), check=False).stdout == ""
    assert served.show(*SERVICE) == before
    now = served.run("date +%s.%N").stdout.strip()
    served.run("tapbridge", back, "--yes")
    assert served.show(*SERVICE) == before
    assert served.run(ADDRESS.format("eth0")).stdout == address
    served.wait_for(f"journalctl -u dhcpcd --since @{now} | grep -q 'eth0: rebinding'")
    assert served.run("ls /run/dhcpcd.* /run/systemd/system/dhcpcd.service.d/*", check=False).stdout == ""
    assert served.run("systemctl list-units --all --plain --no-legend 'tapbridge-dhcpcd*'").stdout == ""


@pytest.mark.skipif(not WHOLE, reason="a rollback goes the same way: script/test system --all")
@pytest.mark.parametrize("point", ["StopClient#1", "WriteFile#3"])
def test_an_up_that_is_killed_gives_the_service_its_own_words_back(served: Container, point: str) -> None:
    address, before = served.run(ADDRESS.format("eth0")).stdout, served.show(*SERVICE)
    served.cut_off(point, "up", "--yes", "--quiet", "--confirm", "0")
    served.run("tapbridge", "recover")
    assert served.run(ADDRESS.format("eth0")).stdout == address
    assert served.show(*SERVICE) == before
    assert served.run("ls /run/dhcpcd.* /run/systemd/system/dhcpcd.service.d/*", check=False).stdout == ""
    assert "argv[]=/usr/sbin/dhcpcd -q -b ;" in served.show("dhcpcd.service", "ExecStart")["ExecStart"]
