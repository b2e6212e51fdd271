"""Files on the way back: which of them are left as they are, and what is said where one cannot be put back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tapbridge.model.errors import HostError
from tapbridge.model.journal import Began
from tapbridge.model.noun import replace
from tapbridge.model.state import Address, Client, File, Link, State
from tapbridge.model.step import DeleteLink, PutAddress, ResumeClient, SetUp, StartClient, Step, StopClient, WriteFile
from tapbridge.model.values import IfName
from tapbridge.modelhost.host import ModelHost
from tapbridge.transact.journal import Journal
from tapbridge.transact.undo import _as_left, take_back

PATH = "/run/dhclient.eth0.pid"


@pytest.mark.parametrize(
    ("before", "now", "written", "left"),
    [
        (None, "4711\n", None, "4711\n"),  # the client that was started since has written its PID
        ("12\n", "4711\n", None, "4711\n"),
        ("12\n", "12\n", None, None),  # not taken away yet
        ("12\n", None, None, None),
        ("old", "spoilt", "new", "new"),
    ],
)
def test_what_was_taken_away_and_is_there_anew_is_somebody_s(
    before: str | None, now: str | None, written: str | None, left: str | None
) -> None:
    was, there = File(path=PATH, content=before), File(path=PATH, content=now)
    assert _as_left(was, there, [WriteFile(path=PATH, content=written)]).content == left


class Watched(ModelHost):
    """A host that tells what is done to it."""

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self.done: list[Step] = []

    def perform(self, steps: Sequence[Step]) -> None:
        """Note it, then do it."""
        self.done += steps
        super().perform(steps)


@pytest.mark.parametrize("program", ["dhcpcd", "dhclient"])
def test_a_client_that_would_meddle_is_ended_before_anything_moves(program: str, tmp_path: Path) -> None:
    """Of the two dhcpcd sees what is done to its link, and acts."""
    eth0, br0 = IfName("eth0"), IfName("br0")
    address = Address(link=br0, family=4, ip="192.0.2.50", prefix=24, label=br0)
    links = (Link(index=2, name=eth0, up=True), Link(index=3, name=br0, up=True))
    client = Client(link=br0, program=program, pid=7, argv=(program, br0))
    started = replace(client, link=eth0, argv=(program, eth0))
    before = State(links=links, addresses=(address,), clients=(client,))
    after = State(links=links, addresses=(replace(address, link=eth0, label=eth0),), clients=(started,))
    began = Began(
        id="a-1", command="down", boot_id="b", netns=1, before=before, after=after, touched=(eth0, br0),
        steps=(StopClient(client=client), StartClient(client=started)),
    )  # fmt: skip
    there, journal = Watched(after), Journal(tmp_path)
    journal.begin(began)
    assert take_back(began, there, journal, "the test said so").left == ()
    kinds = [type(step) for step in there.done]
    assert there.done.count(StopClient(client=started)) == 1
    assert ResumeClient(client=started) in there.done, "one that another way back has begun to end"
    assert (kinds.index(StopClient) < kinds.index(PutAddress)) == (program == "dhcpcd")


class OnceDeaf(Watched):
    """A host whose kernel refuses what one round of the way back asks of it."""

    def perform(self, steps: Sequence[Step]) -> None:
        """Raises HostError for the first two: the address has a metric of its own for a while."""
        if isinstance(steps[0], PutAddress) and sum(isinstance(step, PutAddress) for step in self.done) < 2:
            self.done += steps
            raise HostError("no buffer space available", index=0, errno=105)
        super().perform(steps)


def test_a_client_is_started_when_the_kernel_has_its_part(tmp_path: Path) -> None:
    """It would lose its first question on a link that leads nowhere yet, and wait for long."""
    eth0 = IfName("eth0")
    address = Address(link=eth0, family=4, ip="192.0.2.50", prefix=24, label=eth0)
    client = Client(link=eth0, program="dhclient", pid=7, argv=("dhclient", eth0))
    before = State(links=(Link(index=2, name=eth0, up=True),), addresses=(address,), clients=(client,))
    after = replace(before, addresses=(), clients=())
    began = Began(id="a-1", command="up", boot_id="b", netns=1, before=before, after=after, touched=(eth0,))
    there, journal = OnceDeaf(after), Journal(tmp_path)
    journal.begin(began)
    undone = take_back(began, there, journal, "the test said so")
    assert undone.left == ()
    kinds = [type(step) for step in there.done if isinstance(step, PutAddress | StartClient)]
    assert kinds == [PutAddress] * 4 + [StartClient]


class ReadOnly(ModelHost):
    """A host that takes no file."""

    def perform(self, steps: Sequence[Step]) -> None:
        """Raises HostError for a file."""
        if isinstance(steps[0], WriteFile):
            raise HostError("read-only file system", index=0, errno=30)
        super().perform(steps)


@pytest.mark.parametrize("host", [lambda state: ModelHost(state, fail_at=0), ReadOnly], ids=["once", "always"])
def test_a_file_that_cannot_be_put_back_is_tried_again_and_then_named(host: type[ModelHost], tmp_path: Path) -> None:
    eth0 = IfName("eth0")
    state = State(links=(Link(index=2, name=eth0, up=True),))
    wrote = WriteFile(path=PATH, content="4711\n")
    began = Began(
        id="a-1", command="up", boot_id="b", netns=1, before=state, after=state, touched=(eth0,),
        steps=(SetUp(link=eth0, up=True), wrote), files=(File(path=PATH, content=None),),
    )  # fmt: skip
    there = host(state)
    there.files[PATH] = File(path=PATH, content=wrote.content)
    journal = Journal(tmp_path)
    journal.begin(began)
    undone = take_back(began, there, journal, "the test said so")
    if isinstance(there, ReadOnly):
        assert undone.left == (f"{PATH} is not as it was", "read-only file system")
        assert undone.outcome == "stuck" and (tmp_path / "journal").exists()
    else:
        assert undone.left == () and there.files[PATH].content is None


class OnceForgetful(ModelHost):
    """A host whose first deletion of a link does not come to pass, without a word."""

    seen: tuple[IfName, ...] = ()

    def perform(self, steps: Sequence[Step]) -> None:
        """All but that."""
        wanted = [step for step in steps if not isinstance(step, DeleteLink) or self._has_seen(step)]
        super().perform(wanted)

    def _has_seen(self, step: DeleteLink) -> bool:
        known, self.seen = step.link in self.seen, (step.link,)
        return known


def test_a_bridge_that_was_renamed_and_is_still_there_is_seen(tmp_path: Path) -> None:
    """It had the NIC's name; what it is called on the way back is in no plan."""
    eth0, reth0 = IfName("eth0"), IfName("reth0")
    nic = Link(index=2, name=eth0, up=True)
    bridge = Link(index=9, name=eth0, kind="bridge", up=True, alias="tapbridge uplink=02:00:00:00:01:02 nic=eth0")
    before = State(links=(nic,))
    after = State(links=(replace(nic, name=reth0), bridge))
    began = Began(id="a-1", command="up", boot_id="b", netns=1, before=before, after=after, touched=(eth0, reth0))
    there, journal = OnceForgetful(after), Journal(tmp_path)
    journal.begin(began)
    assert take_back(began, there, journal, "the test said so").left == ()
    assert [link.name for link in there.state.links] == [eth0]
