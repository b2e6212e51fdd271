"""`service` below a root: what is written, what a second run does, what is refused, what is taken away."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tapbridge.cli.main import main
from tapbridge.core.service import pieces
from tapbridge.core.signed import is_as_made

UNIT = "etc/systemd/system/tapbridge-recover.service"
WANTED = "etc/systemd/system/sysinit.target.wants/tapbridge-recover.service"
SCRIPT = "etc/init.d/tapbridge-recover"
KINDS = {"systemd": ["write", "link", "write", "link", "write"], "sysv": ["write", "link"]}
each_init = pytest.mark.parametrize(("init", "path"), [("systemd", UNIT), ("sysv", SCRIPT)])


@pytest.fixture
def roots(tmp_path: Path) -> dict[str, Path]:
    """The roots of a system with systemd, of one with an init of System V, and of one with neither."""
    found = {name: tmp_path / name for name in ("systemd", "sysv", "bare")}
    for root in found.values():
        (root / "sbin").mkdir(parents=True)
    (found["systemd"] / "sbin/init").symlink_to("/lib/systemd/systemd")
    for path in ("sbin/init", "usr/sbin/update-rc.d"):
        (found["sysv"] / path).parent.mkdir(parents=True, exist_ok=True)
        (found["sysv"] / path).touch()
    return found


def service(verb: str, root: Path, *words: str, code: int = 0) -> None:
    assert main(["service", verb, "--root", str(root), *words]) == code


def tree(root: Path) -> dict[str, str]:
    """Every file and link below a root."""
    return {
        str(path.relative_to(root)): os.readlink(path) if path.is_symlink() else path.read_text()
        for path in root.rglob("*")
        if path.is_symlink() or path.is_file()
    }


@each_init
def test_remove_takes_away_exactly_what_install_made(init: str, path: str, roots: dict[str, Path]) -> None:
    root = roots[init]
    before = tree(root)
    service("install", root)
    assert is_as_made((root / path).read_text())
    assert len(tree(root)) == len(before) + len(KINDS[init])
    service("remove", root)
    assert tree(root) == before


@each_init
def test_a_second_run_has_nothing_to_do(
    init: str, path: str, roots: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for verb in ("install", "remove"):
        service(verb, roots[init])
        before = tree(roots[init])
        capsys.readouterr()
        service(verb, roots[init], "--json")
        document = json.loads(capsys.readouterr().out)
        assert (document["outcome"], document["steps"]) == ("nothing", [])
        assert tree(roots[init]) == before


@each_init
def test_a_dry_run_shows_every_line_and_writes_none(
    init: str, path: str, roots: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree(roots[init])
    service("install", roots[init], "--dry-run")
    shown = capsys.readouterr().out
    service("install", roots[init], "--dry-run", "--json")
    planned = json.loads(capsys.readouterr().out)
    assert tree(roots[init]) == before
    service("install", roots[init])
    assert f"+++ {roots[init] / path}" in shown
    assert {f"+{line}" for line in (roots[init] / path).read_text().splitlines()} <= set(shown.splitlines())
    assert planned["outcome"] == "planned"
    assert [step["text"].split()[0] for step in planned["steps"]] == KINDS[init]
    assert not any(step["done"] for step in planned["steps"])


@each_init
@pytest.mark.parametrize("verb", ["install", "remove"])
def test_a_change_by_hand_is_kept_unless_forced(
    verb: str, init: str, path: str, roots: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    service("install", roots[init])
    changed = (roots[init] / path).read_text() + "# mine\n"
    (roots[init] / path).write_text(changed)
    service(verb, roots[init], code=3)
    assert f"{roots[init] / path} was changed by hand" in capsys.readouterr().err
    assert (roots[init] / path).read_text() == changed
    service(verb, roots[init], "--force")
    assert (roots[init] / path).exists() == (verb == "install")
    assert verb == "remove" or is_as_made((roots[init] / path).read_text())


def test_the_file_of_another_version_is_replaced(roots: dict[str, Path]) -> None:
    older = pieces("systemd", "/opt/older/bin/python")[0].text
    assert older is not None
    (roots["systemd"] / UNIT).parent.mkdir(parents=True)
    (roots["systemd"] / UNIT).write_text(older)
    service("install", roots["systemd"])
    text = (roots["systemd"] / UNIT).read_text()
    assert f"ExecStart={sys.executable} -I -m tapbridge recover --boot" in text.splitlines()


def test_a_masked_unit_stays_masked(roots: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    service("install", roots["systemd"])
    unit = roots["systemd"] / UNIT
    unit.unlink()
    unit.symlink_to("/dev/null")
    for verb in ("install", "remove"):
        service(verb, roots["systemd"], code=3)
        assert f"{unit} is a link to /dev/null" in capsys.readouterr().err
    service("install", roots["systemd"], "--force")
    assert not unit.is_symlink()
    assert is_as_made(unit.read_text())


def test_links_that_insserv_has_numbered_stay_and_go_with_the_script(roots: dict[str, Path]) -> None:
    root = roots["sysv"]
    service("install", root)
    assert os.readlink(root / "etc/rcS.d/S01tapbridge-recover") == "../init.d/tapbridge-recover"
    (root / "etc/rcS.d/S01tapbridge-recover").rename(root / "etc/rcS.d/S11tapbridge-recover")
    before = tree(root)
    service("install", root)
    assert tree(root) == before
    service("remove", root)
    assert not [path for path in tree(root) if "tapbridge" in path]


def test_a_system_with_another_init_is_refused(roots: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    service("install", roots["bare"], code=3)
    assert "recover --boot" in capsys.readouterr().err
    service("remove", roots["bare"])
    assert tree(roots["bare"]) == {}


def test_a_failure_leaves_everything_as_it_was(roots: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    blocking = roots["systemd"] / Path(WANTED).parent
    blocking.parent.mkdir(parents=True)
    blocking.write_text("no folder")
    before = tree(roots["systemd"])
    service("install", roots["systemd"], code=1)
    assert "cannot be made" in capsys.readouterr().err
    assert tree(roots["systemd"]) == before


def test_an_interpreter_that_init_would_read_otherwise_is_refused(
    roots: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/opt/my own/bin/python")
    service("install", roots["systemd"], code=3)
    assert UNIT not in tree(roots["systemd"])


def test_the_script_has_the_header_that_insserv_reads(roots: dict[str, Path]) -> None:
    service("install", roots["sysv"])
    text = (roots["sysv"] / SCRIPT).read_text()
    header: dict[str, Any] = dict(re.findall(r"^# ([A-Za-z-]+): *(.*)$", text, re.MULTILINE))
    assert text.startswith("#!/bin/sh\n")
    assert (header["Provides"], header["Default-Start"], header["Default-Stop"]) == ("tapbridge-recover", "S", "")
    assert header["Required-Start"] == "$local_fs"
    assert "networking" in header["X-Start-Before"].split()
    assert (roots["sysv"] / SCRIPT).stat().st_mode & 0o7777 == 0o755


def test_the_broker_is_installed_where_it_is_asked_for_and_removed_in_any_case(roots: dict[str, Path]) -> None:
    root = roots["systemd"]
    before = tree(root)
    service("install", root)
    service("install", root, "--broker")
    made = tree(root)
    assert sorted(name for name in made if "broker" in name) == [
        "etc/systemd/system/sockets.target.wants/tapbridge-broker.socket",
        "etc/systemd/system/tapbridge-broker.service",
        "etc/systemd/system/tapbridge-broker.socket",
    ]
    assert all(is_as_made(text) for name, text in made.items() if "broker" in name and "wants" not in name)
    service("install", root, "--broker")
    service("install", root)
    assert tree(root) == made
    (root / "etc/systemd/system/tapbridge-broker.service").write_text("[Service]\n")
    service("remove", root, code=3)
    service("remove", root, "--force")
    assert tree(root) == before


def test_an_init_that_is_not_systemd_is_told_of_no_broker(roots: dict[str, Path]) -> None:
    before = tree(roots["sysv"])
    service("install", roots["sysv"], "--broker", code=3)
    assert tree(roots["sysv"]) == before
