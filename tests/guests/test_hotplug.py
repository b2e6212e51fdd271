"""A NIC plugged into a guest that runs: its system takes a lease by it, is reached through it, and lets it go."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from kit.booted import Lan, read_until
from kit.command import run

PORTS = ("-M", "q35", "-device", "pcie-root-port,id=rp1,chassis=1")


def tapbridge(lan: Lan, *words: str) -> dict[str, Any]:
    """The document of a command."""
    done = run(sys.executable, "-m", "tapbridge", *words, "--json", env=lan.env, timeout_s=60)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def files_of_taps(pid: int) -> int:
    return sum("/net/tun" in str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir())


@pytest.mark.parametrize("machine", [(), PORTS], ids=["pc", "q35"])
def test_a_guest_gets_a_second_nic_while_it_runs(lan: Lan, linux: list[str], machine: tuple[str, ...]) -> None:
    qmp = f"unix:{lan.folder / 'web.qmp'},server=on,wait=off"
    with lan.guest("--name", "leased", "--net", "br0", "--", *linux, *machine, "-qmp", qmp) as guest:
        first, mac = lan.lease()
        read_until(guest.stdout, f"lease eth0 {first}")
        nic = tapbridge(lan, "attach", "leased", "--net", "br0")["nic"]
        second, leased = lan.lease()
        assert leased == nic["mac"] != mac
        read_until(guest.stdout, f"lease eth1 {second}")
        assert f"{leased} dev {nic['tap']}" in run("bridge", "fdb", "show", "br", "br0").stdout
        assert {row["mac"] for row in tapbridge(lan, "ps")["guests"][0]["nics"]} == {mac, leased}
        run("ping", "-c", "1", "-W", "5", second)
        assert tapbridge(lan, "detach", "leased", nic["tap"])["nic"] == nic
        assert nic["tap"] not in run("ip", "link").stdout
        assert files_of_taps(guest.pid) == 1
        run("ping", "-c", "1", "-W", "5", first)
        assert tapbridge(lan, "attach", "leased", "--net", "br0")["nic"]["mac"] == leased
        assert lan.lease() == (second, leased)
        assert guest.stdin is not None
        guest.stdin.write(b"off\n")
        guest.stdin.flush()
        assert guest.wait(30) == 0
    assert "tbtap" not in run("ip", "link").stdout
