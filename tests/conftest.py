"""No test session runs in the machine's own network, and no unit test reaches any network at all."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from kit.outside import outside_shut

ROOT = Path(__file__).parent.parent
PURE = (ROOT / "tests/unit", ROOT / "tests/property")
INITIAL = {"net": "TAPBRIDGE_INITIAL_NETNS", "mnt": "TAPBRIDGE_INITIAL_MNTNS"}
HOW = "run script/test, or: unshare --net --mount --propagation private .venv/bin/python -m pytest"
SHELTERED = "/run/.tapbridge-tests"

hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, max_examples=1000)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Refuse the initial namespaces; cover /run, so that nothing of the session outlives it."""
    for kind, told in INITIAL.items():
        initial = {os.environ.get(told), _outermost(kind)} - {None}
        if not initial or os.readlink(f"/proc/self/ns/{kind}") in initial:
            pytest.exit(f"refused: this is, or may be, the machine's own {kind} namespace\nhint: {HOW}", returncode=3)
    if os.geteuid() == 0 and not os.path.exists(SHELTERED):
        _cover()


def _outermost(kind: str) -> str | None:
    """The namespace of process 1; where that may not be read, of our farthest ancestor that may."""
    found, pid = None, os.getpid()
    while pid > 0:
        with contextlib.suppress(OSError):
            found = os.readlink(f"/proc/{pid}/ns/{kind}")
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return found


def _cover() -> None:
    """An empty /run, and a /sys that shows the session's links instead of the machine's."""
    libc = ctypes.CDLL(None, use_errno=True)
    for kind, where in ((b"tmpfs", b"/run"), (b"sysfs", b"/sys")):
        if libc.mount(kind, where, kind, 0, None) != 0:
            pytest.exit(f"refused: {where.decode()}: {os.strerror(ctypes.get_errno())}\nhint: {HOW}", returncode=3)
    Path(SHELTERED).touch()
    os.mkdir("/run/lock", 0o1777)


@pytest.fixture(autouse=True)
def _shut(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A pure test writes below its tmp_path and nowhere else (.hypothesis is Hypothesis's own)."""
    if not any(request.path.is_relative_to(folder) for folder in PURE):
        yield
        return
    with outside_shut(tmp_path_factory.getbasetemp(), ROOT / ".hypothesis"):
        yield
