"""Debian's services of dhcpcd, for all links and for one: a NIC goes under a bridge, and they have it back after it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from kit.changes import until
from kit.container import DHCPCD, DHCPCD_OF_A_LINK, Container, container
from kit.tally import WHOLE

ADDRESS = "ip -4 -o addr show dev {} | grep -o '192.0.2.[0-9]*/24'"
SERVICE = ("dhcpcd.service", "ActiveState", "ExecMainStatus")
OF_ETH0 = ("dhcpcd@eth0.service", "ActiveState", "Result", "ExecStart", "ExecStop", "PIDFile", "Restart")
UP = ("tapbridge", "up", "--yes", "--quiet", "--confirm", "0")
TAKE_NAME = ("--take-name",)
DOWN = ("tapbridge", "down", "--quiet")
RECOVER = ("tapbridge", "recover", "--quiet")
DROP_INS = "ls /run/dhcpcd.* /run/systemd/system/dhcpcd@eth0.service.d/*"


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
@pytest.mark.parametrize(
    ("bridge", "port", "words"), [("br0", "eth0", ()), *([("eth0", "reth0", TAKE_NAME)] if WHOLE else [])]
)
def test_the_lease_goes_to_the_bridge_and_back_to_the_service(
    served: Container, back: str, bridge: str, port: str, words: tuple[str, ...]
) -> None:
    address = served.run(ADDRESS.format("eth0")).stdout
    before = served.show(*SERVICE)
    assert before == {"ActiveState": "active", "ExecMainStatus": "0"}
    now = served.run("date +%s.%N").stdout.strip()
    served.run("tapbridge", "up", "--yes", *words, *(["--confirm", "300", "--no-wait"] if back == "rollback" else []))
    served.wait_for(f"journalctl -u dhcpcd --since @{now} | grep -q '{bridge}: leased'")
    served.run("systemctl", "start", "multi-user.target")  # which wants it, and would start another one
    if back == "down":
        served.run("systemctl", "restart", "dhcpcd")
        served.wait_for(ADDRESS.format(bridge))
    assert served.run(ADDRESS.format(bridge)).stdout == address
    assert served.run(ADDRESS.format(port), check=False).stdout == ""
    assert served.show(*SERVICE) == before
    now = served.run("date +%s.%N").stdout.strip()
    served.run("tapbridge", back, "--yes")
    assert served.show(*SERVICE) == before
    assert served.run(ADDRESS.format("eth0")).stdout == address
    served.wait_for(f"journalctl -u dhcpcd --since @{now} | grep -q 'eth0: rebinding'")
    assert served.run("ls /run/dhcpcd.* /run/systemd/system/dhcpcd.service.d/*", check=False).stdout == ""
    assert served.run("systemctl list-units --all --plain --no-legend 'tapbridge-dhcpcd*'").stdout == ""


@pytest.mark.skipif(not WHOLE, reason="a rollback goes the same way: script/test system --all")
@pytest.mark.parametrize(
    ("point", "words"),
    [("StopClient#1", ()), ("WriteFile#3", ()), ("StopClient#1", TAKE_NAME), ("WriteFile#2", TAKE_NAME)],
)
def test_an_up_that_is_killed_gives_the_service_its_own_words_back(
    served: Container, point: str, words: tuple[str, ...]
) -> None:
    address, before = served.run(ADDRESS.format("eth0")).stdout, served.show(*SERVICE)
    served.cut_off(point, *UP[1:], *words)
    served.run("tapbridge", "recover")
    assert served.run(ADDRESS.format("eth0")).stdout == address
    assert served.show(*SERVICE) == before
    assert served.run("ls /run/dhcpcd.* /run/systemd/system/dhcpcd.service.d/*", check=False).stdout == ""
    assert "argv[]=/usr/sbin/dhcpcd -q -b ;" in served.show("dhcpcd.service", "ExecStart")["ExecStart"]


@pytest.fixture(scope="module")
def of_eth0() -> Iterator[Container]:
    """A host whose eth0 has its lease by the service of that one link, which systemd starts whenever it ends."""
    with container() as host:
        host.run("rm -f /etc/resolv.conf; echo >/etc/resolv.conf; echo noarp >>/etc/dhcpcd.conf")
        host.path("/etc/systemd/system/dhcpcd@.service").write_text(DHCPCD_OF_A_LINK)
        host.run("systemctl enable --now dhcpcd@eth0")
        host.wait_for(ADDRESS.format("eth0"), limit_s=20)
        yield host


@pytest.mark.parametrize("back", ["down", "rollback"] if WHOLE else ["down"])
def test_the_service_of_one_link_serves_the_bridge_and_the_link_again(of_eth0: Container, back: str) -> None:
    address, before = of_eth0.run(ADDRESS.format("eth0")).stdout, _of_eth0(of_eth0)
    assert before["Restart"] == "always"
    mark = len(of_eth0.served())
    of_eth0.run("tapbridge", "up", "--yes", *(["--confirm", "300", "--no-wait"] if back == "rollback" else []))
    of_eth0.run("systemctl", "start", "multi-user.target")  # which wants it
    if back == "down":
        of_eth0.run("systemctl", "kill", "--signal=KILL", "dhcpcd@eth0")  # and it is started again
        of_eth0.wait_for("systemctl show --property=NRestarts --value dhcpcd@eth0 | grep -qx 1")
        of_eth0.run("systemctl", "restart", "dhcpcd@eth0")
        of_eth0.wait_for(ADDRESS.format("br0"))
    assert _of_eth0(of_eth0)["ActiveState"] == "active"
    assert of_eth0.run(ADDRESS.format("br0")).stdout == address
    assert of_eth0.run(ADDRESS.format("eth0"), check=False).stdout == ""
    if back == "rollback":
        assert not re.search("RELEASE|DECLINE|NAK|DISCOVER", of_eth0.served()[mark:])
    mark = len(of_eth0.served())
    of_eth0.run("tapbridge", back, "--yes")
    assert of_eth0.run(ADDRESS.format("eth0")).stdout == address
    assert until(lambda: _of_eth0(of_eth0) == before), _of_eth0(of_eth0)
    assert of_eth0.run(DROP_INS, check=False).stdout == ""
    assert until(lambda: "DHCPACK" in of_eth0.served()[mark:], 10)
    assert not re.search("RELEASE|DECLINE|NAK|DISCOVER", of_eth0.served()[mark:])


@pytest.mark.skipif(not WHOLE, reason="a rollback goes the same way: script/test system --all")
@pytest.mark.parametrize("verb", [UP, DOWN], ids=["up", "down"])
def test_killed_anywhere_and_recovered_the_service_of_one_link_is_up(of_eth0: Container, verb: tuple[str, ...]) -> None:
    """Before each act that is not the kernel's the journal is synced; so is what keeps the service down meanwhile."""
    address, before = of_eth0.run(ADDRESS.format("eth0")).stdout, _of_eth0(of_eth0)
    up, down = of_eth0.syncs(UP), of_eth0.syncs(DOWN)
    last = up if verb == UP else down
    assert last > 10
    for number in range(1, last + 1):
        if verb == DOWN:
            of_eth0.run(*UP)
        mark = len(of_eth0.served())
        of_eth0.syncs(verb, str(number))
        of_eth0.run(*RECOVER)
        bridged = of_eth0.path("/sys/class/net/br0").exists()
        assert of_eth0.run(ADDRESS.format("br0" if bridged else "eth0")).stdout == address, number
        assert _of_eth0(of_eth0)["ActiveState"] == "active", number
        assert "zz-" not in of_eth0.run(DROP_INS, check=False).stdout, number
        if bridged:
            of_eth0.run(*DOWN)
        assert _of_eth0(of_eth0) == before, number
        assert not re.search("RELEASE|DECLINE|NAK|DISCOVER", of_eth0.served()[mark:]), number


def _of_eth0(host: Container) -> dict[str, str]:
    """Its service, without what each run of it has otherwise."""
    told = host.show(*OF_ETH0)
    return {key: re.sub(r"\b(start_time|stop_time|pid|code|status)=.*", "", value) for key, value in told.items()}
