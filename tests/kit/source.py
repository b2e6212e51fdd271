"""The repository as the house rules see it."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

from kit.command import run

ROOT = Path(__file__).parent.parent.parent
SRC = ROOT / "src/tapbridge"


@functools.cache
def files() -> tuple[Path, ...]:
    """Every file that is in git or would be after `git add --all`."""
    listed = run(
        "git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT
    ).stdout
    return tuple(sorted(path for name in set(listed.split("\0")) if name and (path := ROOT / name).is_file()))


def programs(*folders: str) -> tuple[Path, ...]:
    """The Python files below these folders of the repository."""
    return tuple(
        path for path in files() if path.suffix == ".py" and path.relative_to(ROOT).as_posix().startswith(folders)
    )


@functools.cache
def tree(path: Path) -> ast.Module:
    """A file's syntax tree."""
    return ast.parse(path.read_text(), filename=str(path))


def functions(module: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method, nested ones too."""
    return (node for node in ast.walk(module) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def place(path: Path, node: ast.AST | None = None) -> str:
    """`file:line`, for the reader of a failure."""
    line = f":{node.lineno}" if isinstance(node, ast.stmt | ast.expr | ast.ExceptHandler | ast.arg) else ""
    return f"{path.relative_to(ROOT)}{line}"
