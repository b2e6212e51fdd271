"""A change that succeeds in every step on a LAN that will not have it: taken back at once, with the reason."""

from __future__ import annotations

import pytest

from kit.changes import document, guardians, is_as, until
from kit.command import run
from kit.lan import ping
from kit.netns import Netns
from tapbridge.model.state import State

# The rules of family bridge bite as soon as eth0 is a port, and not before: so they are the switch outside.
SWITCHES = {
    "drops the bridge's frames": ("output", "oifname eth0 drop"),
    "answers old flows only": ("prerouting", "iifname eth0 ether type arp drop"),
    "lets no ND through": ("prerouting", "iifname eth0 icmpv6 type nd-neighbor-advert drop"),
}


def _drop(family: str, hook: str, rule: str) -> None:
    chain = f"type filter hook {hook} priority 0;\n{rule}\n"
    run("nft", "-f", "-", stdin=f"table {family} t {{\nchain c {{\n{chain}}}\n}}\n")


@pytest.mark.parametrize("confirm", ["0", "20", "auto"])
@pytest.mark.parametrize("switch", SWITCHES)
def test_up_is_taken_back(switch: str, confirm: str, before: State, lan: Netns) -> None:
    _drop("bridge", *SWITCHES[switch])
    told = document("up", "--yes", "--confirm", confirm, exit_code=1)
    assert told["outcome"] == "rolled-back"
    finding = told["findings"][-1]
    assert "the gateway" in finding["message"] and "does not answer any more" in finding["message"]
    assert any(line.startswith("before: gateway") for line in finding["evidence"])
    assert any("no answer" in line for line in finding["evidence"] if line.startswith("after: "))
    assert is_as(before)
    assert until(lambda: not guardians())
    assert ping(lan, "192.0.2.2") and ping(lan, "2001:db8::2")


def test_a_gateway_that_never_answered_is_not_missed(before: State, lan: Netns) -> None:
    run("ip", "route", "replace", "default", "via", "192.0.2.99")
    assert document("up")["outcome"] == "done"
    assert not is_as(before)
    assert ping(lan, "192.0.2.2")


def test_down_is_taken_back_too(lan: Netns, before: State) -> None:
    """A switch that takes the bridge's frames and not the NIC's: by a rule that bites once eth0 is no port."""
    document("up")
    _drop("arp", "output", "oifname eth0 drop")
    told = document("down", "--yes", exit_code=1)
    assert told["outcome"] == "rolled-back"
    assert "does not answer any more" in told["findings"][-1]["message"]
    assert ping(lan, "192.0.2.2")
    run("nft", "flush", "ruleset")
    document("down")
    assert is_as(before)


def test_a_cable_that_is_out_is_seen_before(before: State, lan: Netns) -> None:
    with lan.entered():
        run("ip", "link", "set", "p0", "down")
    assert document("up", exit_code=3)["findings"][0]["code"] == "no-carrier"
