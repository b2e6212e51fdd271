"""The arrows between the layers hold, and what holds them would notice."""

from __future__ import annotations

import ast
import shutil
import sys
import tomllib
from pathlib import Path

from kit.command import run
from kit.source import ROOT, SRC, place, programs, tree

LINTER = Path(sys.executable).parent / "lint-imports"


def test_the_arrows_hold() -> None:
    done = run(LINTER, "--no-cache", cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout


def test_an_arrow_against_the_layers_is_noticed(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "src/tapbridge", tmp_path / "tapbridge", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    wrong = {
        "model/values.py": "import tapbridge.core",
        "core/__init__.py": "import tapbridge.ports",
        "qemu/__init__.py": "import tapbridge.linux",
        "linux/__init__.py": "import tapbridge.cli",
    }
    for file, line in wrong.items():
        with open(tmp_path / "tapbridge" / file, "a") as module:
            module.write(f"\n{line}\n")
    with open(tmp_path / "tapbridge/core/__init__.py", "a") as module:
        module.write("import time\n")
    done = run(LINTER, "--no-cache", cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, check=False)
    assert done.returncode == 1
    for importer, imported in (("model", "core"), ("core", "ports"), ("qemu", "linux"), ("linux", "cli")):
        assert f"tapbridge.{importer} is not allowed to import tapbridge.{imported}" in done.stdout
    assert "tapbridge.core is not allowed to import time" in done.stdout


def test_the_model_stands_on_the_standard_library_alone() -> None:
    foreign = [
        f"{place(path, node)}: {name}"
        for path in programs("src/tapbridge/model/")
        for node in ast.walk(tree(path))
        for name in imported(node)
        if name not in sys.stdlib_module_names and name != "tapbridge"
    ]
    assert not foreign


def test_what_the_program_imports_is_what_it_depends_on() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    used = {
        (name, path.relative_to(SRC).as_posix())
        for path in programs("src/")
        for node in ast.walk(tree(path))
        for name in imported(node)
        if name not in sys.stdlib_module_names and name != "tapbridge"
    }
    assert used == {("qemu", "qemu/qmp.py")}  # an extra, so nothing else may need it
    assert (project["dependencies"], project["optional-dependencies"]) == ([], {"qmp": ["qemu.qmp"]})


def imported(node: ast.AST) -> list[str]:
    """The top-level packages that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name.partition(".")[0] for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
        return [node.module.partition(".")[0]]
    return []
