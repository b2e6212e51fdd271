"""Real guests of a user without any privilege: they take a lease from the LAN through a tap that the broker lent."""

from __future__ import annotations

import subprocess
import sys

import pytest

from kit.brokers import ALICE, FREE, HELD, HELPER_OF_QEMU, Site, as_user, site, taps, until
from tapbridge.lab.guest import ipxe_argv

LIMIT_S = 90


def start_dhcp_server(made: Site) -> None:
    """A DHCP server on the LAN."""
    options = ("--no-daemon", "--conf-file=/dev/null", "--port=0", "--interface=lan0", "--bind-interfaces")
    served = ("--dhcp-range=192.0.2.100,192.0.2.120,1h", f"--dhcp-leasefile={made.folder / 'leases'}")
    with made.lan.entered():
        made.processes.start("dnsmasq", *options, *served, until="DHCP, IP range")


@pytest.mark.parametrize("way", ["run", "helper"])
def test_a_boot_rom_takes_a_lease(way: str) -> None:
    with site(HELD if way == "run" else FREE) as made:
        start_dhcp_server(made)
        leases = made.folder / "leases"
        leases.touch()
        run_dir = {"TAPBRIDGE_RUN_DIR": str(made.folder / "run/tapbridge"), "PATH": "/usr/bin:/bin", "HOME": "/"}
        own = (sys.executable, "-m", "tapbridge", "run", "--name", "rom", "--net", "br0", "--", *ipxe_argv())
        netdev = f"bridge,id=n0,br=br0,helper={HELPER_OF_QEMU}"
        by_helper = (*ipxe_argv(), "-netdev", netdev, "-device", "virtio-net-pci,netdev=n0")
        words = (*as_user(ALICE), *(own if way == "run" else by_helper))
        with subprocess.Popen(words, env=run_dir, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as guest:
            try:
                leased = until(lambda: guest.poll() is not None or "192.0.2.1" in leases.read_text(), LIMIT_S)
                assert leased and guest.poll() is None, made.log
                assert f" pid={guest.pid} " in (taps()[0].alias or "")
            finally:
                guest.kill()
        assert until(lambda: taps() == [])
