"""The policy: what its lines mean, what is refused, who is let through."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from tapbridge.broker.policy import Peer, Rule, decide, parse_policy
from tapbridge.broker.protocol import Attach
from tapbridge.model.errors import Forbidden, Refused
from tapbridge.model.values import IfName, Mac

BR0 = IfName("br0")
MAC = Mac("52:54:00:aa:00:01")


def number(text: str) -> int:
    known = {"alice": 1000, "kvm": 100}
    if text.isdigit():
        return int(text)
    if text not in known:
        raise Refused(f"there is no user {text!r}")
    return known[text]


def rules(text: str) -> tuple[Rule, ...]:
    return parse_policy(text, number, number)


def test_a_line_says_who_may_do_what() -> None:
    text = "# who may\n\nallow user alice bridge br0 # daily\n"
    text += "\tallow group kvm bridge br-lan taps 7 mac 02:aa mac 52 isolated rate 100M vlan 7\n"
    assert rules(text) == (
        Rule(line=3, number=1000, group=False, bridge=BR0),
        Rule(
            line=4,
            number=100,
            group=True,
            bridge=IfName("br-lan"),
            taps=7,
            macs=("02:aa", "52"),
            isolated=True,
            rate=100_000_000,
            vlan=7,
        ),
    )
    assert rules("allow user 5 bridge br0 mac any")[0].macs == ()
    (guarded,) = rules("allow user 5 bridge br0 guard ip ip 192.0.2.10 ip 2001:DB8:0::10")
    assert (guarded.guard, guarded.ips) == ("ip", ("192.0.2.10", "2001:db8::10"))
    assert rules("allow user 5 bridge br0 guard mac")[0].guard == "mac"
    (freer,) = rules("allow user 5 bridge br0 allow vlan,dhcp guard mac")
    assert (freer.guard, freer.allowed, freer.held) == ("mac", ("dhcp", "vlan"), True)
    assert not rules("allow user 5 bridge br0 guard mac allow macs")[0].held
    assert rules("") == ()


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("allow", "who"),
        ("deny user alice bridge br0", "who"),
        ("allow alice bridge br0", "who"),
        ("allow user alice", "who"),
        ("allow users alice bridge br0", "who"),
        ("allow user alice network br0", "who"),
        ("allow user nosuch bridge br0", "nosuch"),
        ("allow user alice bridge br0/1", "br0/1"),
        ("allow user alice bridge br0 taps", "taps"),
        ("allow user alice bridge br0 taps 0", "0"),
        ("allow user alice bridge br0 taps 1024", "1024"),
        ("allow user alice bridge br0 taps -1", "-1"),
        ("allow user alice bridge br0 taps 1 taps 2", "taps"),
        ("allow user alice bridge br0 vlan 0", "VLAN"),
        ("allow user alice bridge br0 vlan 4095", "VLAN"),
        ("allow user alice bridge br0 vlan 7 vlan 8", "vlan"),
        ("allow user alice bridge br0 mac", "mac"),
        ("allow user alice bridge br0 mac 5", "'5'"),
        ("allow user alice bridge br0 mac 52:5", "52:5"),
        ("allow user alice bridge br0 mac 52:54:00:11:22:33:44", "52:54"),
        ("allow user alice bridge br0 mac 01:00:5e", "01:00:5e"),
        ("allow user alice bridge br0 mac AA:BB", "AA:BB"),
        ("allow user alice bridge br0 mac any mac 52", "any"),
        ("allow user alice bridge br0 isolated isolated", "isolated"),
        ("allow user alice bridge br0 rate", "rate"),
        ("allow user alice bridge br0 rate 100", "'100'"),
        ("allow user alice bridge br0 rate 1M rate 1M", "rate"),
        ("allow user alice bridge br0 guard", "guard"),
        ("allow user alice bridge br0 guard off", "guard"),
        ("allow user alice bridge br0 guard mac guard mac", "guard"),
        ("allow user alice bridge br0 guard ip", "guard ip and ip"),
        ("allow user alice bridge br0 ip 192.0.2.1", "guard ip and ip"),
        ("allow user alice bridge br0 guard mac ip 192.0.2.1", "guard ip and ip"),
        ("allow user alice bridge br0 guard ip ip 192.0.2.300", "192.0.2.300"),
        ("allow user alice bridge br0 guard ip ip 192.0.2.1/24", "192.0.2.1/24"),
        ("allow user alice bridge br0 mac any guard mac", "any address"),
        ("allow user alice bridge br0 guard mac allow", "allow"),
        ("allow user alice bridge br0 guard mac allow all", "'all' is not dhcp"),
        ("allow user alice bridge br0 guard mac allow vlan,", "'' is not dhcp"),
        ("allow user alice bridge br0 guard mac allow vlan allow dhcp", "allow"),
        ("allow user alice bridge br0 allow vlan", "guarded"),
        ("allow user alice bridge br0 everything", "everything"),
        ("allow user alice bridge br0 \N{NO-BREAK SPACE}", "ASCII"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_line(line: str, word: str) -> None:
    with pytest.raises(Refused, match=r"line 2 of the policy: ") as refused:
        rules(f"allow user 1 bridge br0\n{line}\nallow user 2 bridge br0")
    assert word in refused.value.message
    assert refused.value.hint


WORDS = (
    "allow",
    "user",
    "group",
    "alice",
    "bridge",
    "br0",
    "taps",
    "1",
    "mac",
    "any",
    "guard",
    "vlan,macs",
    "ip",
    "::1",
    "rate",
    "1M",
)


@given(st.text(max_size=200) | st.lists(st.sampled_from(WORDS)).map(" ".join))
def test_any_text_is_a_policy_or_refused(text: str) -> None:
    try:
        found = rules(text)
    except Refused:
        found = ()
    assert all(rule.taps >= 1 for rule in found)


def test_nobody_is_let_through_who_is_not_named() -> None:
    policy = rules("allow user 1000 bridge br0\nallow group 100 bridge br0 taps 3")
    assert decide(policy, Peer(1000, {5}), Attach(BR0, mac=MAC), 0).line == 1
    assert decide(policy, Peer(7, {5, 100}), Attach(BR0, mac=MAC), 2).line == 2
    for peer in (Peer(7, {1000}), Peer(100, set()), Peer(0, {0})):
        with pytest.raises(Forbidden):
            decide(policy, peer, Attach(BR0, mac=MAC), 0)


def test_the_first_line_that_fits_decides_alone() -> None:
    policy = rules("allow user 1000 bridge br0 taps 1\nallow group 100 bridge br0 taps 9 mac any")
    with pytest.raises(Forbidden, match="has 1 tap on 'br0'"):
        decide(policy, Peer(1000, {100}), Attach(BR0, mac=MAC), 1)


def test_absent_and_forbidden_have_the_same_words() -> None:
    policy = rules("allow user 1 bridge there")
    said = set()
    for name in ("there", "absent"):
        with pytest.raises(Forbidden) as refused:
            decide(policy, Peer(2, set()), Attach(IfName(name), mac=MAC), 0)
        said.add((refused.value.message.replace(name, "X"), refused.value.hint, refused.value.code))
    assert len(said) == 1


@pytest.mark.parametrize(
    ("line", "mac", "error"),
    [
        ("", "52:54:00:00:00:01", None),
        ("", "52:54:01:00:00:01", Forbidden),
        ("", None, Forbidden),
        ("mac 52:54:0a", "52:54:0a:00:00:00", None),
        ("mac 52:54:00:aa:00:01", "52:54:00:aa:00:01", None),
        ("mac 52:54:00:aa:00:01", "52:54:00:aa:00:02", Forbidden),
        ("mac any", None, None),
        ("mac any", "fe:00:00:00:00:01", None),
        ("mac any", "01:00:5e:00:00:01", Refused),
        ("mac any", "00:00:00:00:00:00", Refused),
        ("", "52:54:00:12:34:56", Refused),
    ],
)
def test_an_address_is_one_that_the_line_allows(line: str, mac: str | None, error: type[Exception] | None) -> None:
    policy = rules(f"allow user 1 bridge br0 {line}")
    asked = Attach(BR0, mac=None if mac is None else Mac(mac))
    if error is None:
        assert decide(policy, Peer(1, set()), asked, 0).line == 1
    else:
        with pytest.raises(error):
            decide(policy, Peer(1, set()), asked, 0)
