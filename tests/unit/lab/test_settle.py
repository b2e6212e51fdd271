"""When a place is ready."""

from __future__ import annotations

from typing import Any

import pytest

from tapbridge.lab.settle import unsettled

LOOPBACK = {"ifname": "lo", "link_type": "loopback", "operstate": "UNKNOWN", "addr_info": []}
FOUR = {"family": "inet", "local": "192.0.2.11"}
SIX = {"family": "inet6", "local": "2001:db8:1::11", "dynamic": True}


def links(*addresses: dict[str, Any], operstate: str = "UP") -> list[dict[str, Any]]:
    return [LOOPBACK, {"ifname": "eth0", "link_type": "ether", "operstate": operstate, "addr_info": list(addresses)}]


@pytest.mark.parametrize(
    ("found", "routes", "advertised", "missing"),
    [
        (links(FOUR), [], False, ""),
        (links(FOUR, operstate="DOWN"), [], False, "eth0 has no carrier"),
        (links(FOUR, SIX), [{}], True, ""),
        (links(FOUR), [{}], True, "eth0 has no advertised address"),
        (links(FOUR, {**SIX, "dynamic": False}), [{}], True, "eth0 has no advertised address"),
        (links(FOUR, SIX), [], True, "there is no advertised default route"),
        (links(FOUR, {**SIX, "tentative": True}), [{}], True, "2001:db8:1::11 is tentative"),
        (links(FOUR, {**SIX, "tentative": True, "dadfailed": True}), [{}], True, "2001:db8:1::11 is in use twice"),
    ],
)
def test_what_is_missing_is_named(
    found: list[dict[str, Any]], routes: list[dict[str, Any]], advertised: bool, missing: str
) -> None:
    assert unsettled(found, routes, advertised=advertised) == missing
