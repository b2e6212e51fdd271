"""What is said of a change once it is there."""

from __future__ import annotations

import errno
from typing import NoReturn

import pytest

from tapbridge.cli.changing import _started_meanwhile
from tapbridge.model.plan import Plan, Reason, Stage
from tapbridge.model.state import Client, State
from tapbridge.model.step import StopClient
from tapbridge.model.values import IfName

CLIENT = Client(link=IfName("eth0"), program="dhclient", pid=7)
PLAN = Plan(
    command="up",
    stages=(Stage(reason=Reason.OWNER, steps=(StopClient(client=CLIENT),)),),
    before=State(),
    after=State(),
)


def test_a_client_on_the_link_that_was_left_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tapbridge.linux.clients.observe_clients", lambda links: (CLIENT,))
    (finding,) = _started_meanwhile(PLAN)
    assert (finding.code, finding.subject, finding.fix) == ("client-left", "eth0", "kill 7")


def test_a_look_that_fails_takes_nothing_from_the_success(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(links: object) -> NoReturn:
        raise OSError(errno.ENOBUFS, "No buffer space available")

    monkeypatch.setattr("tapbridge.linux.clients.observe_clients", failing)
    assert _started_meanwhile(PLAN) == ()
