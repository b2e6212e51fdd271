"""Watch a host's traffic while a command changes its network."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from typing import Any

from meter.apart import PROBE
from meter.figures import NS_PER_MS, RATE_HZ, Connections, Flow, Run, parse_flow
from meter.rig import CONTROL_IPS, HOST_IPS, PEER_IPS, netns_words, run

LEAD_S = 0.3
CONNECT_EVERY_MS = 20
_FLOWS = (("in4", "host", "Udp"), ("in6", "host", "Udp6"), ("out4", "lan", "Udp"), ("out6", "lan", "Udp6"))


class Probe:
    """A probe at work in one namespace."""

    def __init__(self, netns: str, mode: str, *words: str) -> None:
        command = [*netns_words(netns), str(PROBE), mode, *words]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        if mode in ("receive", "serve"):
            assert self._process.stdout
            if self._process.stdout.readline() != "ready\n":
                raise RuntimeError(f"the probe did not start: {' '.join(command)}")

    def end(self) -> dict[str, Any]:
        """Stop it and read what it found."""
        self._process.send_signal(signal.SIGTERM)
        printed, _ = self._process.communicate(timeout=30)
        found = json.loads(printed)
        assert isinstance(found, dict)
        return found


def measure(way: str, verb: str, script: str, settle_s: float) -> Run:
    """Run a script in the rig's host under all flows. Raises RuntimeError if it fails."""
    receivers = {
        "host": Probe("host", "receive", *HOST_IPS),
        "lan": Probe("lan", "receive", *PEER_IPS),
        "control": Probe("control-b", "receive", CONTROL_IPS[1]),
    }
    server = Probe("host", "serve", *HOST_IPS)
    before = _overflows()
    rate = str(RATE_HZ)
    inward = [ip for pair in zip(PEER_IPS, HOST_IPS, strict=True) for ip in pair]
    outward = [ip for pair in zip(HOST_IPS, PEER_IPS, strict=True) for ip in pair]
    senders = {
        "host": Probe("lan", "send", rate, *inward),
        "lan": Probe("host", "send", rate, *outward),
        "control": Probe("control-a", "send", rate, *CONTROL_IPS),
    }
    caller = Probe("lan", "connect", str(CONNECT_EVERY_MS), *HOST_IPS)
    time.sleep(LEAD_S)
    zero_ns = time.time_ns()
    run("host", "sh", "-e", "-c", script)
    took_ns = time.time_ns() - zero_ns
    time.sleep(settle_s)
    calls = caller.end()
    sent = {name: probe.end() for name, probe in senders.items()}
    time.sleep(0.02)  # the last datagrams are on their way
    arrived = {name: probe.end() for name, probe in receivers.items()}
    server.end()
    after = _overflows()

    def flow(at: str, index: int, overflowed: int) -> Flow:
        told = {**sent[at]["flows"][index], "start_ns": sent[at]["start_ns"]}
        return parse_flow(told, arrived[at]["flows"][index], overflowed=overflowed, zero_ns=zero_ns)

    return Run(
        way=way,
        verb=verb,
        command_ms=took_ns / NS_PER_MS,
        flows={name: flow(at, k % 2, after[name] - before[name]) for k, (name, at, _) in enumerate(_FLOWS)},
        control=flow("control", 0, 0),
        connections=Connections(
            tried=calls["tried"], failed=calls["failed"], slowest_ms=calls["slowest_ns"] / NS_PER_MS
        ),
    )


def _overflows() -> dict[str, int]:
    """The datagrams that found no room at their receiver, by flow (RcvbufErrors of /proc/net/snmp and snmp6)."""
    found: dict[str, int] = {}
    for name, netns, protocol in _FLOWS:
        if protocol == "Udp":
            head, values = [
                line.split() for line in run(netns, "cat", "/proc/net/snmp").splitlines() if line.startswith("Udp:")
            ]
            counters = dict(zip(head, values, strict=True))
            found[name] = int(counters["RcvbufErrors"])
        else:
            lines = run(netns, "cat", "/proc/net/snmp6").splitlines()
            found[name] = int(next(line.split()[1] for line in lines if line.startswith("Udp6RcvbufErrors")))
    return found
