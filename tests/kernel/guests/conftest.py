"""A namespace with a bridge, and processes that are dead when it goes."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kit.command import run
from kit.frames import MAC
from kit.holders import Processes, make_bridge
from kit.netns import in_netns


@pytest.fixture
def processes() -> Iterator[Processes]:
    """What a test starts, in a namespace of its own that has a bridge br0."""
    with in_netns():
        make_bridge()
        started = Processes()
        try:
            yield started
        finally:
            started.end()


# Makes /dev/tapN, as udev would, in a /dev that nobody else sees; the file has that name as long as this lives.
_NODE = """
mount -t sysfs none /sys && IFS=: read -r major minor < /sys/class/net/mt0/tap$0/dev &&
mount -t tmpfs none /dev && mknod /dev/tap$0 c $major $minor && echo ready && exec sleep 600
"""


@pytest.fixture
def macvtap(processes: Processes) -> Iterator[int]:
    """A descriptor of the macvtap mt0, whose wire is the veth v1."""
    run("ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1")
    run("ip", "link", "add", "link", "v0", "name", "mt0", "address", MAC, "type", "macvtap", "mode", "bridge")
    for link in ("v1", "v0", "mt0"):
        run("ip", "link", "set", link, "up")
    index = json.loads(run("ip", "-j", "link", "show", "mt0").stdout)[0]["ifindex"]
    maker = processes.start("unshare", "--mount", "sh", "-c", _NODE, str(index), until="ready")
    fd = os.open(Path(f"/proc/{maker.pid}/root/dev/tap{index}"), os.O_RDWR | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


@pytest.fixture
def called(tmp_path: Path) -> Callable[[str], str]:
    """Makes a Python that is called as a hypervisor is; it needs PYTHONHOME."""

    def make(name: str) -> str:
        shutil.copy(Path(sys.executable).resolve(), tmp_path / name)
        return str(tmp_path / name)

    return make
