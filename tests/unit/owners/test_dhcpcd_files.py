"""A configuration of dhcpcd that says of the bridge what it said of the NIC."""

from __future__ import annotations

import pytest

from tapbridge.owners.dhcpcd_files import carry_configuration, origin_of, with_origin


@pytest.mark.parametrize(
    ("text", "carried"),
    [
        ("duid\npersistent\n", "duid\npersistent\n"),
        ("duid\ninterface eth0\n  iaid 7\n", "duid\ninterface br0\n  iaid 7\n"),
        ("interface eth1\nmetric 5\ninterface eth0", "interface eth1\nmetric 5\ninterface br0\n"),
        ("interface eth00\n# interface eth0\n\n", "interface eth00\n# interface eth0\n\n"),
        ("allowinterfaces eth*\n", "allowinterfaces eth* br0\n"),
        ("allowinterfaces eth* b[ar]?\n", "allowinterfaces eth* b[ar]?\n"),
        ("denyinterfaces veth* br* wlan0\n", "denyinterfaces veth* wlan0\n"),
        ("denyinterfaces br0\nhostname\n", "hostname\n"),
        ("denyinterfaces eth1\n", "denyinterfaces eth1\n"),
    ],
)
def test_what_it_says_of_the_link_and_no_more_is_changed(text: str, carried: str) -> None:
    assert carry_configuration(text, "eth0", "br0") == carried


@pytest.mark.parametrize("path", [None, "/etc/own.conf"])
def test_a_copy_knows_of_what_it_is_one(path: str | None) -> None:
    assert origin_of(with_origin("duid\n", path)) == path
    assert with_origin("duid\n", path).endswith("\nduid\n")
