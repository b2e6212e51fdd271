"""The command as a process: streams that are closed, full, or have lost their reader."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kit.command import run
from kit.lan import host_on_lan

TAPBRIDGE = (sys.executable, "-m", "tapbridge")
WORDS = (["--version"], ["--help"], ["explain"], ["explain", "--json"])


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_a_reader_that_went_away_is_exit_141_without_a_word(words: list[str]) -> None:
    child = subprocess.Popen(
        [*TAPBRIDGE, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    assert child.stdout and child.stderr
    child.stdout.close()
    said = child.stderr.read()
    assert (child.wait(30), said) == (141, b"")
    child.stderr.close()


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_an_output_that_cannot_be_written_is_told(words: list[str]) -> None:
    done = run("sh", "-c", 'exec "$@" >/dev/full', "sh", *TAPBRIDGE, *words, check=False)
    assert done.returncode == 1
    assert done.stderr == "error: the output cannot be written: No space left on device\n"


def test_a_change_that_cannot_be_told_of_is_done_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAPBRIDGE_RUN_DIR", str(tmp_path))
    with host_on_lan():
        done = run("sh", "-c", 'exec "$@" >/dev/full', "sh", *TAPBRIDGE, "up", check=False)
        assert (done.returncode, done.stderr) == (0, "error: the output cannot be written: No space left on device\n")
        assert "master br0" in run("ip", "link", "show", "dev", "eth0").stdout


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_changes_nothing(closed: str) -> None:
    done = run("sh", "-c", f'exec "$@" {closed}', "sh", *TAPBRIDGE, "explain", "nonsense", check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_a_terminal_s_character_set_that_lacks_letters_stops_nothing() -> None:
    done = run(*TAPBRIDGE, "--help", env={"PYTHONIOENCODING": "ascii"}, check=False)
    assert done.returncode == 0, done.stderr


def test_a_topic_to_a_file_has_no_escape_sequence_in_it() -> None:
    assert "\x1b" not in run(*TAPBRIDGE, "explain", "tap", env={"TERM": "xterm", "COLUMNS": "60"}).stdout
