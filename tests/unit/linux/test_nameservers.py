"""DNS servers of a resolv.conf."""

from __future__ import annotations

from pathlib import Path

from tapbridge.linux.nameservers import observe_nameservers

TEXT = """# nameserver 192.0.2.9
search example.net
nameserver 127.0.0.53
nameserver ::1
nameserver 192.0.2.1
nameserver 2001:DB8::53 # ours
nameserver fe80::1%eth0
nameserver 192.0.2.1
nameserver nonsense
nameserver
options edns0
"""


def test_servers_are_read_in_order_and_stubs_left_out(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text(TEXT)
    assert observe_nameservers(str(path)) == ("192.0.2.1", "2001:db8::53", "fe80::1")


def test_without_a_file_there_are_none(tmp_path: Path) -> None:
    assert observe_nameservers(str(tmp_path / "none")) == ()
