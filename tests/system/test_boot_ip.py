"""What an initramfs gives the NIC by `ip=` goes to the bridge at each boot, once that is saved."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kit.container import GATEWAY, Container, container
from kit.saving import DOWN, UP, assert_bridged, assert_network, files, network
from kit.tally import WHOLE

WORD = f"ip=192.0.2.7::{GATEWAY}:255.255.255.0::eth0:off"
EARLY = f"ip link set eth0 up; ip addr add 192.0.2.7/24 dev eth0; ip route add default via {GATEWAY}"
AS_ON_A_MACHINE = (
    f"rm /run/systemd/container; echo 'ro {WORD} quiet' >/run/cmdline; mount --bind /run/cmdline /proc/cmdline"
)


@pytest.fixture(params=("bookworm", "trixie") if WHOLE else ("bookworm",))
def host(request: pytest.FixtureRequest) -> Iterator[Container]:
    """A Debian that an initramfs has given its address, on a LAN."""
    with container(request.param) as booted:
        booted.early = EARLY
        booted.reboot()
        booted.run(AS_ON_A_MACHINE)
        yield booted


def test_it_is_saved_by_a_unit_that_takes_over_what_is_there(host: Container) -> None:
    before, everything = files(host), network(host, "eth0")
    host.run(*UP)
    for _ in range(2):
        assert_bridged(host, "192.0.2.7/24", None)
        assert_network(host, "br0", everything)
        assert network(host, "eth0") == []
        host.reboot()
        host.run(AS_ON_A_MACHINE)
    host.run("tapbridge", "unsave", "--quiet")
    host.run(*DOWN)
    assert files(host) == before
    assert_network(host, "eth0", everything)
    host.reboot()
    assert_network(host, "eth0", everything)
    assert files(host) == before
