from __future__ import annotations

import pytest
from meter.cost import parse_window_ms

SEEN = """\
[2026-11-23T14:53:00.512857] 3: br0: <BROADCAST,UP,LOWER_UP> mtu 1500 qdisc noqueue state UNKNOWN group default \\
[2026-11-23T14:53:00.512900] Deleted 2: eth0    inet 10.9.0.9/24 scope global secondary eth0\\
[2026-11-23T14:53:00.513163] 2: eth0@if2: <BROADCAST,UP,LOWER_UP> mtu 1500 qdisc noqueue master br0 state UP \\
[2026-11-23T14:53:00.513194] 2: eth0@if2: <BROADCAST,UP,LOWER_UP> mtu 1500 qdisc noqueue master br0 state UP \\
[2026-11-23T14:53:00.513348] 3: br0    inet 10.9.0.2/24 scope global br0\\       valid_lft forever preferred_lft forever
[2026-11-23T14:53:00.513469] Deleted 2: eth0    inet 10.9.0.2/24 brd 10.9.0.255 scope global eth0\\
[2026-11-23T14:53:00.513531] Deleted 2: eth0    inet6 fd09::2/64 scope global nodad \\
[2026-11-23T14:53:00.600000] Deleted 3: br0    inet6 fe80::2/64 scope link \\
""".splitlines()


def test_the_window_is_from_the_master_to_the_last_address_gone() -> None:
    assert parse_window_ms(SEEN, "eth0") == pytest.approx(0.368)


def test_a_nic_that_kept_its_addresses_has_no_window() -> None:
    with pytest.raises(ValueError, match="eth0"):
        parse_window_ms(SEEN[:5], "eth0")


def test_addresses_of_another_link_do_not_count() -> None:
    with pytest.raises(ValueError, match="eth1"):
        parse_window_ms(SEEN, "eth1")
