"""Labs for tests: each in a folder of its own, gone at the end."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from kit.command import run
from kit.labs import TAPBRIDGE, MakeLab, Tapbridge
from tapbridge.lab.build import lab
from tapbridge.lab.record import Shelf
from tapbridge.lab.remove import leftovers, remove
from tapbridge.lab.spec import Spec

DYING_S = 2.0
"""How long what was killed may take until nothing shows it any more."""


@pytest.fixture
def run_dir(tmp_path: Path) -> Iterator[Path]:
    """A run folder; whatever lab a test forgets there is its failure."""
    folder = tmp_path / "run"
    yield folder
    shelf = Shelf(folder)
    deadline = time.monotonic() + DYING_S
    with shelf.locked():
        while (forgotten := leftovers(shelf)) and time.monotonic() < deadline:
            time.sleep(0.05)
        for name in forgotten:
            remove(shelf, name)
    assert not forgotten


@pytest.fixture
def make_lab(run_dir: Path) -> Iterator[MakeLab]:
    """Make a lab with these options; it goes at the end."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(lab(Spec(**{"dad": False, **options}), run_dir))


@pytest.fixture
def tapbridge(run_dir: Path) -> Tapbridge:
    """The program as a whole process; `exit_code` is what it must end with."""

    def call(*words: str, exit_code: int = 0, stdin: str = "") -> subprocess.CompletedProcess[str]:
        done = run(*TAPBRIDGE, *words, check=False, stdin=stdin, env={"TAPBRIDGE_RUN_DIR": str(run_dir)})
        assert done.returncode == exit_code, f"{words}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    return call
