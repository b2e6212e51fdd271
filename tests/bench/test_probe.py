"""The meter against a loss that is known: what nftables dropped, to the datagram."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from meter import apart

from kit.command import run
from kit.netns import in_netns

EVERY_TENTH = """
table inet known {
  chain input {
    type filter hook input priority 0
    udp dport 7007 numgen inc mod 10 0 counter drop
  }
}
"""


@pytest.fixture(scope="session")
def probe() -> Path:
    apart.build_probe()
    return apart.PROBE


def ended(process: subprocess.Popen[str]) -> dict[str, list[dict[str, int]]]:
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=10)
    found: dict[str, list[dict[str, int]]] = json.loads(printed)
    return found


def test_the_probe_misses_exactly_what_was_dropped(probe: Path) -> None:
    with in_netns():
        subprocess.run(["nft", "-f", "-"], input=EVERY_TENTH, text=True, check=True)
        words = ["127.0.0.1", "127.0.0.1", "::1", "::1"]
        receiver = subprocess.Popen([probe, "receive", "127.0.0.1", "::1"], stdout=subprocess.PIPE, text=True)
        assert receiver.stdout
        assert receiver.stdout.readline() == "ready\n"
        sender = subprocess.Popen([probe, "send", "2000", *words], stdout=subprocess.PIPE, text=True)
        time.sleep(0.3)
        sent = ended(sender)["flows"]
        arrived = ended(receiver)["flows"]
        counter = re.search(r"counter packets (\d+)", run("nft", "list", "ruleset").stdout)
    assert counter
    missing = [told["numbers"] - got["got"] for told, got in zip(sent, arrived, strict=True)]
    assert sum(missing) == int(counter[1]) > 0
    assert min(told["numbers"] for told in sent) > 100


def test_the_probe_counts_every_connection_that_was_refused(probe: Path) -> None:
    with in_netns():
        caller = subprocess.Popen([probe, "connect", "20", "127.0.0.1"], stdout=subprocess.PIPE, text=True)
        time.sleep(0.2)
        caller.send_signal(signal.SIGTERM)
        found = json.loads(caller.communicate(timeout=10)[0])
    assert found["tried"] == found["failed"] > 1


def test_a_child_is_not_charged_with_the_memory_of_its_starter(probe: Path) -> None:
    burden = bytearray(64 << 20)
    done = subprocess.run([probe, "run", "true"], capture_output=True, text=True, check=True)
    cost = json.loads(done.stderr)
    assert cost["exit"] == 0
    assert cost["peak_kib"] < len(burden) >> 11
