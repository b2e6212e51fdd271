"""Double faults: the verb is killed, and the recovery from that as well; a second recovery leads to before or after.

The pairs are the kill of the verb at evenly spread calls, and after each of them that of the recovery at every call
that changes something (`--all`), or at a few.
A recovery of what is recovered already writes nothing but its lock.
"""

from __future__ import annotations

from functools import partial

import pytest

from kit import injection
from kit.ordeal import RECOVER, VERBS, Ordeal
from kit.tally import WHOLE, Tally, changing, sample, spread

FIRST, SECOND = 10 if WHOLE else 2, 2
LOCKING = {"mkdir", "openat", "ftruncate", "pwrite64", "unlink", "rmdir"}


@pytest.mark.parametrize("verb", ["up", "down"])
def test_a_recovery_survives_a_kill_as_well(ordeal: Ordeal, verb: str, tallies: list[Tally]) -> None:
    tally = Tally("kill, then kill the recovery", ordeal.scene.name, verb)
    tallies.append(tally)
    for first in spread(changing(ordeal.rehearse(VERBS[verb]).calls), FIRST, offset=len(ordeal.scene.name)):
        recovery = ordeal.rehearse_recovery(VERBS[verb], first)
        for second in sample(changing(recovery), SECOND, offset=first.number):
            trial = ordeal.attempt(partial(ordeal.killed, VERBS[verb], first, again=second))
            tally.note(f"{first}, then {second}", second, trial)
    assert tally.tried
    assert tally.told() == ""


def test_a_second_recovery_changes_nothing(ordeal: Ordeal) -> None:
    calls = changing(ordeal.rehearse(VERBS["up"]).calls)
    first = ordeal.rehearse_recovery(VERBS["up"], calls[len(calls) // 2])
    again = injection.calls_of([*ordeal.stage.program, *RECOVER], ordeal.stage.where)
    assert any(call.kind == "sendto" for call in changing(first))
    assert {call.kind for call in changing(again) if call.role == "changes"} <= LOCKING
