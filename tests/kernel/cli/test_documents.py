"""The examples of `tapbridge explain json` have exactly the keys that the commands print."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kit.command import run
from kit.holders import Processes
from kit.lan import host_on_lan
from tapbridge.cli.explain import load_topic
from tapbridge.cli.prose import parse_blocks

TAPBRIDGE = (sys.executable, "-m", "tapbridge")
MAC = "52:54:00:1d:64:ef"
CARD = f"virtio-net-pci,netdev=n0,mac={MAC}"


@pytest.fixture
def processes() -> Iterator[Processes]:
    """A test's processes."""
    found = Processes()
    try:
        yield found
    finally:
        found.end()


def example(key: str) -> dict[str, Any]:
    """The document of the topic that has this key."""
    blocks = (block.text for block in parse_blocks(load_topic("json").text) if block.form == "code")
    texts = (text for block in blocks for text in re.split(r"\n(?=\{)", block))  # a document begins its line
    found: dict[str, Any] = next(document for document in map(json.loads, texts) if key in document)
    return found


def printed(*words: str, code: int = 0) -> dict[str, Any]:
    """What a command prints."""
    done = run(*TAPBRIDGE, *words, "--json", check=False)
    assert done.returncode == code, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def keys(value: Any, path: str = "") -> set[str]:
    """Every key of a document with the path to it."""
    if isinstance(value, dict):
        return set().union(*({f"{path}.{key}"} | keys(item, f"{path}.{key}") for key, item in value.items()))
    if isinstance(value, list):
        return set().union(*(keys(item, f"{path}[]") for item in value))
    return set()


def without_findings(value: dict[str, Any]) -> set[str]:
    """The keys of a document, but for those of its findings."""
    return {path for path in keys(value) if not path.startswith(".findings[]")}


def test_the_documents_are_as_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: Processes) -> None:
    for name in ("RUN", "STATE"):
        monkeypatch.setenv(f"TAPBRIDGE_{name}_DIR", str(tmp_path / name.lower()))
    with host_on_lan():
        for words in (("up", "--dry-run"), ("up",), ("up",)):
            assert without_findings(printed(*words)) <= without_findings(example("outcome"))
        run("ip", "tuntap", "add", "mode", "tap", "name", "tap0")
        run("ip", "link", "set", "tap0", "master", "br0", "up")
        run("ip", "neigh", "replace", "192.0.2.58", "lladdr", MAC, "dev", "br0", "nud", "stale")
        netdev = "tap,id=n0,ifname=tap0,script=no,downscript=no"
        monitor = f"unix:{tmp_path / 'web.qmp'},server=on,wait=off"
        processes.qemu("-name", "documented", "-netdev", netdev, "-device", CARD, "-usb", "-qmp", monitor)
        assert without_findings(printed("status")) == without_findings(example("bridges"))
        assert without_findings(printed("ps")) == without_findings(example("guests"))
        assert without_findings(printed("args")) == without_findings(example("args"))
        attached = printed("attach", "documented", "--model", "usb-net")
        assert without_findings(attached) == without_findings(example("nic"))
        detached = printed("detach", "documented", attached["nic"]["tap"])
        assert without_findings(detached) == without_findings(example("nic"))
        refused = printed("down", code=3)
        assert keys(refused["findings"]) == keys(example("outcome")["findings"])
        assert (set(refused), refused["steps"]) == (set(example("outcome")), [])
        processes.end()
        run("ip", "link", "del", "tap0")
        assert without_findings(printed("down")) == without_findings(example("outcome"))
    assert keys(printed("explain", "tap")) == keys(example("topics"))


def test_quiet_changes_say_nothing_and_quiet_questions_are_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RUN", "STATE"):
        monkeypatch.setenv(f"TAPBRIDGE_{name}_DIR", str(tmp_path / name.lower()))
    with host_on_lan():
        said = {
            words: run(*TAPBRIDGE, "-q", *words).stdout for words in (("up",), ("up", "eth0"), ("status",), ("down",))
        }
    assert [words[0] for words, text in said.items() if text] == ["status"]


def test_the_document_of_a_lab_is_as_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAPBRIDGE_RUN_DIR", str(tmp_path))
    name = f"json{os.getpid() % 10000}"
    try:
        made = printed("lab", "up", name, "--addresses", "static", "--no-ipv6")
        assert without_findings(printed("lab", "status", name)) == without_findings(example("labs"))
        assert keys({"labs": [made["lab"]]}) <= keys(example("labs"))
        assert set(made) == {"schema", "outcome", "steps", "lab", "findings"}
    finally:
        gone = printed("lab", "down", name)
    assert (gone["outcome"], gone["labs"]) == ("done", [name])
