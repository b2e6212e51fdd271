"""What watches over the tests: the refusal, the search for leftovers, the limit."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kit.command import run
from kit.source import ROOT

SESSION = (sys.executable, ROOT / "tests/kit/session.py")
CONFIG = ROOT / "pyproject.toml"
PYTEST = (
    sys.executable,
    "-m",
    "pytest",
    "-q",
    "-p",
    "conftest",
    "-c",
    ROOT / "pyproject.toml",
    "-p",
    "no:cacheprovider",
)
ENV = {"PYTHONPATH": str(ROOT / "tests")}


def pytest_on(tmp_path: Path, body: str, *more: str) -> subprocess.CompletedProcess[str]:
    """Run pytest, with our conftest, on one test with this body, in new namespaces."""
    test = tmp_path / "test_it.py"
    test.write_text(f"import os, pathlib\n\ndef test_it():\n    {body}\n    assert True\n")
    unshare = ("unshare", "--net", "--mount", "--propagation", "private")
    return run(*unshare, *PYTEST, f"--rootdir={tmp_path}", test, *more, check=False, env=ENV)


def test_tests_run_in_namespaces_of_their_own(tmp_path: Path) -> None:
    assert pytest_on(tmp_path, "pass").returncode == 0


@pytest.mark.parametrize("kind", ["net", "mnt"])
def test_tests_refuse_the_machine_s_own_namespaces(kind: str) -> None:
    told = {f"TAPBRIDGE_INITIAL_{kind.upper()}NS": os.readlink(f"/proc/self/ns/{kind}")}
    refused = run(*PYTEST, ROOT / "tests/unit", check=False, env=ENV | told)
    assert refused.returncode == 3
    assert "script/test" in refused.stdout + refused.stderr
    assert "passed" not in refused.stdout


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ("os.system('ip link add v0 type veth peer name v1')", "link v0"),
        ("os.system('ip netns add forgotten')", "file /run/netns/forgotten"),
        ("os.makedirs('/run/tapbridge/journal')", "file /run/tapbridge/journal"),
        ("os.system('mount -t tmpfs none /mnt')", "mount /mnt"),
    ],
)
@pytest.mark.parametrize("more", [(), ("-n", "2")], ids=["alone", "workers"])
def test_a_session_that_leaves_something_behind_has_failed(
    tmp_path: Path, body: str, left: str, more: tuple[str, ...]
) -> None:
    done = pytest_on(tmp_path, body, *more)
    assert done.returncode == 1
    assert f"LEFT BEHIND: {left}" in done.stdout


def test_an_orphan_is_named_and_killed() -> None:
    done = run(*SESSION, "20", "sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 &", check=False)
    assert done.returncode == 1
    found = re.search(r"left behind: process (\d+): sleep 1000", done.stderr)
    assert found
    assert not Path(f"/proc/{found[1]}").exists()


def test_the_exit_code_is_the_command_s_own() -> None:
    assert run(*SESSION, "20", "sh", "-c", "exit 5", check=False).returncode == 5
    assert run(*SESSION, "20", "true", check=False).returncode == 0


def test_a_command_that_hangs_is_interrupted_at_the_limit() -> None:
    hanging = "import time\ntry: time.sleep(1000)\nexcept KeyboardInterrupt: raise SystemExit(7)"
    done = run(*SESSION, "1", sys.executable, "-c", hanging, check=False)
    assert done.returncode == 7
    assert "limit of 1 s" in done.stderr
