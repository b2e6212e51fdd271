"""The timer beside the guardian: it fires whoever dies, once, and leaves nothing."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterator

import pytest

from kit.container import Container

UNIT = "tapbridge-test"
FIRED = "/run/fired"
STAMP = f"echo $(cut -d' ' -f1 /proc/uptime) $WHO >>{FIRED}"


@pytest.fixture
def clean(host: Container) -> Iterator[Container]:
    """The host without a timer of ours, before and after."""
    host.run("rm", "-f", FIRED)
    yield host
    python(host, f"systemd.disarm_timer({UNIT!r})")
    loaded = host.run("systemctl list-units --all --plain --no-legend 'tapbridge-*'").stdout
    assert loaded == "", "a unit stayed loaded"


def python(host: Container, body: str, *, prefix: str = "", check: bool = True) -> str:
    """Run lines of Python inside, with linux/systemd.py; what they print."""
    host.path("/run/body.py").write_text("from tapbridge.linux import systemd\n" + textwrap.dedent(body))
    return host.run(f"{prefix} python3 -I /run/body.py", check=check).stdout


def arm(after_s: float, shell: str = STAMP) -> str:
    """The line that arms the timer."""
    return f"systemd.arm_timer({UNIT!r}, {after_s}, ['/bin/sh', '-c', {shell!r}], {{'WHO': 'me'}})\n"


def fired(host: Container) -> list[str]:
    """The lines that the program has written."""
    return host.run("cat", FIRED, check=False).stdout.splitlines()


def test_it_fires_on_time_though_who_set_it_was_killed(clean: Container) -> None:
    body = "print(open('/proc/uptime').read().split()[0], flush=True)\n" + arm(1.0)
    armed = float(python(clean, body + "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", check=False))
    clean.wait_for(f"test -s {FIRED}")
    when, who = fired(clean)[0].split()
    assert who == "me"
    assert 0.98 < float(when) - armed < 6  # never early; that it is late by much would be the machine's doing
    time.sleep(0.5)
    assert len(fired(clean)) == 1


def test_it_survives_the_end_of_the_session_that_set_it(clean: Container) -> None:
    """What KillUserProcesses=yes and `loginctl terminate-session` do: the whole control group is killed."""
    body = arm(4.0) + f"open('/run/set', 'w').close()\nimport time\ntime.sleep(60)  # {UNIT}"
    clean.path("/run/session.py").write_text("from tapbridge.linux import systemd\n" + body)
    scope = "systemd-run --quiet --scope --unit=session-9 --slice=user.slice"
    clean.run(f"{scope} python3 -I /run/session.py >/run/said 2>&1 &")
    clean.wait_for("test -e /run/set")
    assert clean.show("session-9.scope", "ActiveState") == {"ActiveState": "active"}
    clean.run("systemctl", "kill", "--signal=KILL", "session-9.scope")
    clean.wait_for("! systemctl is-active --quiet session-9.scope")
    assert clean.run("pgrep", "-f", "session.py", check=False).stdout == ""
    assert fired(clean) == []
    clean.wait_for(f"test -s {FIRED}")
    assert len(fired(clean)) == 1


def test_a_disarmed_one_does_not_fire_and_is_gone(clean: Container) -> None:
    said = python(
        clean,
        f"""
        {arm(3.0).strip()}
        print(systemd.is_armed({UNIT!r}))
        systemd.disarm_timer({UNIT!r})
        print(systemd.is_armed({UNIT!r}))
        systemd.disarm_timer({UNIT!r})
        """,
    )
    assert said.split() == ["True", "False"]
    assert clean.show(f"{UNIT}.service", "LoadState") == {"LoadState": "not-found"}
    time.sleep(3.5)
    assert fired(clean) == []


def test_a_second_one_of_the_same_name_is_an_error(clean: Container) -> None:
    body = f"""
    from tapbridge.model.errors import HostError
    {arm(60).strip()}
    try:
        {arm(60).strip()}
    except HostError as error:
        print(error.message)
    """
    assert f"systemd does not set the timer {UNIT}: " in python(clean, body)


def test_a_program_that_fails_is_started_again(clean: Container) -> None:
    python(clean, arm(0.1, f"{STAMP}; test $(wc -l <{FIRED}) -ge 3"))
    clean.wait_for(f"test $(wc -l <{FIRED}) -ge 3")
    clean.wait_for(f"! systemctl is-active --quiet {UNIT}.service {UNIT}.timer")
    time.sleep(1.2)
    assert len(fired(clean)) == 3


def test_it_depends_on_nothing(clean: Container) -> None:
    python(clean, arm(60))
    for unit in (f"{UNIT}.timer", f"{UNIT}.service"):
        told = clean.show(unit, "Requires", "Wants", "After", "Conflicts", "Before", "DefaultDependencies")
        others = {name for names in told.values() for name in names.split()} - {"no", f"{UNIT}.timer"}
        assert others <= {"-.mount", "system.slice", "systemd-journald.socket", f"{UNIT}.service"}, unit
    assert clean.show(f"{UNIT}.service", "OOMScoreAdjust", "Restart") == {
        "OOMScoreAdjust": "-1000",
        "Restart": "on-failure",
    }
    assert clean.show(f"{UNIT}.timer", "AccuracyUSec") == {"AccuracyUSec": "100ms"}


def test_a_service_that_disarms_does_not_stop_itself(clean: Container) -> None:
    body = f"from tapbridge.linux import systemd; systemd.disarm_timer({UNIT!r}); print('done')"
    clean.path("/run/own.py").write_text(body)
    python(clean, arm(0.1, f"python3 -I /run/own.py >>{FIRED}"))
    clean.wait_for(f"test -s {FIRED}")
    assert fired(clean) == ["done"]


@pytest.mark.parametrize(("prefix", "here"), [("", "True"), ("unshare --net", "False"), ("unshare --pid --fork", "")])
def test_systemd_is_here_in_its_own_namespaces(clean: Container, prefix: str, here: str) -> None:
    said = python(clean, "print(systemd.is_here())", prefix=prefix and f"{prefix} --mount --mount-proc")
    assert said.strip() == (here or "False")
