"""The frame of the command line: what every command can rely on."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from tapbridge import __version__
from tapbridge.cli import parser
from tapbridge.cli.commands import COMMANDS
from tapbridge.cli.main import main
from tapbridge.cli.result import Result
from tapbridge.model.errors import Exit, Forbidden, HostError, InvalidName, Refused, Stuck, TapbridgeError, UsageError
from tapbridge.model.verdict import Finding, Severity

EXITS = {
    TapbridgeError("it failed"): 1,
    HostError("the kernel said no"): 1,
    UsageError("that makes no sense"): 2,
    Refused("not here", hint="elsewhere", code="not-here"): 3,
    InvalidName("a b", "has white space in it"): 3,
    Stuck("half of it is left"): 4,
    Forbidden("you may not"): 5,
}


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[argparse.Namespace], Result]], None]:
    """Puts a function in the place of `tapbridge status`."""

    def put(body: Callable[[argparse.Namespace], Result]) -> None:
        def options(one: argparse.ArgumentParser) -> None:
            one.add_argument("link", nargs="?")

        module = SimpleNamespace(options=options, run=lambda args, world: body(args))
        monkeypatch.setattr(parser, "load_command", lambda command: module)

    return put


def raising(error: BaseException) -> Callable[[argparse.Namespace], Result]:
    """A command that ends so."""

    def body(args: argparse.Namespace) -> Result:
        raise error

    return body


@pytest.mark.parametrize(("error", "code"), EXITS.items(), ids=lambda x: type(x).__name__)
def test_an_error_is_a_sentence_on_stderr_and_an_exit_code(
    error: TapbridgeError, code: int, command: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    command(raising(error))
    assert main(["status"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[0] == f"error: {error.message}"
    assert ("hint: " in err) == (error.hint is not None)


@pytest.mark.parametrize(("error", "code"), EXITS.items(), ids=lambda x: type(x).__name__)
def test_with_json_every_error_is_one_document(
    error: TapbridgeError, code: int, command: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    command(raising(error))
    assert main(["status", "--json"]) == code
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == 1
    assert [finding["message"] for finding in document["findings"]] == [error.message]
    assert document["findings"][0]["code"] == error.code
    assert document["findings"][0]["fix"] == error.hint
    assert document["outcome"] in ("failed", "refused", "stuck")


@pytest.mark.parametrize("words", [["nonsense"], ["status", "--nonsense"], ["--nonsense"], ["--json=1", "status"], []])
def test_a_usage_error_is_exit_2_with_a_hint_and_with_json_a_document(
    words: list[str], command: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    command(raising(AssertionError("it was run")))
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert "hint: tapbridge" in err
    assert main(["--json", *words]) == 2
    assert json.loads(capsys.readouterr().out)["findings"][0]["severity"] == "error"


def test_what_is_meant_for_another_program_asks_nothing_of_ours(
    command: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    command(raising(Refused("no")))
    assert main(["status", "--", "qemu", "--json", "--help", "--version"]) == 3
    assert capsys.readouterr().out == ""


def test_an_error_of_our_own_is_told_as_such_and_with_v_in_full(
    command: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    command(raising(ZeroDivisionError("by zero")))
    assert main(["status", "--json"]) == 1
    finding = json.loads(capsys.readouterr().out)["findings"][0]
    assert finding["code"] == "internal-error"
    assert "ZeroDivisionError: by zero" in finding["message"]
    with pytest.raises(ZeroDivisionError):
        main(["status", "-v"])


def test_ctrl_c_ends_as_in_a_shell(command: Any) -> None:
    command(raising(KeyboardInterrupt()))
    assert main(["status"]) == 130


def test_the_text_is_on_stdout_and_findings_on_stderr(command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    note = Finding(code="a-note", severity=Severity.INFO, subject="eth0", message="by the way", fix="do it")
    command(lambda args: Result(text="the answer", findings=(note,)))
    assert main(["status"]) == 0
    assert capsys.readouterr() == ("the answer\n", "note: by the way\n  hint: do it\n")


@pytest.mark.parametrize(("outcome", "printed"), [("done", False), ("nothing", False), ("planned", True), (None, True)])
def test_quiet_leaves_what_was_asked_for(
    outcome: str | None, printed: bool, command: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    document = {} if outcome is None else {"outcome": outcome, "steps": []}
    command(lambda args: Result(text="the answer", document=document))
    assert main(["status"]) == 0
    assert capsys.readouterr().out == "the answer\n"
    assert main(["status", "-q"]) == 0
    assert capsys.readouterr().out == ("the answer\n" if printed else "")


def test_quiet_leaves_errors(command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    note = Finding(code="a-note", severity=Severity.WARNING, subject="eth0", message="by the way")
    bad = Finding(code="an-error", severity=Severity.ERROR, subject="eth0", message="it is bad")
    command(lambda args: Result(exit=Exit.FAILED, findings=(note, bad)))
    assert main(["-q", "status"]) == 1
    assert capsys.readouterr().err == "error: it is bad\n"


def test_names_of_strangers_cannot_write_to_the_terminal(command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    name = "eth\x1b[2J\udcff\x9b\u202e\x07"
    command(raising(Refused(f"no {name}", subject=name)))
    assert main(["status"]) == 3
    assert main(["status", "--json"]) == 3
    out, err = capsys.readouterr()
    assert out.isascii()
    assert err.isascii()
    assert "\x1b" not in out + err
    assert json.loads(out)["findings"][0]["subject"] == name


def test_the_version_needs_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--version"], ["-v", "--version"]):
        assert main(words) == 0
        assert capsys.readouterr().out == f"tapbridge {__version__}\n"


def test_help_lists_all_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for one in COMMANDS:
        assert f"  {one.name} " in out
        assert one.summary in out
