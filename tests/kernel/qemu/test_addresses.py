"""Whose address a guest must not have, told by name, on a bridge with guests that somebody else has started."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kit.command import run
from kit.holders import Processes, attach, make_bridge
from kit.netns import in_netns

MAC = "52:54:00:00:00:77"
TAP = "tap,id=n0,ifname=tap7,script=no,downscript=no"


@pytest.fixture
def processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Processes]:
    for name in ("RUN", "STATE"):
        monkeypatch.setenv(f"TAPBRIDGE_{name}_DIR", str(tmp_path / name.lower()))
    with in_netns():
        make_bridge()
        started = Processes()
        try:
            yield started
        finally:
            started.end()


def refusal(*words: str) -> str:
    """What `run` says when it refuses."""
    done = run(sys.executable, "-m", "tapbridge", "run", "--net", "br0", *words, "--", "/bin/true", check=False)
    assert done.returncode == 3, done.stderr
    return done.stderr


def address(*words: str) -> str:
    """The address that `args` gives."""
    done = run(sys.executable, "-m", "tapbridge", "args", "--net", "br0", *words, "--json")
    device: str = json.loads(done.stdout)["args"][-1]
    return device.partition("mac=")[2].partition(",")[0]


def test_the_holder_of_an_address_is_told_by_the_name_that_its_own_launcher_gave_it(processes: Processes) -> None:
    processes.qemu("-name", "guest=db", "-netdev", TAP, "-device", f"virtio-net-pci,netdev=n0,mac={MAC}")
    attach("tap7")
    run("bridge", "fdb", "add", MAC, "dev", "tap7", "master", "static")
    assert f"the address {MAC} of the guest 'guest' is in use: by the guest 'db' on tap7" in refusal("--mac", MAC)


def test_a_tap_has_not_the_address_of_another_guest(processes: Processes) -> None:
    processes.qemu("-name", "db", "-netdev", TAP, "-device", "virtio-net-pci,netdev=n0,mac=fe:54:00:00:00:77")
    attach("tap7")
    run("bridge", "fdb", "add", "fe:54:00:00:00:77", "dev", "tap7", "master", "static")
    assert "the address fe:54:00:00:00:77" in refusal("--mac", MAC)


@pytest.mark.usefixtures("processes")
def test_an_address_begins_as_it_is_asked_to() -> None:
    first = address("--mac-prefix", "02:aa:bb:cc", "--name", "web")
    assert first.startswith("02:aa:bb:cc:")
    assert first == address("--mac-prefix", "02:aa:bb:cc", "--name", "web")
    assert address("--name", "web").startswith("52:54:00:")
