"""No test session runs in the machine's own network, and no unit test reaches any network at all."""

from __future__ import annotations

import ctypes
import gc
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from kit.outside import outside_shut

ROOT = Path(__file__).parent.parent
PURE = (ROOT / "tests/unit", ROOT / "tests/property")
INITIAL = {"net": "TAPBRIDGE_INITIAL_NETNS", "mnt": "TAPBRIDGE_INITIAL_MNTNS"}
NEW = 0x40000000 | 0x00020000  # CLONE_NEWNET, CLONE_NEWNS
BEFORE = pytest.StashKey[set[str]]()
LEFT = pytest.StashKey[list[str]]()
OF_WORKERS = pytest.StashKey[list[str]]()
HOW = "run script/test, or: unshare --net --mount --propagation private .venv/bin/python -m pytest"

hypothesis.settings.register_profile("default", deadline=None)
# One commit, one verdict: the examples of CI are the same in every run; a developer's are new ones.
hypothesis.settings.register_profile("ci", deadline=None, max_examples=1000, derandomize=True)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Refuse the initial namespaces; cover /run, so that nothing of the session outlives it."""
    for kind, told in INITIAL.items():
        if os.readlink(f"/proc/self/ns/{kind}") in {_find_ns(1, kind), os.environ.get(told) or _outermost(kind)}:
            pytest.exit(f"refused: this is, or may be, the machine's own {kind} namespace\nhint: {HOW}", returncode=3)
    if hasattr(session.config, "workerinput"):  # of pytest-xdist: what one leaves behind must not confuse another
        _must_not_fail(ctypes.CDLL(None, use_errno=True).unshare(NEW), "a worker's own namespaces")
    _cover()
    session.config.stash[BEFORE] = _present()


@pytest.hookimpl(trylast=True)  # after the fixtures of the session
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A session that leaves something behind has failed, whatever its tests say."""
    before = session.config.stash.get(BEFORE, None)
    left = [] if before is None else sorted(_present() - before)
    if (told := getattr(session.config, "workeroutput", None)) is not None:
        told["left"] = left
    of_workers: list[str] = session.config.stash.get(OF_WORKERS, [])
    left += of_workers
    session.config.stash[LEFT] = left
    if left and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """A worker of pytest-xdist has ended; one that crashed has told nothing, and its test has failed."""
    left = getattr(node, "workeroutput", {}).get("left", [])
    node.config.stash[OF_WORKERS] = [*node.config.stash.get(OF_WORKERS, []), *left]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name what was left behind."""
    for what in config.stash.get(LEFT, []):
        terminalreporter.write_line(f"LEFT BEHIND: {what}", red=True)


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """A command ends before garbage matters, and collects none; what ran one in its own process goes on for long."""
    yield
    gc.enable()


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
    """An empty /run, and a /sys that shows the session's links, not the machine's."""
    libc = ctypes.CDLL(None, use_errno=True)
    for kind, where in ((b"tmpfs", b"/run"), (b"tmpfs", b"/run/netns"), (b"sysfs", b"/sys")):
        os.makedirs(where, exist_ok=True)  # `ip netns` wants a mount point of its own
        _must_not_fail(libc.mount(kind, where, kind, 0, None), where.decode())
    os.mkdir("/run/lock", 0o1777)


def _must_not_fail(code: int, what: str) -> None:
    if code != 0:
        pytest.exit(f"refused: {what}: {os.strerror(ctypes.get_errno())}\nhint: {HOW}", returncode=3)


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
