"""A lease and its client in the hands of somebody else, between any two batches of `up` and of `down`."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from kit.command import run
from kit.meddlers import Act, MeddledWorld, Meddling, read_host
from tapbridge.cli.parser import load_command, parse
from tapbridge.cli.result import Result
from tapbridge.cli.world import World
from tapbridge.linux.clients import observe_clients

EVERY = 1 if os.environ.get("TAPBRIDGE_TEST_ALL") else 4
MOST = 40
WORDS = {"up": ["up", "--confirm", "0", "--json"], "down": ["down", "--json"]}


class Client(Meddling):
    """Somebody who does something to the client, not to a link."""

    def __init__(self, what: str, at: int, lan: Any) -> None:
        super().__init__(Act(name=what, does=""), at, lan.netns)
        self._lan = lan

    def next(self) -> None:
        """Before each batch."""
        self.batches += 1
        if self.batches != self.at:
            return
        pids = [client.pid for client in observe_clients(("eth0", "br0"))]
        links = [client.link for client in observe_clients(("eth0", "br0")) if client.link]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.act.name == "restarted" and links:
            self._lan.dhclient("-4", "-nw", *self._lan.paths(links[0]), links[0])
        if self.act.name == "lost":
            for link, address in read_host().addresses:
                run("ip", "addr", "del", address, "dev", link, check=False)


def tapbridge(world: World, verb: str) -> Result:
    """A command in this process."""
    found = parse(WORDS[verb])
    assert not isinstance(found, str)
    result: Result = load_command(found[0]).run(found[1], world)
    return result


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Journals live and die with the test."""
    monkeypatch.setenv("TAPBRIDGE_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("TAPBRIDGE_STATE_DIR", str(tmp_path / "state"))


@pytest.mark.parametrize("what", ["killed", "restarted", "lost"])
@pytest.mark.parametrize("verb", WORDS)
def test_the_client_is(verb: str, what: str, served: Any, tmp_path: Path) -> None:
    served.dhclient("-4", *served.paths(), "eth0")
    address = next(word for link, word in read_host().addresses if link == "eth0")
    for at in range(1, MOST, EVERY):
        if verb == "down":
            assert tapbridge(World(), "up").exit == 0
        meddling = Client(what, at, served)
        result = tapbridge(MeddledWorld(meddling=meddling), verb)
        assert result.exit in (0, 1), result.findings
        bridged = (verb == "up") == (result.exit == 0)
        now = read_host()
        link = "br0" if bridged else "eth0"
        assert (now.masters["eth0"] == "br0") == bridged
        served.wait_for(lambda link=link: (link, address) in read_host().addresses)
        assert {word for name, word in read_host().addresses if name != link} == set()
        assert not list((tmp_path / "run").rglob("*"))
        clients = observe_clients(("eth0", "br0"))
        here = [client for client in clients if client.link == link]
        assert len(here) <= 1 and (what == "restarted" or here == [*clients]), f"batch {at}: {result}"
        for client in set(clients) - set(here):  # whom he started in the middle is his, and nobody ends it
            assert result.exit or [f for f in result.findings if f"(PID {client.pid})" in f.message], result
            os.kill(client.pid, signal.SIGKILL)
        if not here:
            served.dhclient("-4", *served.paths(link), link)
        if bridged:
            assert tapbridge(World(), "down").exit == 0
        if meddling.batches < at:
            break
    assert 4 < at < MOST
