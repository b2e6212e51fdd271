"""`install-ifup` below a root: what is written, what is kept, what is refused, what comes back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tapbridge.cli.main import main
from tapbridge.core.ifup import scripts
from tapbridge.core.signed import is_as_made

DEBIANS = "#! /bin/sh\necho the distribution's own\n"
KEPT = "etc/qemu-ifup.before-tapbridge"


def install(root: Path, *words: str, code: int = 0) -> None:
    assert main(["install-ifup", "--root", str(root), *words]) == code


def tree(root: Path) -> dict[str, tuple[str, int]]:
    """Every file below a root, with its mode; of a link, where it points."""
    return {
        str(path.relative_to(root)): (
            str(path.readlink()) if path.is_symlink() else path.read_text(),
            path.lstat().st_mode & 0o777,
        )
        for path in root.rglob("*")
        if not path.is_dir()
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    return tmp_path


@pytest.fixture
def debian(root: Path) -> Path:
    """A root with somebody else's script in it."""
    (root / "etc/qemu-ifup").write_text(DEBIANS)
    (root / "etc/qemu-ifup").chmod(0o750)
    return root


def test_the_scripts_are_put_in_place_once_and_taken_away(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(root, "--json")
    assert [step["text"] for step in json.loads(capsys.readouterr().out)["steps"]] == [
        f"write {root / path}" for path in scripts()
    ]
    assert tree(root) == {path: (text, 0o755) for path, text in scripts().items()}
    assert all(is_as_made(text) for text in scripts().values())
    install(root, "--json")
    assert json.loads(capsys.readouterr().out)["outcome"] == "nothing"
    install(root, "--remove")
    assert tree(root) == {}
    install(root, "--remove", "--json")
    assert '"outcome": "nothing"' in capsys.readouterr().out


def test_what_is_somebody_else_s_is_left_alone(debian: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = tree(debian)
    install(debian, code=3)
    assert f"error: {debian}/etc/qemu-ifup is not ours" in capsys.readouterr().err
    install(debian, "--remove")
    assert tree(debian) == before


@pytest.mark.parametrize("link", [False, True])
def test_what_was_there_comes_back_as_it_was(debian: Path, link: bool) -> None:
    if link:
        (debian / "etc/qemu-ifup").rename(debian / "etc/other")
        (debian / "etc/qemu-ifup").symlink_to("other")
    before = tree(debian)
    install(debian, "--force")
    assert tree(debian) == {
        **{path: place for path, place in before.items() if path != "etc/qemu-ifup"},
        **{path: (text, 0o755) for path, text in scripts().items()},
        KEPT: before["etc/qemu-ifup"],
    }
    install(debian, "--force")
    install(debian, "--remove")
    assert tree(debian) == before


def test_an_older_one_of_ours_is_replaced_and_a_changed_one_is_not(root: Path) -> None:
    path = root / "etc/qemu-ifup"
    install(root)
    made = path.read_text()
    path.write_text(made + "echo more\n")
    install(root, code=3)
    install(root, "--remove", code=3)
    install(root, "--remove", "--force")
    assert tree(root) == {}
    from tapbridge.core.signed import sign

    path.write_text(sign("#!/bin/sh\nexit 0\n", "install-ifup"))
    install(root)
    assert path.read_text() == made


def test_what_fails_in_the_middle_is_taken_back(debian: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (debian / "etc/qemu-ifdown").mkdir()
    (debian / "etc/qemu-ifdown.before-tapbridge").mkdir()
    (debian / "etc/qemu-ifdown.before-tapbridge/full").touch()
    before = tree(debian)
    install(debian, "--force", code=1)
    assert "qemu-ifdown" in capsys.readouterr().err
    assert tree(debian) == before
