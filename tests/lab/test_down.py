"""`lab down` leaves nothing of a lab, and touches nothing else."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from kit.command import run
from kit.labs import TAPBRIDGE, MakeLab, Tapbridge
from tapbridge.lab import build
from tapbridge.lab.build import Lab, is_whole, up
from tapbridge.lab.namespaces import started
from tapbridge.lab.record import Shelf
from tapbridge.lab.spec import Spec
from tapbridge.model.errors import HostError

RTMGRP_LINK = 1


def inhabitants(made: Lab) -> dict[int, int]:
    """PID → start of every process in the lab's network namespaces."""
    inodes = {keep.netns for keep in made.record.keeps.values()}
    found = {}
    for pid in [int(name) for name in os.listdir("/proc") if name.isdigit()]:
        try:
            inside = os.stat(f"/proc/{pid}/ns/net").st_ino in inodes
        except OSError:
            continue
        start = started(pid) if inside else None
        if start is not None:
            found[pid] = start
    return found


def await_gone(link: str) -> None:
    """A veth goes when the namespace of its other end does; the kernel destroys that one in the background."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as events:
        events.bind((0, RTMGRP_LINK))
        deadline = time.monotonic() + 20
        while link in {name for _, name in socket.if_nameindex()}:
            left = deadline - time.monotonic()
            assert left > 0, "a namespace of the lab is still there"
            select.select([events], [], [], left)
            events.recv(1 << 16, socket.MSG_DONTWAIT)


def test_down_leaves_nothing(make_lab: MakeLab, run_dir: Path) -> None:
    run("ip", "netns", "add", "witness")  # the first one makes /run/netns a mount
    run("ip", "netns", "del", "witness")
    mounts = Path("/proc/self/mountinfo").read_text()
    made = make_lab(hosts=2)
    other = make_lab(name="other", addresses="static")  # its places must not hold the first lab's namespaces alive
    run("ip", "link", "add", "probe", "type", "veth", "peer", "name", "far", "netns", "tb-lab-h1")
    stubborn = made.popen("h1", ["setsid", "sh", "-c", "trap '' TERM HUP; sleep 100 & wait; sleep 100; sleep 100"])
    hidden = made.popen("h2", ["unshare", "--net", "sleep", "100"])  # has left the lab's network, not its files
    before = inhabitants(made)
    assert len(before) >= len(made.record.keeps) + 3  # dnsmasq and two dhclients

    made.down()
    assert {pid for pid, start in before.items() if started(pid) == start} == set()
    assert stubborn.wait(10) == -signal.SIGKILL
    assert hidden.wait(10) < 0
    await_gone("probe")
    assert Shelf(run_dir).names() == ["other"]
    assert is_whole(other.record)
    other.down()
    assert list(run_dir.iterdir()) == []
    assert list(Path("/run/netns").iterdir()) == []
    assert Path("/proc/self/mountinfo").read_text() == mounts


def test_a_record_with_foreign_processes_in_it_harms_none_of_them(make_lab: MakeLab, run_dir: Path) -> None:
    made = make_lab(addresses="static")
    words = ["unshare", "--net", "sh", "-c", "echo there; exec sleep 100"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as foreign:
        try:
            assert foreign.stdout is not None
            assert foreign.stdout.readline() == "there\n"
            path = run_dir / "labs/lab.json"
            document = json.loads(path.read_text())
            netns = os.stat(f"/proc/{foreign.pid}/ns/net").st_ino
            document["keeps"]["peer"] = {"pid": foreign.pid, "start": started(foreign.pid), "netns": netns}
            document["keeps"]["h1"]["pid"] = os.getpid()
            path.write_text(json.dumps(document))
            keepers = [keep for place, keep in made.record.keeps.items()]
            made.down()
            assert foreign.poll() is None
            assert all(started(keep.pid) != keep.start for keep in keepers)
        finally:
            foreign.kill()


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"spec": {}}', "\0" * 100])
def test_a_lab_whose_record_is_damaged_is_found_by_its_marks(
    make_lab: MakeLab, tapbridge: Tapbridge, run_dir: Path, damage: str
) -> None:
    made = make_lab(addresses="static")
    (run_dir / "labs/lab.json").write_text(damage)
    assert "tapbridge lab down lab" in tapbridge("lab", "status", "lab", exit_code=1).stderr
    assert tapbridge("lab", "down", "--all").stdout == "removed: lab\n"
    assert all(started(keep.pid) != keep.start for keep in made.record.keeps.values())


def test_a_lab_without_a_record_is_found_by_its_marks(make_lab: MakeLab, tapbridge: Tapbridge, run_dir: Path) -> None:
    made = make_lab(addresses="static")
    before = inhabitants(made)
    (run_dir / "labs/lab.json").unlink()
    assert tapbridge("lab", "down", "--all").stdout == "removed: lab\n"
    assert not [pid for pid, start in before.items() if started(pid) == start]  # a namespace's number may be another's


def test_a_lab_without_its_keepers_is_broken_and_is_made_anew(make_lab: MakeLab, tapbridge: Tapbridge) -> None:
    made = make_lab(addresses="static")
    for keep in made.record.keeps.values():
        os.kill(keep.pid, signal.SIGKILL)
    assert json.loads(tapbridge("lab", "status", "--json").stdout)["labs"][0]["state"] == "broken"
    assert "tapbridge lab down" in tapbridge("lab", "exec", "--", "true", exit_code=3).stderr
    assert json.loads(tapbridge("lab", "up", "--no-dad", "--json").stdout)["outcome"] == "done"
    assert tapbridge("lab", "exec", "--", "hostname").stdout == "h1\n"


def test_a_guest_has_time_to_close_its_disks(make_lab: MakeLab, tmp_path: Path) -> None:
    made = make_lab(addresses="static")
    closed = tmp_path / "closed"
    script = f"trap 'touch {closed}; exit 0' TERM; echo ready; sleep 100 & wait"
    guest = made.popen("h1", ["sh", "-c", script], stdout=subprocess.PIPE)
    assert guest.stdout is not None
    assert guest.stdout.readline() == "ready\n"
    made.down()
    guest.communicate()
    assert closed.exists()


def test_a_lab_is_not_removed_from_within(make_lab: MakeLab, run_dir: Path) -> None:
    made = make_lab(addresses="static")
    words = ("env", f"TAPBRIDGE_RUN_DIR={run_dir}", "nsenter", "--net=/run/netns/tb-lab-h1", *TAPBRIDGE)
    refused = run(*words, "lab", "down", check=False)
    assert (refused.returncode, "the lab lab itself" in refused.stderr) == (3, True)
    assert is_whole(made.record)


def test_a_lab_that_cannot_be_finished_leaves_nothing(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise HostError("no lease")

    monkeypatch.setattr(build, "_lease", fail)
    with pytest.raises(HostError, match="no lease"):
        up(Spec(dad=False), run_dir)
    assert list(run_dir.iterdir()) == []
    assert list(Path("/run/netns").iterdir()) == []
