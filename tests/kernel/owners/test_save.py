"""`save` and `unsave` below a root: what is written, what is refused, and that a kill leaves all of it or nothing."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kit.command import run
from kit.lan import host_on_lan
from tapbridge.cli.main import main

INTERFACES = """source interfaces.d/*
auto eth0
iface eth0 inet static
    address 192.0.2.2/24
iface eth0 inet6 static
    address 2001:db8::2/64
"""
CHANGING = re.compile(r"(rename|unlink|fsync|mkdir|flock)\(|(openat)\(.*O_CREAT")


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """The root of a Debian with ifupdown, on a host whose eth0 is a port of br0."""
    root = tmp_path / "root"
    (root / "etc/network/if-pre-up.d").mkdir(parents=True)
    (root / "etc/network/interfaces.d").mkdir()
    (root / "etc/network/if-pre-up.d/bridge").touch()
    interfaces(root).write_bytes(INTERFACES.encode() + b"# \xff no UTF-8, and no end of line")
    interfaces(root).chmod(0o640)
    with host_on_lan():
        assert main(["up", "--root", str(root), "--quiet"]) == 0
        yield root


def interfaces(root: Path) -> Path:
    return root / "etc/network/interfaces"


def tree(root: Path) -> dict[str, tuple[bytes, int]]:
    """Every file below a root, but for those that a boot forgets."""
    paths = [path for path in root.rglob("*") if path.is_file() and root / "run" not in path.parents]
    return {str(path.relative_to(root)): (path.read_bytes(), path.stat().st_mode) for path in paths}


def printed(root: Path, *words: str, code: int = 0) -> dict[str, Any]:
    """What a command prints."""
    done = run(sys.executable, "-m", "tapbridge", *words, "--root", root, "--json", "--yes", check=False)
    assert done.returncode == code, done.stdout + done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def codes(document: dict[str, Any]) -> list[str]:
    return [finding["code"] for finding in document["findings"]]


def test_unsave_puts_back_what_save_has_changed(root: Path) -> None:
    before = tree(root)
    planned = printed(root, "save", "--dry-run")
    assert tree(root) == before
    done = printed(root, "save")
    assert (planned["outcome"], done["outcome"]) == ("planned", "done")
    assert planned["diff"] == done["diff"]
    assert {"-iface eth0 inet static", "+iface br0 inet static", "+    bridge_ports eth0"} <= set(
        done["diff"].split("\n")
    )
    assert "differs-after-reboot" in codes(done)  # the default route is not in the file
    assert printed(root, "status")["bridges"][0]["saved"] is True
    assert (root / "var/lib/tapbridge/saved/br0").stat().st_mode & 0o777 == 0o600
    assert interfaces(root).stat().st_mode & 0o777 == 0o640

    after = tree(root)
    assert printed(root, "save")["outcome"] == "nothing"
    assert tree(root) == after
    assert printed(root, "unsave", "--dry-run")["outcome"] == "planned"
    assert printed(root, "unsave")["outcome"] == "done"
    assert tree(root) == before
    assert printed(root, "status")["bridges"][0]["saved"] is False
    assert printed(root, "unsave")["outcome"] == "nothing"


def test_a_saved_bridge_that_is_taken_down_returns_at_boot(root: Path) -> None:
    printed(root, "save")
    after = tree(root)
    assert "returns-at-boot" in codes(printed(root, "down"))
    assert tree(root) == after
    assert printed(root, "unsave")["outcome"] == "done"
    assert interfaces(root).read_bytes().startswith(INTERFACES.encode())


def test_what_is_saved_otherwise_than_it_is_now_is_told(root: Path) -> None:
    printed(root, "save", "--for", "systemd")
    assert codes(printed(root, "save")) == []
    run("ip", "addr", "add", "192.0.2.99/24", "dev", "br0")
    again = printed(root, "save")
    assert (again["outcome"], codes(again)) == ("nothing", ["saved-otherwise"])


def test_a_nic_and_a_name_are_of_one_saved_bridge(root: Path) -> None:
    printed(root, "save")
    printed(root, "down")
    run("ip", "link", "add", "eth9", "type", "veth", "peer", "name", "p9")
    assert codes(printed(root, "up", "eth9", code=3)) == ["saved-elsewhere"]
    assert codes(printed(root, "up", "--bridge", "br7", "--save", code=3)) == ["saved-elsewhere"]
    assert printed(root, "status")["bridges"] == []
    assert printed(root, "up", "--bridge", "br7")["outcome"] == "done"
    assert codes(printed(root, "save", "br7", code=3)) == ["saved-elsewhere"]
    printed(root, "unsave", "br0")
    assert printed(root, "save")["outcome"] == "done"


def test_up_saves_what_it_has_made(root: Path) -> None:
    printed(root, "down")
    before = tree(root)
    planned = printed(root, "up", "--save", "--dry-run")
    assert tree(root) == before
    done = printed(root, "up", "--save")
    assert (planned["outcome"], done["outcome"]) == ("planned", "done")
    assert planned["diff"] == done["diff"] != ""
    assert done["steps"][-1]["text"].endswith("saved/br0")
    assert all(step["done"] for step in done["steps"])
    assert printed(root, "up", "--save")["outcome"] == "nothing"
    printed(root, "unsave")
    again = printed(root, "up", "--save")
    assert (again["outcome"], again["diff"]) == ("done", done["diff"])


def test_up_touches_nothing_that_it_could_not_save(root: Path) -> None:
    printed(root, "down")
    interfaces(root).write_text("iface eth0 inet ppp\n")
    assert codes(printed(root, "up", "--save", code=3)) == ["unsavable"]
    assert printed(root, "status")["bridges"] == []
    printed(root, "up", "--save", "--script", code=2)


def test_a_bridge_that_is_there_but_could_not_be_saved_is_neither_before_nor_after(root: Path) -> None:
    printed(root, "down")
    (root / "var/lib/tapbridge").mkdir(parents=True)
    (root / "var/lib/tapbridge/saved").write_text("in the way")
    before = tree(root)
    told = printed(root, "up", "--save", code=4)
    assert told["outcome"] == "stuck"
    assert {"host-error", "not-saved"} <= set(codes(told))
    assert tree(root) == before
    assert [bridge["name"] for bridge in printed(root, "status")["bridges"]] == ["br0"]


def test_what_somebody_has_changed_since_is_not_thrown_away(root: Path) -> None:
    before = tree(root)
    printed(root, "save")
    interfaces(root).write_text(
        interfaces(root).read_text(errors="surrogateescape") + "# mine\n", errors="surrogateescape"
    )
    edited = tree(root)
    for words in (("save",), ("unsave",)):
        refused = printed(root, *words, code=3)
        assert codes(refused) == ["changed-since"]
        assert "/etc/network/interfaces" in refused["findings"][0]["message"]
    assert tree(root) == edited
    assert printed(root, "unsave", "--force")["outcome"] == "done"
    assert tree(root) == before


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [
        ("iface eth1 inet dhcp\n", "no-keeper", "br0 cannot be saved"),
        (f"# Generated by cloud-init.\n{INTERFACES}", "cloud-init", "writes it anew"),
        (f"{INTERFACES}iface br0 inet dhcp\n", "unsavable", "a stanza for it already"),
        (f"{INTERFACES}    hwaddress 02:00:00:00:00:09\n", "unsavable", "hwaddress"),
    ],
)
def test_what_cannot_be_saved_is_refused(root: Path, text: str, code: str, told: str) -> None:
    interfaces(root).write_text(text)
    before = tree(root)
    refused = printed(root, "save", code=3)
    assert codes(refused) == [code]
    assert told in refused["findings"][0]["message"]
    assert tree(root) == before


def test_two_files_with_a_stanza_and_no_bridge_utils_are_refused(root: Path) -> None:
    (root / "etc/network/interfaces.d/eth0").write_text("iface eth0 inet dhcp\n")
    assert "both have a stanza" in printed(root, "save", code=3)["findings"][0]["message"]
    (root / "etc/network/interfaces.d/eth0").unlink()
    (root / "etc/network/if-pre-up.d/bridge").unlink()
    assert "bridge-utils" in printed(root, "save", code=3)["findings"][0]["message"]


def test_a_link_that_leads_out_of_the_root_is_refused(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    interfaces(root).rename(outside)
    interfaces(root).symlink_to(outside)
    assert codes(printed(root, "save", code=3)) == ["leads-out"]
    assert outside.read_bytes().startswith(INTERFACES.encode())


def test_a_network_that_no_boot_configures_cannot_be_saved(root: Path) -> None:
    done = run(sys.executable, "-m", "tapbridge", "save", "--json", check=False)
    assert done.returncode == 3
    assert codes(json.loads(done.stdout)) == ["not-lasting"]


def points(root: Path, log: Path, *words: str) -> list[tuple[str, int]]:
    """The calls of a command that change a file, each with its number among those of its kind."""
    run("strace", "-o", log, *command(root, *words))
    counts: Counter[str] = Counter()
    found = []
    for line in log.read_text().splitlines():
        call = line.partition("(")[0]
        counts[call] += 1
        if CHANGING.match(line):
            found.append((call, counts[call]))
    return found


def command(root: Path, *words: str) -> tuple[str | Path, ...]:
    return (sys.executable, "-m", "tapbridge", *words, "--root", root, "--yes", "--quiet")


def test_killed_at_any_call_all_of_it_is_there_or_nothing(root: Path, tmp_path: Path) -> None:
    log, before = tmp_path / "calls", tree(root)
    ends = [before]
    calls = {"save": points(root, log, "save")}
    ends.append(tree(root))
    calls["unsave"] = points(root, log, "unsave")
    assert tree(root) == before
    seen = set()
    for verb, number in [(verb, number) for verb, each in calls.items() for number in range(0, len(each), 3)]:
        run(*command(root, "unsave" if verb == "save" else "save"))
        call, count = calls[verb][number]
        inject = ("-e", f"trace={call}", "-e", f"inject={call}:signal=SIGKILL:when={count}")
        run("strace", "-o", log, *inject, *command(root, verb), check=False)
        run(*command(root, "recover"))
        assert tree(root) in ends, (verb, call, count)
        seen.add((verb, ends.index(tree(root))))
    assert seen == {("save", 0), ("save", 1), ("unsave", 0), ("unsave", 1)}
