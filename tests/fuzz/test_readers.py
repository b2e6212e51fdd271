"""Strangers' bytes by the hundred thousand: no reader of them breaks. A million for each with `--all`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from kit.command import run
from kit.source import ROOT
from kit.tally import WHOLE
from kit.targets import TARGETS

RUNS = 1_000_000 if WHOLE else 100_000
FEWER = {} if WHOLE else {"command-line": 25_000}
"""Of readers that take ten times as long."""

LIMIT_S = 3600


def fuzz(target: str, folder: Path, runs: int) -> tuple[int, str]:
    done = run(
        sys.executable,
        "-m",
        "kit.fuzzing",
        target,
        folder,
        str(runs),
        cwd=ROOT / "tests",
        check=False,
        timeout_s=LIMIT_S,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("target", TARGETS)
def test_no_reader_breaks(target: str, tmp_path: Path) -> None:
    runs = FEWER.get(target, RUNS)
    code, said = fuzz(target, tmp_path, runs)
    assert code == 0, said[-4000:]
    assert f"Done {runs} runs" in said
    assert not list(tmp_path.glob("broke-*"))


def test_what_breaks_is_found(tmp_path: Path) -> None:
    code, said = fuzz("planted", tmp_path, RUNS)
    assert code != 0
    assert "RuntimeError: planted" in said
    assert [path.read_bytes()[:3] for path in tmp_path.glob("broke-*")] == [b"tap"]
