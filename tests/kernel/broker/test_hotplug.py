"""A user without any privilege plugs a tap that the broker lends into a QEMU of his own, and takes it out."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from kit.brokers import ALICE, BOB, Site, as_user, taps, until
from kit.command import run
from kit.holders import QEMU


def tapbridge(site: Site, uid: int, *words: str) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", "tapbridge", *words, "--root", str(site.folder), "--json")
    return run(*as_user(uid), *command, check=False)


def test_a_user_plugs_a_lent_tap_into_his_guest_and_into_nobody_else_s(broker: Site) -> None:
    home = broker.folder / "home"
    home.mkdir()
    os.chown(home, ALICE, ALICE)
    monitor = f"unix:{home / 'web.qmp'},server=on,wait=off"
    words = (*as_user(ALICE), *QEMU, "-name", "lent", "-usb", "-qmp", monitor)
    guest = broker.processes.start(*words, until='{"QMP"')
    nic = ("--net", "br0", "--model", "usb-net")
    assert tapbridge(broker, BOB, "attach", str(guest.pid), *nic).returncode == 5
    assert taps() == []
    done = tapbridge(broker, ALICE, "attach", "lent", *nic)
    assert done.returncode == 0, done.stdout
    (tap,) = taps()
    assert tap.port is not None
    assert (tap.name, tap.master, tap.port.locked) == (json.loads(done.stdout)["nic"]["tap"], "br0", True)
    assert f" pid={guest.pid} " in (tap.alias or "")
    done = tapbridge(broker, ALICE, "detach", "lent")
    assert done.returncode == 0, done.stdout
    assert until(lambda: taps() == [])
