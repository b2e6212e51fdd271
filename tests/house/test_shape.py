"""Size, names and manners of the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from kit.source import ROOT, SRC, files, functions, place, programs, tree

PROGRAMS = ("src/", "tests/", "bench/", "demo/")
FILE_CEILING = 400
FUNCTION_CEILING = 60
TRANSACTION_CEILING = 150  # the whole protocol must be read in one go

AVOIDED = frozenset({
    "interface", "interfaces", "iface", "ifaces", "device", "devices", "slave", "slaves", "member", "members",
    "info", "infos", "data", "manager", "managers", "util", "utils", "helper", "helpers", "common", "base", "misc",
})  # fmt: skip
QEMU_SAYS = {"device", "devices"}  # its option is called -device, and nothing else would be understood
PROPER_NAME = "NetworkManager"
CHANGEABLE = {"broker/loans.py", "guests/ask.py", "guests/listen.py", "lab/spec.py", "transact/guardian.py"}
"""Where dataclasses are changed, or (lab/spec.py) look at themselves when they are made."""


def test_no_file_is_longer_than_can_be_held_in_mind() -> None:
    ceilings = dict.fromkeys(programs(*PROGRAMS), FILE_CEILING)
    if (protocol := SRC / "transact/transaction.py") in ceilings:
        ceilings[protocol] = TRANSACTION_CEILING
    too_long = [
        f"{place(path)}: {length} lines"
        for path, ceiling in ceilings.items()
        if (length := len(path.read_text().splitlines())) > ceiling
    ]
    assert ceilings
    assert not too_long


def test_no_function_is_longer_than_a_page() -> None:
    too_long = [
        f"{place(path, function)} {function.name}: {length} lines"
        for path in programs(*PROGRAMS)
        for function in functions(tree(path))
        if (length := (function.end_lineno or 0) - function.lineno + 1) > FUNCTION_CEILING
    ]
    assert not too_long


def test_things_have_the_names_of_the_design() -> None:
    found = [
        f"{where}: {name}"
        for path in programs("src/", "tests/kit/", "bench/", "demo/")
        for where, name in named(path)
        if words(name) & (AVOIDED - (QEMU_SAYS if path.is_relative_to(SRC / "qemu") else set()))
    ]
    assert not found


def test_a_name_is_read_by_its_words() -> None:
    assert words("parse_ifaceInfo2") == {"parse", "iface", "info"}
    assert words("HTTPManager") == {"http", "manager"}
    assert not words("database_basename_metadata") & AVOIDED


def words(name: str) -> set[str]:
    """The words of a name in snake_case or CamelCase."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name.replace(PROPER_NAME, ""))}


def named(path: Path) -> Iterator[tuple[str, str]]:
    """Every name that a file gives: its own, and those of its classes, functions, parameters and variables.

    Constants in capitals are left out: many are the kernel's own.
    """
    yield place(path), path.relative_to(ROOT).as_posix()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield place(path, node), node.name
        elif isinstance(node, ast.arg):
            yield place(path, node), node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and not node.id.isupper():
            yield place(path, node), node.id


def test_only_the_entry_point_catches_everything() -> None:
    catching = [
        place(path, node)
        for path in programs("src/")
        if path != SRC / "cli/main.py"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ExceptHandler) and catches_all(node.type) and not raises_again(node)
    ]
    assert not catching


def catches_all(kind: ast.expr | None) -> bool:
    """Whether an except clause is bare or names Exception or BaseException."""
    kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    return any(item is None or ast.unparse(item) in {"Exception", "BaseException"} for item in kinds)


def raises_again(handler: ast.ExceptHandler) -> bool:
    """Whether a handler tidies up and lets the error go on."""
    return isinstance(handler.body[-1], ast.Raise) and handler.body[-1].exc is None


def test_nothing_in_the_depths_ends_the_program() -> None:
    ending = [
        place(path, node)
        for path in programs("src/")
        if path not in (SRC / "cli/main.py", SRC / "__main__.py")
        for statement in tree(path).body
        if not (isinstance(statement, ast.If) and ast.unparse(statement.test) == "__name__ == '__main__'")
        for node in ast.walk(statement)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"exit", "quit", "sys.exit", "SystemExit"}
    ]
    assert not ending


def test_frozen_dataclasses_are_made_when_they_are_first_used() -> None:
    """By model/noun: whoever imports the library's pays for it at each start."""
    imported = "from dataclasses import "
    importers = {path.relative_to(SRC).as_posix() for path in programs("src/") if f"\n{imported}" in path.read_text()}
    assert importers == CHANGEABLE


def test_every_test_asserts() -> None:
    shared = [function for path in programs("tests/kit/") for function in functions(tree(path))]
    tests = 0
    silent: list[str] = []
    for path in programs("tests/"):
        own = list(functions(tree(path)))
        known = {function.name: function for function in (*shared, *own)}
        for function in own:
            if function.name.startswith("test_"):
                tests += 1
                silent += [f"{place(path, function)} {function.name}"] * (not asserts(function, known))
    assert tests
    assert not silent


def asserts(function: ast.AST, known: dict[str, ast.FunctionDef | ast.AsyncFunctionDef]) -> bool:
    """Whether a test can fail by itself: an assert, pytest.raises or .fail, or a call of what asserts for it."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func).rpartition(".")[2]
            if called in {"raises", "fail"}:
                return True
            if called in known and asserts(known[called], {name: f for name, f in known.items() if name != called}):
                return True
    return False


def test_a_test_that_only_calls_asserts_nothing() -> None:
    module = ast.parse("def test_one(): run()\ndef test_two(): check()\ndef check(): assert done()\ndef run(): stop()")
    known = {function.name: function for function in functions(module)}
    assert not asserts(known["test_one"], known)
    assert asserts(known["test_two"], known)


def test_no_file_names_a_registry_or_somebody_s_machine() -> None:
    hosts = (
        "pypi" + ".org",
        "python" + "hosted.org",
        "npm" + "js.org",
        "crates" + ".io",
        "proxy.gol" + "ang.org",
        "debian" + ".org",
    )
    machines = ("/wo" + "rk/", "/opt/" + "wheels", "/opt/" + "pypi", "/root/." + "pyenv", "/home/" + "runner")
    naming = [
        f"{place(path)}: {text}"
        for path in files()
        for text in (*hosts, *machines)
        if text in path.read_text(errors="replace")
    ]
    assert not naming
