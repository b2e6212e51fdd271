"""`status` says who holds a bridge, by what is seen at a glance, and believes no user."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kit.command import run
from kit.holders import Processes, make_bridge
from kit.netns import new_netns
from tapbridge.linux.holding import find_holders

NAMED = "import ctypes, time\nctypes.CDLL(None).prctl(15, {name!r})\nprint(flush=True)\ntime.sleep(60)"


@pytest.fixture
def processes() -> Iterator[Processes]:
    """A test's processes, in a namespace with br0."""
    found = Processes()
    with new_netns() as here, here.entered():
        make_bridge()
        try:
            yield found
        finally:
            found.end()


def start(processes: Processes, name: bytes, *words: str, before: str = "") -> None:
    """A process of that name with those words."""
    processes.start(sys.executable, "-c", before + NAMED.format(name=name), *words, until="\n")


def shown() -> Any:
    """The bridge, as `status` tells of it."""
    (bridge,) = json.loads(run(sys.executable, "-m", "tapbridge", "status", "--json").stdout)["bridges"]
    return bridge


def test_a_client_is_found_by_the_name_that_it_was_told(processes: Processes) -> None:
    assert find_holders([("br0", 2)]) == {}
    start(processes, b"dhclient", "-4", "br0")
    assert find_holders([("br0", 2), ("br1", 3)]) == {"br0": "dhclient"}
    assert (shown()["owner"], shown()["lease"]) == ("dhclient", None)
    run("ip", "address", "add", "192.0.2.8/24", "dev", "br0")
    run("ip", "address", "add", "192.0.2.9/24", "dev", "br0", "valid_lft", "600", "preferred_lft", "600")
    lease = shown()["lease"]
    assert lease["ip"] == "192.0.2.9" and 590 <= lease["valid_lft"] <= 600
    processes.end()
    assert (shown()["owner"], shown()["lease"]) == (None, None)


def test_a_manager_is_found_by_what_it_says_of_the_link(processes: Processes) -> None:
    folder = Path("/run/systemd/netif/links")
    start(processes, b"systemd-network")
    folder.mkdir(parents=True)
    try:
        for told, holder in (("unmanaged", {}), ("configured", {"br0": "systemd-networkd"})):
            (folder / "7").write_text(f"# private\nADMIN_STATE={told}\n")
            assert find_holders([("br0", 7), ("br1", 8)]) == holder
    finally:
        (folder / "7").unlink()
        os.removedirs(folder)


def test_a_user_s_process_of_that_name_is_not_believed(processes: Processes) -> None:
    start(processes, b"dhclient", "br0", before="import os\nos.setgid(65534); os.setuid(65534)\n")
    assert find_holders([("br0", 2)]) == {}
