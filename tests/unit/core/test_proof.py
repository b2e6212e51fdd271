"""Who is asked, and what the answers mean."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kit.worlds import NIC, OTHER, hosts
from tapbridge.core.proof import MOST_OF_A_KIND, judge, targets
from tapbridge.model.noun import replace
from tapbridge.model.proof import Answer, Flow, Target
from tapbridge.model.state import LinkDns, Nexthop, Route, State
from tapbridge.model.values import Family, IfName
from tapbridge.model.verdict import Severity

VISITOR = Flow(family=4, local_ip="192.0.2.2", local_port=22, remote_ip="203.0.113.9", remote_port=50123)
GATEWAY = Target(kind="gateway", family=4, ip="192.0.2.1")


def route(dst: str, gateway: str | None = None, link: IfName = NIC, *, metric: int = 0, table: int = 254) -> Route:
    family: Family = 6 if ":" in dst else 4
    hop = Nexthop(link=link, gateway=gateway)
    return Route(family=family, dst=dst, metric=metric, table=table, nexthops=(hop,))


def state(*routes: Route, servers: tuple[str, ...] = ()) -> State:
    return State(routes=routes, dns=(LinkDns(link=NIC, servers=servers),)).sorted()


def ips(found: tuple[Target, ...]) -> list[str]:
    return [target.ip for target in found]


def test_gateways_of_default_routes_come_first_and_each_once() -> None:
    found = targets(
        state(
            route("10.0.0.0/8", "192.0.2.7"),
            route("10.1.0.0/16", "192.0.2.1"),
            route("0.0.0.0/0", "192.0.2.3", metric=600),
            route("0.0.0.0/0", "192.0.2.1", metric=100),
            route("::/0", "fe80::1"),
            route("0.0.0.0/0", "192.0.2.9", table=100),
            route("192.0.2.0/24"),
            route("0.0.0.0/0", "192.0.2.8", OTHER),
        ),
        NIC,
    )
    assert ips(found) == ["fe80::1", "192.0.2.1", "192.0.2.3", "192.0.2.7"]
    assert {target.kind for target in found} == {"gateway"}
    assert [target.family for target in found] == [6, 4, 4, 4]


def test_a_gateway_of_the_other_family_and_one_of_several_ways() -> None:
    hops = (Nexthop(link=NIC, gateway="fe80::1"), Nexthop(link=OTHER, gateway="192.0.2.1"))
    found = targets(State(routes=(Route(family=4, dst="0.0.0.0/0", nexthops=hops),)), NIC)
    assert [(target.family, target.ip) for target in found] == [(6, "fe80::1")]


def test_servers_that_are_reached_through_the_link() -> None:
    elsewhere = (route("10.0.0.0/8", "172.16.0.1", OTHER), route("0.0.0.0/0", "192.0.2.1"))
    known = state(*elsewhere, servers=("192.0.2.53", "9.9.9.9:853#dns.quad9.net", "[2001:db8::1]:853", "nonsense"))
    found = targets(known, NIC, dns=("192.0.2.53", "10.0.0.53"))[1:]
    assert [(target.kind, target.ip, target.port) for target in found] == [
        ("dns", "192.0.2.53", 53),
        ("dns", "9.9.9.9", 853),
    ]
    assert targets(known, NIC, VISITOR, gateways_only=True) == (GATEWAY,)


def test_a_worse_route_through_the_link_does_not_count() -> None:
    both = state(route("0.0.0.0/0", "192.0.2.1", metric=600), route("0.0.0.0/0", "198.51.100.1", OTHER, metric=100))
    assert ips(targets(both, NIC, dns=("9.9.9.9",))) == ["192.0.2.1"]


def test_the_visitor_is_asked_on_the_port_from_which_he_came() -> None:
    assert targets(State(), NIC, VISITOR) == (Target(kind="visitor", family=4, ip="203.0.113.9", port=50123),)


@given(hosts(), st.booleans())
def test_only_gateways_of_the_link_are_asked_and_few_of_them(host: State, gateways_only: bool) -> None:
    found = targets(host, NIC, VISITOR, gateways_only=gateways_only)
    gateways = [target for target in found if target.kind == "gateway"]
    hops = [hop for one in host.routes for hop in one.nexthops if hop.link == NIC and hop.gateway]
    assert {target.ip for target in gateways} <= {hop.gateway for hop in hops}
    assert bool(gateways) == bool(hops)
    assert len(set(found)) == len(found)
    assert len(gateways) <= MOST_OF_A_KIND
    assert any(target.kind == "visitor" for target in found) is not gateways_only


asked = st.builds(
    Target,
    kind=st.sampled_from(["gateway", "dns", "visitor"]),
    family=st.just(4),
    ip=st.sampled_from(["192.0.2.1", "192.0.2.2", "192.0.2.3"]),
)
CODES = {"gateway": "gateway-silent", "dns": "dns-silent", "visitor": "visitor-unreachable"}


@given(st.dictionaries(asked, st.tuples(st.booleans(), st.booleans())))
def test_who_answered_before_and_not_after_is_an_error_and_nobody_else(ends: dict[Target, tuple[bool, bool]]) -> None:
    before = tuple(Answer(target=target, answered=end[0], detail="said") for target, end in ends.items())
    after = tuple(Answer(target=target, answered=end[1], detail="said") for target, end in ends.items())
    verdict = judge(before, after)
    lost = [(CODES[target.kind], target.ip) for target, end in ends.items() if end == (True, False)]
    assert [(finding.code, finding.subject) for finding in verdict.findings] == lost
    assert verdict.ok is not bool(lost)
    assert all(finding.severity is Severity.ERROR for finding in verdict.findings)
    assert all(len(finding.evidence) == 2 * len(ends) for finding in verdict.findings)
    assert judge(before, before).ok


def test_who_was_not_asked_after_did_not_answer() -> None:
    before = Answer(target=GATEWAY, answered=True, detail="is at 02:00:00:00:00:01")
    (finding,) = judge((before,), ()).findings
    assert finding.evidence == ("before: gateway 192.0.2.1: is at 02:00:00:00:00:01",)
    after = replace(before, answered=False, detail="no answer within 2 s")
    (finding,) = judge((before,), (after,)).findings
    assert finding.evidence[1] == "after: gateway 192.0.2.1: no answer within 2 s"
