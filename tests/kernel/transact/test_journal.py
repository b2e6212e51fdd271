"""Journals as files: whole or not there, one line cut short understood, another version's told and kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from tapbridge.model.errors import Stuck
from tapbridge.model.journal import Applied, Began, Ended, dump_line
from tapbridge.model.noun import replace
from tapbridge.model.state import File, State
from tapbridge.transact.found import find_begun, find_waiting
from tapbridge.transact.journal import Journal, read_durable

BEGAN = Began(id="a-1", command="up", boot_id="b", netns=1, before=State(), after=State(), touched=("eth0",))
APPLIED = Applied(command="up", confirm_by=1.5, wall=2.5)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """A journal that was begun, and that nobody has open any more."""
    journal = Journal(tmp_path)
    journal.begin(BEGAN)
    return Journal(tmp_path)


def records(journal: Journal) -> list[object]:
    found = find_begun(journal)
    assert found is not None
    return [found.began, *found.records]


def test_what_is_written_is_found(journal: Journal) -> None:
    assert records(journal) == [BEGAN]
    journal.resume()
    journal.note(APPLIED)
    assert records(journal) == [BEGAN, APPLIED]
    assert [path.name for path in journal.folder.iterdir()] == ["journal"]


@pytest.mark.parametrize("cut", range(1, 80, 13))
def test_a_last_line_that_was_cut_short_was_never_written(journal: Journal, cut: int) -> None:
    line = dump_line(APPLIED, "a-1")
    with open(journal.path, "ab") as file:
        file.write(line[:-cut])
    assert records(journal) == ([BEGAN, APPLIED] if cut == 1 else [BEGAN])
    assert find_waiting(journal) is None  # nobody is armed


def test_a_record_whose_sum_is_wrong_and_those_behind_it_do_not_count(journal: Journal) -> None:
    with open(journal.path, "ab") as file:
        file.write(dump_line(APPLIED, "a-1").replace(b"1.5", b"9.5") + dump_line(Ended(outcome="done"), "a-1"))
    assert records(journal) == [BEGAN]


def test_a_record_of_another_transaction_does_not_count(journal: Journal) -> None:
    with open(journal.path, "ab") as file:
        file.write(dump_line(APPLIED, "a-2"))
    assert records(journal) == [BEGAN]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [(b'"schema":1', b'"schema":2', "the schema 2"), (b'"eth0"', b'"eth1"', "checksum"), (b"{", b"", "cut short")],
)
def test_a_first_record_that_cannot_be_read_is_told_and_kept(
    journal: Journal, old: bytes, new: bytes, words: str
) -> None:
    journal.path.write_bytes(journal.path.read_bytes().replace(old, new, 1))
    with pytest.raises(Stuck, match=words):
        find_begun(journal)
    assert journal.path.exists()


def test_only_files_that_outlive_the_boot_are_kept_where_they_do(tmp_path: Path) -> None:
    durable = tmp_path / "state/journal-host"
    journal = Journal(tmp_path, durable)
    lease, passing = File(path="/var/lib/dhcp/x.leases", content="old"), File(path="/run/x.pid", content="1")
    journal.begin(replace(BEGAN, files=(lease, passing)))
    kept = read_durable(durable)
    assert kept is not None and kept.files == (lease,)
    assert durable.stat().st_mode & 0o777 == 0o600
    journal.end(Ended(outcome="done"))
    assert not durable.exists() and not journal.path.exists()


def test_a_stuck_journal_stays(journal: Journal) -> None:
    journal.resume()
    journal.end(Ended(outcome="stuck", left=("eth0",)))
    assert records(journal)[-1] == Ended(outcome="stuck", left=("eth0",))
