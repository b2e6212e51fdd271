"""`up`, `down` and their way back on a NIC that a udhcpc or a dhcpcd holds, as the server and the kernel see it."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from kit.changes import PROGRAM
from kit.command import run
from kit.handing import BRIDGE, NIC, clients, comparable_clients, ip_of, server_lease
from tapbridge.cli.handover import hand_over
from tapbridge.core.adopt import adopt
from tapbridge.core.compare import differences
from tapbridge.core.release import release
from tapbridge.linux.boot import boot_id
from tapbridge.linux.host import LinuxHost
from tapbridge.model.intent import Adopt, Release
from tapbridge.model.journal import Began
from tapbridge.model.plan import Plan
from tapbridge.model.state import Client
from tapbridge.model.step import StartClient, StopClient, WriteFile
from tapbridge.transact.journal import Journal
from tapbridge.transact.undo import take_back

pytestmark = pytest.mark.usefixtures("dhcpcd_files")
each_client = pytest.mark.parametrize("way", ["dhcpcd", "manager", "udhcpc"])
START: dict[str, Callable[[Any], object]] = {
    "dhcpcd": lambda lan: run("dhcpcd", "-4", "-A", "eth0"),
    "manager": lambda lan: run("dhcpcd", "-4", "-A", "--nodev", "-b"),  # no udev says that eth0 is ready
    "udhcpc": lambda lan: lan.udhcpc("-p", f"{lan.folder}/udhcpc.eth0.pid"),
}
WRONG = {
    "dhcpcd": "DISCOVER|RELEASE|DECLINE|NAK",
    "manager": "DISCOVER|RELEASE|DECLINE|NAK",
    "udhcpc": "RELEASE|DECLINE|NAK",
}


@each_client
@pytest.mark.parametrize("words", [(), ("--take-name",)], ids=["br0", "take-name"])
def test_up_and_down_keep_the_lease_and_the_client(served: Any, way: str, words: tuple[str, ...]) -> None:
    if way == "manager" and words:
        pytest.skip("it is refused")
    before, identity = _begin(served, way)
    address = ip_of("eth0")
    final = "eth0" if words else "br0"
    for verb, link in ((("up", *words), final), (("down",), "eth0")):
        with _nothing_wrong(served, way):
            _change(served, *verb)
            served.wait_for(lambda link=link: _serves(link))
            _renewed(served)
        assert (ip_of(link), server_lease(served)[1:]) == (address, identity)
    assert comparable_clients(clients()) == comparable_clients((before,))


@each_client
def test_a_rollback_gives_the_nic_back_to_its_client(served: Any, way: str) -> None:
    before, identity = _begin(served, way)
    address = ip_of("eth0")
    with _nothing_wrong(served, way):
        _change(served, "up", "--confirm", "300", "--no-wait")
        served.wait_for(lambda: _serves("br0"))
        _change(served, "rollback")
        assert ip_of("eth0") == address
        _renewed(served)
    assert comparable_clients(clients()) == comparable_clients((before,))
    assert server_lease(served)[1:] == identity


@each_client
def test_a_client_that_died_meanwhile_keeps_nobody_from_the_way_back(served: Any, way: str) -> None:
    _begin(served, way)
    address = ip_of("eth0")
    _change(served, "up")
    served.wait_for(lambda: _serves("br0"))
    for pid in _pids():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    served.wait_for(lambda: clients() == ())
    _change(served, "down")
    assert ip_of("eth0") == address


@each_client
@pytest.mark.parametrize("verb", ["up", "down"])
def test_it_is_taken_back_from_behind_every_act_of_the_client(served: Any, way: str, verb: str) -> None:
    before, identity = _begin(served, way)
    address = ip_of("eth0")
    if verb == "down":
        _change(served, "up")
        served.wait_for(lambda: _serves("br0"))
        (before,) = clients()
    source = NIC if verb == "up" else BRIDGE
    acts = len(_points(_plan(source)))
    assert acts > 2
    for act in range(acts):
        with _nothing_wrong(served, way), LinuxHost() as host:
            plan = _plan(source)
            began, journal = _began(plan, host), Journal(served.folder)
            journal.begin(began)
            host.perform(plan.steps[: _points(plan)[act]])
            undone = take_back(began, host, journal, "the test said so")
            assert undone.left == ()
            assert differences(plan.before, host.observe(), plan.touched) == ()
        assert ip_of(source) == address
        assert comparable_clients(clients()) == comparable_clients((before,))
        _renewed(served)
    assert server_lease(served)[1:] == identity


def _begin(lan: Any, way: str) -> tuple[Client, list[str]]:
    """Start the client; what it is, and how the server knows it."""
    START[way](lan)
    lan.wait_for(lambda: ip_of("eth0"))
    lan.wait_for(lambda: _serves("eth0"))
    (client,) = clients()
    return client, server_lease(lan)[1:]


def _serves(link: str) -> bool:
    return [client.link for client in clients()] == [link]


def _change(lan: Any, *words: str) -> None:
    folders = {"TAPBRIDGE_RUN_DIR": str(lan.folder / "run"), "TAPBRIDGE_STATE_DIR": str(lan.folder / "state")}
    run(*PROGRAM, *words, "--yes", env=folders)


@contextmanager
def _nothing_wrong(lan: Any, way: str) -> Iterator[None]:
    """The server hears nothing meanwhile that it should not, and no script of a client deconfigures anything."""
    mark, events = len(lan.log()), len(lan.events())
    yield
    assert not re.search(WRONG[way], lan.log_since(mark))
    assert not [event for event in lan.events()[events:] if "deconfig" in event]


def _renewed(lan: Any) -> None:
    """Wait until the client has renewed: dhcpcd does after three seconds, udhcpc when it is told."""
    (client,) = clients()
    mark = len(lan.log())
    if client.program == "udhcpc":
        lan.wait_for(lambda: lan.events()[-1] in (f"{client.link} bound", f"{client.link} renew"))
        os.kill(client.pid, signal.SIGUSR1)
    lan.wait_for(lambda: "DHCPACK" in lan.log_since(mark))


def _plan(source: str) -> Plan:
    with LinuxHost() as host:
        state = host.observe()
    if source == NIC:
        return adopt(Adopt(nic=NIC), state, hand_over(state, NIC, BRIDGE, port=NIC, bridge=BRIDGE, force=False))
    return release(Release(bridge=BRIDGE), state, hand_over(state, BRIDGE, NIC, port=NIC, bridge=BRIDGE, force=False))


def _points(plan: Plan) -> list[int]:
    """How many steps there are up to each act of the client's, and with it."""
    return [n for n, step in enumerate(plan.steps, 1) if isinstance(step, (StopClient, WriteFile, StartClient))]


def _began(plan: Plan, host: LinuxHost) -> Began:
    paths = dict.fromkeys(step.path for step in plan.steps if isinstance(step, WriteFile))
    return Began(
        id="1",
        command=plan.command,
        boot_id=boot_id(),
        netns=host.cookie(),
        before=plan.before,
        after=plan.after,
        touched=plan.touched,
        steps=plan.steps,
        files=host.read_files(tuple(paths)),
    )


def _pids() -> list[int]:
    """Every process of a client's in this namespace."""
    inside, found = os.stat("/proc/thread-self/ns/net").st_ino, []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            called = Path(f"/proc/{name}/comm").read_text().strip()
            if called in ("dhcpcd", "busybox") and os.stat(f"/proc/{name}/ns/net").st_ino == inside:
                found.append(int(name))
        except OSError:
            continue
    return found
