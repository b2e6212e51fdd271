"""The rules of a guarded port: made of numbers and of addresses, and for every guard of one shape."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from tapbridge.core.filters import ALLOWED, CHAINS, dump_filter, dump_removal, filter_rules, host_ips, link_local
from tapbridge.model.intent import Guard
from tapbridge.model.state import Address, Nexthop, Route, State
from tapbridge.model.values import IfName, Mac, parse_ip

MAC = Mac("52:54:00:aa:00:01")
ips = st.lists(st.ip_addresses().map(lambda ip: parse_ip(str(ip))[1]), max_size=4).map(tuple)
words = st.sets(st.sampled_from(ALLOWED)).map(sorted).map(tuple)
guards = st.builds(Guard, mac=st.just(MAC), ips=ips, allowed=words) | st.builds(
    Guard, mac=st.just(MAC), denied=ips, allowed=words
)
SHAPE = re.compile(r"[a-z0-9:.,&=!@>/{}; -]*\Z")


@given(guards, st.integers(1, 1 << 31))
def test_every_chain_of_every_guard_ends_and_nothing_else_is_in_a_rule(guard: Guard, port: int) -> None:
    rules = filter_rules(port, guard)
    assert list(rules) == [f"g{port}{end}" for end in CHAINS]
    for each in rules.values():
        assert each[-1] in ("counter drop", "accept")
        assert all(SHAPE.match(rule) and "{  }" not in rule for rule in each)
    text = dump_filter(port, guard)
    assert text.count("\nadd rule ") == 1 + sum(map(len, rules.values()))
    assert text.endswith(f"ports {{ {port} : goto g{port} }}\n")


def test_an_address_that_is_made_from_the_card_s_own_is_the_guest_s() -> None:
    assert link_local(MAC) == "fe80::5054:ff:feaa:1"
    assert "ip6 saddr != { 2001:db8::10, fe80::5054:ff:feaa:1 } counter drop" in dump_filter(
        7, Guard(mac=MAC, ips=("2001:db8::10",))
    )


def test_the_host_and_its_routers_on_a_bridge_are_nobody_else() -> None:
    br0, br1 = IfName("br0"), IfName("br1")
    state = State(
        addresses=(
            Address(link=br0, family=4, ip="192.0.2.2", prefix=24),
            Address(link=br1, family=4, ip="198.51.100.2", prefix=24),
        ),
        routes=(
            Route(family=4, dst="0.0.0.0/0", nexthops=(Nexthop(link=br0, gateway="192.0.2.1"),)),
            Route(family=4, dst="192.0.2.0/24", nexthops=(Nexthop(link=br0),)),
            Route(family=6, dst="::/0", nexthops=(Nexthop(link=br0, gateway="fe80::1"),)),
            Route(family=4, dst="203.0.113.0/24", nexthops=(Nexthop(link=br1, gateway="198.51.100.1"),)),
        ),
    )
    assert host_ips(state, br0) == ("192.0.2.1", "192.0.2.2", "fe80::1")


def test_removal_meets_what_is_there_and_what_is_not() -> None:
    lines = dump_removal([7]).splitlines()
    made = [line for line in lines if line.startswith("add")]
    assert len(made) == len(CHAINS) + 1
    assert lines.index(made[-1]) < min(at for at, line in enumerate(lines) if line.startswith("delete"))
    assert sum(line.startswith("delete chain") for line in lines) == len(CHAINS)
