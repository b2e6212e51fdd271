"""Somebody else is at work at the same NIC: between any two batches of a change, and while one waits in its window.

However that ends, it ends at one of the two ends, and iproute2 says the same as the command. What he does is in
kit/meddlers.py; every batch of `up`, `up --take-name` and `down` is tried with each of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from kit.changes import document, is_ended, pending, started, until
from kit.lan import batch, host_on_lan
from kit.meddlers import ACTS, STRANGE, Act, MeddledWorld, Meddling, Reading, answers, meddle, read_host
from kit.netns import Netns
from tapbridge.cli.parser import load_command, parse
from tapbridge.cli.result import Result, result_of
from tapbridge.cli.world import World
from tapbridge.model.errors import TapbridgeError

ALL = bool(os.environ.get("TAPBRIDGE_TEST_ALL"))
MOST = 20
UP = ("up", "--confirm", "0")
VERBS = {"up": UP, "take-name": (*UP, "--take-name"), "down": ("down",), "down-take-name": ("down",)}
EVERY = {verb: 1 if ALL else 3 if verb.endswith("take-name") else 1 for verb in VERBS}
"""Which batches are tried: with the exchange of names every third, unless TAPBRIDGE_TEST_ALL is set."""

LOST = {
    ("up", "adds a route by the NIC"): 6,
    ("take-name", "adds a route by the NIC"): 6,
    ("down", "adds a route by the bridge"): 5,
    ("down-take-name", "adds a route by the bridge"): 5,
    ("down", "adds an address to the bridge"): 8,
    ("down-take-name", "adds an address to the bridge"): 8,
}
"""What is added in the very last moment goes with what it was added to, and nobody can see it: before this batch."""

acts = pytest.mark.parametrize("act", ACTS, ids=lambda act: act.name.replace(" ", "-"))


def tapbridge(world: World, *words: str) -> Result:
    """A command in this process."""
    found = parse([*words, "--json"])
    assert not isinstance(found, str)
    command, args = found
    try:
        result: Result = load_command(command).run(args, world)
        return result
    except TapbridgeError as error:
        return result_of(error)


@contextmanager
def ready_for(verb: str) -> Iterator[Netns]:
    """A host for which the verb has something to do."""
    with host_on_lan() as lan:
        batch("addr add 192.0.2.4/24 dev eth0 valid_lft 3600 preferred_lft 3600")
        if verb.startswith("down"):
            assert tapbridge(World(), *VERBS[verb.removeprefix("down-") if "-" in verb else "up"]).exit == 0
        yield lan


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """The two ends of a verb."""

    before: Reading
    after: Reading


@pytest.fixture(scope="module", params=VERBS)
def verb(request: pytest.FixtureRequest) -> str:
    """Each verb in turn."""
    return str(request.param)


@pytest.fixture
def ends(verb: str) -> Ends:
    """What it leads from and to where nobody meddles."""
    with ready_for(verb):
        before = read_host()
        assert tapbridge(World(), *VERBS[verb]).exit == 0
        return Ends(before=before, after=read_host())


@acts
def test_between_any_two_batches(act: Act, verb: str, ends: Ends, run_dir: Path) -> None:
    for at in range(1, MOST, EVERY[verb]):
        with ready_for(verb) as lan:
            meddling = Meddling(act, at, lan)
            result = tapbridge(MeddledWorld(meddling=meddling), *VERBS[verb])
            if meddling.batches < at:
                break
            assert result.exit in (0, 1), result
            added = "" if LOST.get((verb, act.name)) == at else meddling.added
            judge(act, (ends.after, ends.before)[result.exit], said_by(result), added)
            assert not list(run_dir.rglob("*")), "what was settled leaves no journal"
            if not act.cuts:
                assert answers(lan), f"cut off, batch {at}"
    assert 6 < at < MOST


def said_by(result: Result) -> str:
    """All the sentences of its findings."""
    return " ".join(line for finding in result.findings for line in (finding.message, *finding.evidence))


def judge(act: Act, wanted: Reading, said: str, added: str) -> None:
    """Whether the host is as it should be, with what was added, and whether it is said what is not as before."""
    now = read_host()
    gone = set(wanted.masters) - set(now.masters) - wanted.ours
    if gone:
        assert act.name in ("moves the NIC away", "unplugs the NIC"), said
        assert "is not there any more" in said and "as before, but for" in said
        assert now.ours <= wanted.ours and not now.addresses - wanted.addresses, said
        return
    assert now.ours == wanted.ours, said
    assert {name: now.masters[name] for name in wanted.masters} == wanted.masters, said
    assert now.up >= wanted.up, said
    assert now.without(STRANGE).addresses == wanted.addresses, said
    assert now.without(STRANGE).routes == wanted.routes, said
    there = {one[1] for one in (*now.addresses, *now.routes)}
    assert not added or added in there, f"lost, and nothing said: {said}"


@pytest.mark.parametrize(
    ("act", "end"), [(act, "rollback") for act in ACTS] + [(act, "deadline") for act in ACTS[:: 1 if ALL else 4]]
)
def test_while_it_waits_in_its_window(act: Act, end: str, run_dir: Path) -> None:
    with ready_for("up") as lan:
        before = read_host()
        with started("up", "--confirm", "60" if end == "rollback" else "5") as up:
            assert until(pending)
            added = act.adds if meddle(act.does, lan) else ""
            if end == "rollback":
                document("rollback")
            _, said = up.communicate(timeout=20)
            assert up.returncode == 1
        judge(act, before, said, added)
        assert until(lambda: is_ended(run_dir))
        if not act.cuts:
            assert answers(lan)
