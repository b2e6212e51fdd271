"""requirements.lock pins everything, by hash, and what pyproject.toml asks for is in it."""

from __future__ import annotations

import re
import tomllib

from kit.source import ROOT


def test_the_lock_has_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    asked = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    for group in (*project["project"]["optional-dependencies"].values(), *project["dependency-groups"].values()):
        asked += group
    assert {re.split(r"[<>=~! ]", name)[0].replace(".", "-") for name in asked} <= set(locked())


def test_every_locked_package_has_one_version_and_a_hash() -> None:
    packages = locked()
    assert packages
    for name, block in packages.items():
        assert re.match(rf"{name}==[0-9][^ ]* ", block), block.splitlines()[0]
        assert "--hash=sha256:" in block, name


def locked() -> dict[str, str]:
    """Each package of the lock with its block of lines."""
    blocks = re.split(r"\n(?=[a-z])", (ROOT / "requirements.lock").read_text())
    return {block.partition("==")[0]: block for block in blocks if not block.startswith("#")}
