"""Watch a host's traffic while a command changes its network."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Sequence
from typing import Any

from meter.apart import PROBE
from meter.figures import NS_PER_MS, RATE_HZ, Connections, Flow, Run, parse_flow
from meter.rig import CONTROL_IPS, SITE, Site, run_behind

LEAD_S = 0.3
CONNECT_EVERY_MS = 20
_FLOWS = (("in4", "host", "Udp"), ("in6", "host", "Udp6"), ("out4", "lan", "Udp"), ("out6", "lan", "Udp6"))


class Probe:
    """A probe at work behind the words that lead to its namespace."""

    def __init__(self, place: Sequence[str], mode: str, *words: str) -> None:
        command = [*place, str(PROBE), mode, *words]
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


def measure(way: str, verb: str, script: str, settle_s: float, site: Site = SITE) -> Run:
    """Run a script on a site's host under all flows. Raises RuntimeError if it fails."""
    at, host_ips, peer_ips = site.words, site.host_ips, site.peer_ips
    receivers = {
        "host": Probe(at["host"], "receive", *host_ips),
        "lan": Probe(at["lan"], "receive", *peer_ips),
        "control": Probe(at["control-b"], "receive", CONTROL_IPS[1]),
    }
    server = Probe(at["host"], "serve", *host_ips)
    before = _overflows(site)
    rate = str(RATE_HZ)
    inward = [ip for pair in zip(peer_ips, host_ips, strict=True) for ip in pair]
    outward = [ip for pair in zip(host_ips, peer_ips, strict=True) for ip in pair]
    senders = {
        "host": Probe(at["lan"], "send", rate, *inward),
        "lan": Probe(at["host"], "send", rate, *outward),
        "control": Probe(at["control-a"], "send", rate, *CONTROL_IPS),
    }
    caller = Probe(at["lan"], "connect", str(CONNECT_EVERY_MS), *host_ips)
    time.sleep(LEAD_S)
    zero_ns = time.time_ns()
    run_behind(site.shell, "sh", "-e", "-c", script, timeout_s=120)
    took_ns = time.time_ns() - zero_ns
    time.sleep(settle_s)
    calls = caller.end()
    sent = {name: probe.end() for name, probe in senders.items()}
    time.sleep(0.02)  # the last datagrams are on their way
    arrived = {name: probe.end() for name, probe in receivers.items()}
    server.end()
    after = _overflows(site)

    def flow(end: str, index: int, overflowed: int) -> Flow:
        told = {**sent[end]["flows"][index], "start_ns": sent[end]["start_ns"]}
        return parse_flow(told, arrived[end]["flows"][index], overflowed=overflowed, zero_ns=zero_ns)

    return Run(
        way=way,
        verb=verb,
        command_ms=took_ns / NS_PER_MS,
        flows={name: flow(end, k % 2, after[name] - before[name]) for k, (name, end, _) in enumerate(_FLOWS)},
        control=flow("control", 0, 0),
        connections=Connections(
            tried=calls["tried"], failed=calls["failed"], slowest_ms=calls["slowest_ns"] / NS_PER_MS
        ),
    )


def _overflows(site: Site) -> dict[str, int]:
    """The datagrams that found no room at their receiver, by flow (RcvbufErrors of /proc/net/snmp and snmp6)."""
    found: dict[str, int] = {}
    for name, netns, protocol in _FLOWS:
        if protocol == "Udp":
            head, values = [
                line.split() for line in site.read(netns, "/proc/net/snmp").splitlines() if line.startswith("Udp:")
            ]
            counters = dict(zip(head, values, strict=True))
            found[name] = int(counters["RcvbufErrors"])
        else:
            lines = site.read(netns, "/proc/net/snmp6").splitlines()
            found[name] = int(next(line.split()[1] for line in lines if line.startswith("Udp6RcvbufErrors")))
    return found
