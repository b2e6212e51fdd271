"""dhclient's files, text in and text out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tapbridge.owners.dhclient_files import (
    KEPT,
    carry_leases,
    leased_addresses,
    link_of,
    names_link,
    rename_links,
    statements,
)

DUID = 'default-duid "\\000\\001{\\"};x";'


def lease(link: str, ip: str = "192.0.2.50", extra: str = "") -> str:
    return f'lease {{\n  interface "{link}";\n  fixed-address {ip};\n  {extra}expire 2 2030/01/01 00:00:00;\n}}'


LEASE6 = """lease6 {
  interface "eth0";
  ia-na 00:00:01:02 {
    iaaddr 2001:db8::50 {
      max-life 300;
    }
  }
}"""


def test_the_target_gets_the_leases_of_the_source_and_nothing_else_is_lost() -> None:
    text = "\n".join([DUID, lease("eth1"), lease("eth0"), LEASE6])
    carried = carry_leases(text, "eth0", "br0", keep=False)
    assert carried == "\n".join([DUID, lease("eth1"), lease("br0"), LEASE6.replace("eth0", "br0")]) + "\n"


def test_a_file_that_stays_keeps_the_leases_of_the_source() -> None:
    carried = carry_leases(lease("eth0"), "eth0", "br0", keep=True)
    assert [link_of(part) for part in statements(carried)] == ["eth0", "br0"]


def test_old_leases_of_the_target_give_way() -> None:
    text = lease("br0", "192.0.2.99") + lease("eth0", "192.0.2.50")
    assert leased_addresses(carry_leases(text, "eth0", "br0", keep=True), "br0") == ("192.0.2.50",)


def test_of_a_year_of_leases_the_last_are_kept() -> None:
    text = "\n".join(lease("eth0", f"192.0.2.{number}") for number in range(1, 101))
    carried = carry_leases(text, "eth0", "br0", keep=False)
    assert leased_addresses(carried, "br0") == tuple(f"192.0.2.{number}" for number in range(101 - KEPT, 101))


def test_a_lease_that_was_torn_off_is_left_out() -> None:
    assert carry_leases(lease("eth0") + lease("eth0")[:40], "eth0", "br0", keep=False) == lease("br0") + "\n"


def test_what_a_server_put_into_a_string_is_no_statement() -> None:
    """A quotation mark inside of a string is written \\"."""
    bad = 'option domain-name "a}; lease { interface \\"eth0\\"; fixed-address 203.0.113.66; }";\n  '
    text = lease("eth0", extra=bad)
    assert len(list(statements(text))) == 1
    assert bad in carry_leases(text, "eth0", "br0", keep=False)


def test_a_name_that_only_begins_alike_is_another() -> None:
    assert rename_links(lease("eth01"), "eth0", "br0") == lease("eth01")
    assert not names_link(lease("eth01"), "eth0")


def test_a_configuration_for_one_link_is_made_one_for_the_other() -> None:
    text = (
        'timeout 60;\ninterface "eth0" { send host-name "eth0"; }\nalias { interface "eth0"; fixed-address 10.0.0.1; }'
    )
    assert names_link(text, "eth0")
    assert rename_links(text, "eth0", "br0") == text.replace('interface "eth0"', 'interface "br0"')


@given(st.text(max_size=300), st.sampled_from(["eth0", "br0"]))
def test_any_text_is_survived_and_carried_once_is_carried_for_good(text: str, source: str) -> None:
    target = "br0" if source == "eth0" else "eth0"
    once = carry_leases(text, source, target, keep=False)
    assert carry_leases(once, source, target, keep=True).split() == [
        word for part in statements(once) if link_of(part) != target for word in part.split()
    ]


@given(st.lists(st.tuples(st.sampled_from(["eth0", "eth1"]), st.integers(1, 254)), max_size=12), st.booleans())
def test_there_and_back_again(leases: list[tuple[str, int]], keep: bool) -> None:
    text = "".join(lease(link, f"192.0.2.{number}") + "\n" for link, number in leases)
    there = carry_leases(text, "eth0", "br0", keep=keep)
    back = carry_leases(there, "br0", "eth0", keep=False)
    for link in ("eth0", "eth1"):
        assert leased_addresses(back, link) == leased_addresses(text, link)[-KEPT:]
    assert leased_addresses(back, "br0") == ()
