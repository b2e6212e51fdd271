"""The fault suite's scenes, each built once, and its record: what every test tried, and the page that tells of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from kit.command import run
from kit.daemons import DAEMONS
from kit.ordeal import Ordeal, ordeal_of
from kit.scenes import OWNED, SCENES
from kit.tally import WHOLE, Tally, together

ROOT = Path(__file__).parent.parent.parent
EVERYWHERE = (
    ("test_a_host_survives_a_kill_anywhere", "up"),
    ("test_a_host_survives_a_kill_anywhere", "down"),
    ("test_an_owner_survives_a_kill_anywhere", "up"),
    ("test_an_owner_survives_a_kill_anywhere", "down"),
    ("test_an_owner_has_back_what_nobody_confirms", None),
)
"""Tests, by name and verb, that CI's sample has in each scene."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """CI's sample is every kill of `up` and `down`, and every `up` that nobody confirms beside an owner; of all else
    each in every other scene, and beside one of the owners."""
    left = set()
    for fixture, scenes, every in (("ordeal", SCENES, 2), ("owned", OWNED, len(OWNED))):
        ours = [item for item in items if isinstance(item, pytest.Function) and fixture in item.fixturenames]
        names = list(dict.fromkeys(_name(item) for item in ours))
        for item in ours:
            turn = names.index(_name(item)) + list(scenes).index(str(item.callspec.params[fixture]))
            if not (WHOLE or _name(item) in EVERYWHERE or turn % every == 1):
                left.add(item)
    config.hook.pytest_deselected(items=list(left))
    items[:] = [item for item in items if item not in left]


def _name(item: pytest.Function) -> tuple[str, str | None]:
    verb = item.callspec.params.get("verb")
    return item.originalname, None if verb is None else str(verb)


@pytest.fixture(scope="session", params=[pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in SCENES])
def ordeal(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ordeal]:
    """A scene, ready for faults; all tests with it run in one worker, one after another."""
    with ordeal_of(SCENES[request.param], tmp_path_factory.mktemp(request.param) / "stage") as found:
        yield found


@pytest.fixture(scope="session", params=[pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in OWNED])
def owned(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ordeal]:
    """A scene whose NIC somebody holds; with a manager, it is in a container, which only root can boot."""
    scene = OWNED[request.param]
    if scene.owner in DAEMONS and Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"]:
        pytest.skip("only root can boot systemd in a container")
    with ordeal_of(scene, tmp_path_factory.mktemp(request.param) / "stage") as found:
        yield found


@pytest.fixture
def tallies(record_property: Callable[[str, object], None]) -> Iterator[list[Tally]]:
    """Where a test puts what it counts; it goes to the session's own process with the test's report."""
    found: list[Tally] = []
    yield found
    for tally in found:
        record_property("tally", asdict(tally))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how much was tried; write the page after a whole run."""
    ends = [report for report in terminalreporter.stats.get("", []) if getattr(report, "when", "") == "teardown"]
    found = [Tally(**told) for report in ends for name, told in report.user_properties if name == "tally"]
    if not found:
        return
    points, wrong = sum(tally.tried for tally in found), sum(len(tally.complaints) for tally in found)
    terminalreporter.write_line(f"faults: {points} points, {wrong} did not hold")
    if WHOLE:
        commit = run("git", "-C", ROOT, "rev-parse", "--short=12", "HEAD", check=False).stdout.strip()
        text = together(ROOT / ".cache/faults.json", found, commit or "unknown")
        (ROOT / "docs/reliability.md").write_text(text)
