"""`tapbridge lab` as a whole process: what it prints, how it ends, what it refuses."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from pathlib import Path

import pytest

from kit.command import run
from kit.labs import TAPBRIDGE, MakeLab, Tapbridge


def test_up_says_what_is_there_and_a_second_time_changes_nothing(tapbridge: Tapbridge, run_dir: Path) -> None:
    first = json.loads(tapbridge("lab", "up", "--no-dad", "--hosts", "2", "try", "--json").stdout)
    assert (first["schema"], first["outcome"], first["lab"]["state"]) == (1, "done", "up")
    places = {place["name"]: place for place in first["lab"]["places"]}
    assert list(places) == ["lan", "router", "beyond", "peer", "h1", "h2"]
    assert places["h1"]["netns"] == "tb-try-h1"
    assert run("ip", "netns", "exec", "tb-try-h1", "hostname", "-I").stdout.split()[0] in places["h1"]["addresses"]

    record = (run_dir / "labs/try.json").read_bytes()
    second = json.loads(tapbridge("lab", "up", "try", "--json").stdout)
    assert second == first | {"outcome": "nothing"}
    assert (run_dir / "labs/try.json").read_bytes() == record

    (shown,) = json.loads(tapbridge("lab", "status", "--json").stdout)["labs"]
    assert shown == first["lab"]
    text = tapbridge("lab", "status").stdout
    assert all(address in text for place in places.values() for address in place["addresses"])

    refused = json.loads(tapbridge("lab", "up", "try", "--mtu", "9000", "--json", exit_code=3).stdout)
    assert refused["findings"][0]["code"] == "lab-exists"
    assert json.loads(tapbridge("lab", "down", "--json").stdout)["labs"] == ["try"]
    assert json.loads(tapbridge("lab", "down", "--json").stdout)["outcome"] == "nothing"
    assert json.loads(tapbridge("lab", "status", "--json").stdout)["labs"] == []
    assert not (run_dir / "labs").exists()


def test_two_ups_at_once_make_one_lab(run_dir: Path, tapbridge: Tapbridge) -> None:
    env = {**os.environ, "TAPBRIDGE_RUN_DIR": str(run_dir)}
    words = [*TAPBRIDGE, "lab", "up", "--addresses", "static", "--no-dad", "--json"]
    both = [subprocess.Popen(words, env=env, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = [json.loads(one.communicate(timeout=60)[0]) for one in both]
    assert sorted(one["outcome"] for one in told) == ["done", "nothing"]
    assert told[0]["lab"] == told[1]["lab"]
    tapbridge("lab", "down")


def test_exec_is_the_command(make_lab: MakeLab, run_dir: Path, tapbridge: Tapbridge, tmp_path: Path) -> None:
    make_lab(addresses="static")
    assert tapbridge("lab", "exec", "--", "sh", "-c", "exit 7", exit_code=7).stdout == ""
    assert tapbridge("lab", "exec", "--", "hostname").stdout == "h1\n"
    assert tapbridge("lab", "exec", "--host", "peer", "lab", "--", "hostname").stdout == "peer\n"
    assert tapbridge("lab", "exec", "--", "sh", stdin="echo $((6 * 7))").stdout == "42\n"
    assert tapbridge("lab", "exec", "--", "echo", "--json", "--", "$HOME").stdout == "--json -- $HOME\n"
    env = {**os.environ, "TAPBRIDGE_RUN_DIR": str(run_dir)}
    shell = [*TAPBRIDGE, "lab", "exec", "--", "sh", "-c", "echo $$; pwd; exec sleep 60"]
    with subprocess.Popen(shell, env=env, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == f"{started.pid}\n"
        assert started.stdout.readline() == f"{tmp_path}\n"
        started.send_signal(signal.SIGINT)
        assert started.wait(10) == -signal.SIGINT


def test_exec_leaves_the_terminal_to_the_command(make_lab: MakeLab, run_dir: Path) -> None:
    make_lab(addresses="static")
    ours, theirs = pty.openpty()
    env = {**os.environ, "TAPBRIDGE_RUN_DIR": str(run_dir)}
    command = [*TAPBRIDGE, "lab", "exec", "--", "sh", "-c", "test -t 0 && test -t 1 && tty"]
    try:
        done = subprocess.run(command, env=env, stdin=theirs, stdout=theirs, check=False, timeout=30)
        assert done.returncode == 0
        assert os.read(ours, 100).decode().strip() == os.ttyname(theirs)
    finally:
        os.close(ours)
        os.close(theirs)


def test_nothing_of_the_machine_s_own_state_leads_into_a_place(
    make_lab: MakeLab, tapbridge: Tapbridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_lab(addresses="static")
    for name in ("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "DBUS_SYSTEM_BUS_ADDRESS"):
        monkeypatch.setenv(name, "/nowhere")
    inside = dict(line.split("=", 1) for line in tapbridge("lab", "exec", "--", "env").stdout.splitlines())
    assert "/nowhere" not in inside.values()
    assert "TAPBRIDGE_RUN_DIR" not in inside
    assert inside["TAPBRIDGE_STATE_DIR"].startswith("/run/")
    assert "there is no lab" in tapbridge("lab", "exec", "--", *TAPBRIDGE, "lab", "status").stdout


@pytest.mark.parametrize(
    ("words", "exit_code", "code", "hint"),
    [
        (("exec", "trial", "--", "true"), 3, "no-such-lab", "did you mean trail?"),
        (("exec", "zebra", "--", "true"), 3, "no-such-lab", "tapbridge lab up zebra"),
        (("status", "trial"), 3, "no-such-lab", "did you mean trail?"),
        (("exec", "--host", "h2", "--", "true"), 3, "no-such-place", "it has lan, router, beyond, peer, h1"),
        (("exec", "--", "no-such-program"), 3, "no-such-program", None),
        (("exec", "--", "/etc"), 3, "no-such-program", None),
    ],
)
def test_what_is_not_there_is_refused_with_the_nearest(
    make_lab: MakeLab, tapbridge: Tapbridge, words: tuple[str, ...], exit_code: int, code: str, hint: str | None
) -> None:
    make_lab(name="trail", addresses="static")
    done = tapbridge("lab", *words, exit_code=exit_code)
    assert done.stdout == ""
    assert hint is None or f"hint: {hint}" in done.stderr
    if "--" not in words:
        assert json.loads(tapbridge("lab", *words, "--json", exit_code=exit_code).stdout)["findings"][0]["code"] == code


@pytest.mark.parametrize(
    ("words", "exit_code"),
    [
        (("up", "Lab"), 2),
        (("up", "a-b"), 2),
        (("up", "../x"), 2),
        (("up", "x" * 17), 2),
        (("up", ""), 2),
        (("up", "--hosts", "0"), 2),
        (("up", "--hosts", "33"), 2),
        (("up", "--mtu", "68"), 2),
        (("up", "--lease-seconds", "119"), 2),
        (("up", "--renew-seconds", "4000"), 2),
        (("up", "--subnet4", "192.0.2.1/24"), 2),
        (("up", "--subnet4", "192.0.2.0/25"), 2),
        (("up", "--subnet6", "2001:db8::/63"), 2),
        (("up", "--host", "h1"), 2),
        (("up", "--all"), 2),
        (("up", "--", "true"), 2),
        (("down", "lab", "--all"), 2),
        (("down", "--hosts", "1"), 2),
        (("exec", "--json", "--", "true"), 2),
        (("frobnicate",), 2),
        ((), 2),
    ],
)
def test_a_command_line_that_makes_no_sense_touches_nothing(
    tapbridge: Tapbridge, run_dir: Path, words: tuple[str, ...], exit_code: int
) -> None:
    done = tapbridge("lab", *words, exit_code=exit_code)
    assert done.stdout == "" or "--json" in words
    assert "hint: " in done.stderr or "--json" in words
    assert not run_dir.exists()


def test_the_only_lab_is_meant_and_of_several_one_must_be_named(make_lab: MakeLab, tapbridge: Tapbridge) -> None:
    make_lab(name="first", addresses="static")
    assert tapbridge("lab", "exec", "--", "hostname").stdout == "h1\n"
    make_lab(name="second", addresses="static")
    assert "first, second" in tapbridge("lab", "exec", "--", "hostname", exit_code=3).stderr
    assert "first, second" in tapbridge("lab", "down", exit_code=3).stderr
    make_lab(addresses="static")
    assert tapbridge("lab", "exec", "--", "hostname").stdout == "h1\n"  # the lab named lab


def test_a_namespace_of_that_name_that_is_not_ours_is_left_alone(tapbridge: Tapbridge) -> None:
    run("ip", "netns", "add", "tb-lab-h1")
    try:
        assert "tb-lab-h1" in tapbridge("lab", "up", exit_code=3).stderr
        tapbridge("lab", "down", "--all")
        tapbridge("lab", "down", "lab")
        assert "tb-lab-h1" in run("ip", "netns").stdout
    finally:
        run("ip", "netns", "del", "tb-lab-h1")


def test_a_program_that_is_missing_is_named_with_its_package(
    tapbridge: Tapbridge, run_dir: Path, tmp_path: Path
) -> None:
    """Without dhclient a leased lab is refused, and a static one is not."""
    run("mount", "--bind", "/dev/null", "/usr/sbin/dhclient")  # in the session's own mount namespace
    try:
        assert "apt-get install isc-dhcp-client" in tapbridge("lab", "up", exit_code=3).stderr
        tapbridge("lab", "up", "--addresses", "static", "--no-dad")
        tapbridge("lab", "down")
    finally:
        run("umount", "/usr/sbin/dhclient")
    assert not (run_dir / "labs").exists()


@pytest.mark.parametrize("verb", ["up", "down"])
def test_where_the_run_folder_cannot_be_made_it_is_refused(verb: str) -> None:
    done = run(*TAPBRIDGE, "lab", verb, check=False, env={"TAPBRIDGE_RUN_DIR": "/proc/nowhere"})
    assert (done.returncode, "hint: set TAPBRIDGE_RUN_DIR" in done.stderr) == (5, True)
