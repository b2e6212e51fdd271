"""No test session runs in the machine's own network, and no unit test reaches any network at all."""

from __future__ import annotations

import ctypes
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from kit.outside import outside_shut

ROOT = Path(__file__).parent.parent
PURE = (ROOT / "tests/unit", ROOT / "tests/property")
INITIAL = {"net": "TAPBRIDGE_INITIAL_NETNS", "mnt": "TAPBRIDGE_INITIAL_MNTNS"}
BEFORE = pytest.StashKey[set[str]]()
LEFT = pytest.StashKey[list[str]]()
HOW = "run script/test, or: unshare --net --mount --propagation private .venv/bin/python -m pytest"
COVERED = Path("/run/.tapbridge-tests")

hypothesis.settings.register_profile("default", deadline=None)
# One commit, one verdict: the examples of CI are the same in every run; a developer's are new ones.
hypothesis.settings.register_profile("ci", deadline=None, max_examples=1000, derandomize=True)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Refuse the initial namespaces; cover /run, so that nothing of the session outlives it."""
    for kind, told in INITIAL.items():
        if os.readlink(f"/proc/self/ns/{kind}") in {_find_ns(1, kind), os.environ.get(told) or _outermost(kind)}:
            pytest.exit(f"refused: this is, or may be, the machine's own {kind} namespace\nhint: {HOW}", returncode=3)
    _cover()
    session.config.stash[BEFORE] = _present()


@pytest.hookimpl(trylast=True)  # after the fixtures of the session
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A session that leaves something behind has failed, whatever its tests say."""
    before = session.config.stash.get(BEFORE, None)
    left = session.config.stash[LEFT] = [] if before is None else sorted(_present() - before)
    if left and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name what was left behind."""
    for what in config.stash.get(LEFT, []):
        terminalreporter.write_line(f"LEFT BEHIND: {what}", red=True)


def _present() -> set[str]:
    """What a test may make and must take away again: links, named namespaces, mounts, files of ours."""
    links = {f"link {link}" for link in os.listdir("/sys/class/net")}
    mounts = {f"mount {line.split()[1]}" for line in Path("/proc/self/mounts").read_text().splitlines()}
    folders = ("/run/netns", "/run/tapbridge", "/var/lib/tapbridge")
    return links | mounts | {f"file {path}" for folder in folders for path in Path(folder).rglob("*")}


def _find_ns(pid: int, kind: str) -> str | None:
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}")
    except OSError:
        return None


def _outermost(kind: str) -> str | None:
    """The namespace of our farthest ancestor that may be asked: ours, if none but we may."""
    found, pid = None, os.getpid()
    while pid > 0:
        found = _find_ns(pid, kind) or found
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return found


def _cover() -> None:
    """Once in a mount namespace: an empty /run, and a /sys that shows the session's links, not the machine's."""
    here = os.readlink("/proc/self/ns/mnt")
    if COVERED.is_file() and COVERED.read_text() == here:  # a worker of pytest-xdist
        return
    libc = ctypes.CDLL(None, use_errno=True)
    for kind, where in ((b"tmpfs", b"/run"), (b"tmpfs", b"/run/netns"), (b"sysfs", b"/sys")):
        os.makedirs(where, exist_ok=True)  # `ip netns` wants a mount point of its own
        if libc.mount(kind, where, kind, 0, None) != 0:
            pytest.exit(f"refused: {where.decode()}: {os.strerror(ctypes.get_errno())}\nhint: {HOW}", returncode=3)
    COVERED.write_text(here)
    os.mkdir("/run/lock", 0o1777)


@pytest.fixture(autouse=True)
def _shut(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """A pure test writes below its tmp_path and nowhere else; Hypothesis keeps its examples in .hypothesis."""
    if not any(request.path.is_relative_to(folder) for folder in PURE):
        yield
        return
    temporary = tmp_path_factory.getbasetemp()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    with outside_shut(temporary, ROOT / ".hypothesis"):
        yield
