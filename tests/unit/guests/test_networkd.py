"""Leases of systemd-networkd's DHCP server, in its two forms."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tapbridge.guests.networkd import parse_file, parse_property
from tapbridge.model.values import IfName

NOW = 1_700_000_000.0
END = 1_700_000_600_000_000
ENDLESS = (1 << 64) - 1
MAC = [0x52, 0x54, 0, 0xAA, 0xBB, 1]
BR0 = IfName("br0")


def lease(last: int, **more: Any) -> dict[str, Any]:
    return {"ClientId": [1, *MAC], "Address": [192, 0, 2, last], "ExpirationRealtimeUSec": END, **more}


def test_a_file_tells_address_prefix_name_and_end() -> None:
    leases = [
        lease(31, Hostname="web"),
        lease(32, ClientId=[255, 1, 2, 3], HardwareAddress=MAC, ExpirationRealtimeUSec=ENDLESS, Hostname="\x1b[2J"),
        lease(33, ClientId=[255, 1, 2, 3]),  # nobody knows whose
        lease(34, ExpirationRealtimeUSec=1),
        {**lease(35), "Address": [192, 0, 2, 999]},
        "nonsense",
    ]
    found = parse_file(json.dumps({"PrefixLength": 24, "Leases": leases}), now=NOW, link=BR0)
    assert [(x.ip, x.valid_lft, x.hostname, x.client_id) for x in found] == [
        ("192.0.2.31", 600, "web", "01:52:54:00:aa:bb:01"),
        ("192.0.2.32", None, None, "ff:01:02:03"),
    ]
    assert {(x.mac, x.prefix, x.source, x.link) for x in found} == {("52:54:00:aa:bb:01", 24, "lease", "br0")}


def test_the_property_tells_the_same_but_for_the_name() -> None:
    data = [[2, [1, *MAC], [192, 0, 2, 31], [192, 0, 2, 1], [*MAC, *[0] * 10], 160_000_000], [2, [], [], [], [], 0], 7]
    (found,) = parse_property(json.dumps({"type": "a(uayayayayt)", "data": data}), now=100.0, link=BR0)
    assert (found.mac, found.ip, found.valid_lft) == ("52:54:00:aa:bb:01", "192.0.2.31", 60)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)


@given(JSON, st.text(max_size=40))
def test_no_text_upsets_the_readers(part: object, text: str) -> None:
    strange = json.dumps(
        {"Leases": [lease(1, Address=part), lease(2, HardwareAddress=part), part], "data": [[part] * 6]}
    )
    for words in (strange, json.dumps(part), text):
        for read in (parse_file, parse_property):
            assert all(sighting.source == "lease" for sighting in read(words, now=NOW, link=BR0))
