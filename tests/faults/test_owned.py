"""Faults with somebody in charge of the NIC, who is at work meanwhile: a DHCP client or a manager.

The commands that move the NIC or decide of it are killed before each of their changing system calls, and so are the
guardian on its way back (beside a manager the second one, systemd's, is there then) and the recovery from a kill. What
waits to be confirmed is not, and may be killed on its way there. What the owner's part of a change needs fails: its
files, its start, the programs that talk to it. To what holds for every scene comes the owner's own word: it holds the
right link, there is one of it, it renews the lease, which was neither given up nor asked for anew, and after that
nothing is there twice.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Final

import pytest

from kit import injection
from kit.daemons import DAEMONS
from kit.injection import Call
from kit.ordeal import VERBS, Ordeal
from kit.standins import FAULTS
from kit.tally import WHOLE, Tally, changing, sample, spread

SAMPLE = 2
LAPSING = 12 if WHOLE else 1
FIRST, SECOND = (4, 8) if WHOLE else (1, 2)
OUR_FILES: Final = re.compile(r'/netns-\d|/tapbridge/|/journal|"/sys/')


@pytest.mark.parametrize("verb", ["up", "down", "rollback", "confirm"])
def test_an_owner_survives_a_kill_anywhere(owned: Ordeal, verb: str, tallies: list[Tally]) -> None:
    tally = Tally("kill beside an owner", owned.scene.name, verb)
    tallies.append(tally)
    rehearsal = owned.rehearse(VERBS[verb])
    calls = changing(rehearsal.calls)
    assert len(calls) > 5
    for call in sample(calls, SAMPLE, offset=len(owned.scene.name) * len(verb)):
        trial = owned.attempt(partial(owned.beside_owner, rehearsal, partial(owned.killed, VERBS[verb], call)))
        tally.note(str(call), call, trial)
    assert tally.told() == ""


def test_an_owner_survives_the_death_of_the_guardian(owned: Ordeal, tallies: list[Tally]) -> None:
    tally = Tally("kill beside an owner", owned.scene.name, "the guardian")
    tallies.append(tally)
    calls = changing(injection.calls_of_running(owned.guardian(), owned.folder))
    assert len(calls) > 5
    for call in sample(calls, SAMPLE, offset=len(owned.scene.name)):
        trial = owned.attempt(partial(owned.beside_owner, owned.free, partial(owned.guardian_killed, call)))
        tally.note(str(call), call, trial)
    assert tally.told() == ""


@pytest.mark.parametrize("verb", ["up", "down"])
def test_an_owner_survives_a_kill_of_the_recovery_as_well(owned: Ordeal, verb: str, tallies: list[Tally]) -> None:
    tally = Tally("kill, then kill the recovery beside an owner", owned.scene.name, verb)
    tallies.append(tally)
    rehearsal = owned.rehearse(VERBS[verb])
    for first in spread(changing(rehearsal.calls), FIRST, offset=len(owned.scene.name)):
        recovery = changing(owned.rehearse_recovery(VERBS[verb], first))
        for second in spread(recovery, SECOND, offset=first.number):
            killed = partial(owned.killed, VERBS[verb], first, again=second)
            trial = owned.attempt(partial(owned.beside_owner, rehearsal, killed))
            tally.note(f"{first}, then {second}", second, trial)
    assert tally.tried
    assert tally.told() == ""


def test_an_owner_has_back_what_nobody_confirms(owned: Ordeal, tallies: list[Tally]) -> None:
    tally = Tally("not confirmed beside an owner", owned.scene.name, "up --confirm")
    tallies.append(tally)
    calls = changing(owned.rehearse(VERBS["up --confirm"]).calls)
    last = calls[-1]
    tally.note("not killed", last, owned.attempt(owned.lapsed))
    for call in spread(calls, LAPSING, offset=len(owned.scene.name)):
        tally.note(str(call), call, owned.attempt(partial(owned.lapsed, call)))
    assert tally.told() == ""


@pytest.mark.parametrize("verb", ["up", "down", "rollback"])
def test_what_fails_beside_an_owner_is_told_truly(owned: Ordeal, verb: str, tallies: list[Tally]) -> None:
    tally = Tally("fail beside an owner", owned.scene.name, verb)
    tallies.append(tally)
    rehearsal = owned.rehearse(VERBS[verb])
    for call, fault in sample(owners_calls(rehearsal.calls, owned), 1, offset=len(verb)):
        trial = owned.attempt(partial(owned.beside_owner, rehearsal, partial(owned.failed, VERBS[verb], call, fault)))
        tally.note(f"{fault} at {call}", call, trial)
    for call in sample(owned.programs(VERBS[verb]), 1, offset=len(verb)):
        for fault in sample(FAULTS, 1, offset=len(verb)):
            misserved = partial(owned.misserved, VERBS[verb], call, fault)
            trial = owned.attempt(partial(owned.beside_owner, rehearsal, misserved))
            tally.note(f"it {fault}: {call}", call, trial)
    assert tally.tried
    assert tally.told() == ""


def owners_calls(calls: Sequence[Call], owned: Ordeal) -> list[tuple[Call, str]]:
    """The calls that an owner's part of a change needs, each with its fault: no room for its files, no process."""
    files = [call for call in changing(calls) if call.kind in ("openat", "rename") and not OUR_FILES.search(call.text)]
    starts = [call for call in calls if call.role == "starts" and owned.scene.owner not in DAEMONS]
    return [(call, "error=ENOSPC") for call in files] + [(call, "error=EAGAIN") for call in starts]
