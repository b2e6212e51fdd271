"""A lab of a user without root."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kit.command import run
from kit.source import ROOT
from tapbridge.lab.namespaces import started

NOBODY = 65534
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
SWITCH = Path("/proc/sys/user/max_user_namespaces")


@pytest.fixture
def user(tmp_path: Path) -> Iterator[tuple[str, ...]]:
    """The words that run the program as nobody, with a runtime folder of his own."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    runtime = Path(f"/run/user/{NOBODY}")
    settings = (f"TAPBRIDGE_RUN_DIR={runtime}/tapbridge", f"PYTHONPATH={ROOT / 'src'}", "PATH=/usr/bin:/bin")
    words = (*AS_NOBODY, "env", *settings)
    program = next(
        (
            (*words, python, "-m", "tapbridge")
            for python in (sys.executable, "/usr/bin/python3")
            if run(*words, python, "-m", "tapbridge", "--version", check=False).returncode == 0
        ),
        None,
    )
    if program is None:
        pytest.skip("there is no Python that every user may run")
    runtime.mkdir(parents=True)
    os.chown(runtime, NOBODY, NOBODY)
    yield program
    run(*program, "lab", "down", "--all", check=False)
    assert [path for path in runtime.rglob("*") if path.name != "tapbridge"] == []
    run("rm", "-r", "/run/user")


@pytest.mark.parametrize("addresses", ["leased", "static"])
def test_a_user_has_a_lab_that_works(user: tuple[str, ...], addresses: str) -> None:
    made = json.loads(run(*user, "lab", "up", "mine", "--addresses", addresses, "--no-dad", "--json").stdout)
    places = {place["name"]: place for place in made["lab"]["places"]}
    assert {place["netns"] for place in places.values()} == {None}
    assert len(places["h1"]["addresses"]) == 2
    for address in places["h1"]["addresses"]:
        run(*user, "lab", "exec", "--host", "beyond", "--", "ping", "-n", "-c", "1", "-W", "2", address)
    inside = run(
        *user, "lab", "exec", "--", "sh", "-c", "id -u; hostname; ls /sys/class/net; ip link add br0 type bridge"
    )
    assert inside.stdout.split() == ["0", "h1", "eth0", "lo"]
    assert run(*user, "lab", "exec", "--", "sh", "-c", "exit 9", check=False).returncode == 9
    pids = {place["pid"]: started(place["pid"]) for place in places.values()}
    assert json.loads(run(*user, "lab", "down", "--json").stdout)["labs"] == ["mine"]
    assert not any(start is not None and started(pid) == start for pid, start in pids.items())


def test_a_user_s_lab_that_was_killed_is_removed_by_its_marks(user: tuple[str, ...]) -> None:
    made = json.loads(run(*user, "lab", "up", "--no-dad", "--json").stdout)
    Path(f"/run/user/{NOBODY}/tapbridge/labs/lab.json").unlink()
    assert run(*user, "lab", "down", "--all").stdout == "removed: lab\n"
    assert all(started(place["pid"]) is None for place in made["lab"]["places"])


def test_where_user_namespaces_are_forbidden_it_is_refused_with_the_switch(user: tuple[str, ...]) -> None:
    """The switch is per user namespace: it is off in one that nobody makes, and there he has no capability."""
    program = user[len(AS_NOBODY) :]
    script = f'echo 0 >{SWITCH} && exec setpriv --inh-caps=-all --bounding-set=-all -- "$@"'
    words = (*AS_NOBODY, "unshare", "--user", "--map-root-user", "sh", "-c", script, "sh", *program)
    before = SWITCH.read_text()
    done = run(*words, "lab", "up", check=False)
    assert SWITCH.read_text() == before
    assert done.returncode == 5, done.stderr
    assert "sudo sysctl user.max_user_namespaces=" in done.stderr
    assert run(*words, "lab", "status").stdout.startswith("there is no lab")
