"""The leases that systemd-networkd gives guests as their DHCP server."""

from __future__ import annotations

import json
import socket
from typing import Any

from kit.changes import until
from kit.container import Container
from kit.frames import MAC, dhcp_request
from kit.holders import Processes, attach, write

SERVER = "198.51.100.1"
BRIDGE = "[NetDev]\nName=br1\nKind=bridge\n"
NETWORK = f"[Match]\nName=br1\n[Network]\nAddress={SERVER}/24\nConfigureWithoutCarrier=yes\nDHCPServer=yes\n"


def addresses(host: Container) -> list[dict[str, Any]]:
    """What `ps` knows of the tap ta, less what the host's own table says."""
    (guest,) = json.loads(host.run("tapbridge", "ps", "--json").stdout)["guests"]
    (nic,) = guest["nics"]
    assert nic["mac"] == MAC
    return [item for item in nic["addresses"] if item["source"] != "neighbour"]


def test_a_lease_of_networkd_s_is_known(host: Container) -> None:
    host.path("/etc/systemd/network/br1.netdev").write_text(BRIDGE)
    host.path("/etc/systemd/network/br1.network").write_text(NETWORK)
    host.run("systemctl", "start", "systemd-networkd")
    host.wait_for("networkctl | grep -q 'br1 .*configured'")
    processes = Processes()
    assert host.nic is not None
    try:
        with host.nic.entered():
            process = processes.hold("ta")
            attach("ta", bridge="br1")
            host.wait_for("networkctl | grep -q 'br1 .*routable *configured'")
            asks = dhcp_request("198.51.100.77", options=b"\x36\x04" + socket.inet_aton(SERVER))
            known: list[dict[str, Any]] = []

            def asked() -> bool:  # networkd's server need not listen yet, and its word comes late where it is busy
                write(process, "ta", asks)
                known[:] = addresses(host)
                return known != []

            assert until(asked, 30)
            (address,) = known
    finally:
        processes.end()
    assert (address["ip"], address["source"], address["dynamic"]) == ("198.51.100.77", "lease", True)
    assert 3000 < address["valid_lft"] <= 3600
