"""script/demo's program, as its reader runs it."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from kit.command import run
from kit.source import ROOT

DEMO = (sys.executable, ROOT / "demo/demo.py")


def environment(run_dir: Path) -> dict[str, str]:
    return {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "TAPBRIDGE_RUN_DIR": str(run_dir)}


def test_the_demo_shows_that_everything_held(tmp_path: Path) -> None:
    done = run(*DEMO, env=environment(tmp_path), timeout_s=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "NOT HELD" not in done.stdout
    assert re.search(r"^Everything held\. \d+ seconds\.$", done.stdout, re.MULTILINE)
    assert re.search(r"^  UDP echo +[\d,]{6,} sent +\d+ lost$", done.stdout, re.MULTILINE)
    assert re.search(r"^  +└─ tbtap0  tap, up\n.* web", done.stdout, re.MULTILINE)  # the tree
    assert list(tmp_path.iterdir()) == []


def test_the_demo_leaves_a_lab_of_its_name_alone(tmp_path: Path) -> None:
    lab = (sys.executable, "-m", "tapbridge", "lab")
    run(*lab, "up", "demo", "--addresses", "static", "--no-dad", env=environment(tmp_path))
    try:
        done = run(*DEMO, env=environment(tmp_path), check=False)
        assert (done.returncode, "tapbridge lab down demo" in done.stderr) == (3, True)
        assert run(*lab, "exec", "demo", "--", "hostname", env=environment(tmp_path)).stdout == "h1\n"
    finally:
        run(*lab, "down", "demo", env=environment(tmp_path))
