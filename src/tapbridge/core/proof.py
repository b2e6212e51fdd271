"""Proof of life: who is to be asked before and after a change, and what their answers mean.

Only who answered before is missed after. That an open connection goes on proves nothing: its neighbours are known.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Final

from tapbridge.model.proof import Answer, Flow, Target
from tapbridge.model.state import TABLE_MAIN, Route, State
from tapbridge.model.values import Family, contains, parse_ip
from tapbridge.model.verdict import Finding, Severity, Verdict

MOST_OF_A_KIND: Final = 4
DNS_PORT: Final = 53

_SILENT: Final = {
    "gateway": ("gateway-silent", "the gateway {ip} answered before the change and does not answer any more"),
    "dns": ("dns-silent", "the DNS server {ip} answered before the change and does not answer any more"),
    "visitor": ("visitor-unreachable", "{ip}, from where you are logged in, can no longer be reached by a new flow"),
}


def targets(
    state: State, link: str, visitor: Flow | None = None, *, dns: Sequence[str] = (), gateways_only: bool = False
) -> tuple[Target, ...]:
    """Who can tell whether the host is reachable through `link`, a link of `state`.

    The gateways of its routes; unless `gateways_only` also DNS servers (resolved's of the link, and `dns`) that are
    reached through it, and the visitor. Of gateways and of servers 4 each at most: those of default routes first.
    """
    gateways = tuple(dict.fromkeys(_gateways(state, link)))[:MOST_OF_A_KIND]
    if gateways_only:
        return gateways
    servers = [text for item in state.dns if item.link == link for text in item.servers]
    found = dict.fromkeys(target for text in (*servers, *dns) if (target := _find_server(text)) is not None)
    reached = [target for target in found if _leads_through(state, target.family, target.ip, link)]
    asked = (*gateways, *reached[:MOST_OF_A_KIND])
    if visitor is None:
        return asked
    return (*asked, Target(kind="visitor", family=visitor.family, ip=visitor.remote_ip, port=visitor.remote_port))


def judge(before: Collection[Answer], after: Collection[Answer]) -> Verdict:
    """An error for each target that answered before and not after; who was not asked after did not answer."""
    alive = {answer.target for answer in after if answer.answered}
    evidence = tuple(_line("before", answer) for answer in before) + tuple(_line("after", answer) for answer in after)
    return Verdict(
        findings=tuple(
            _silent(answer.target, evidence) for answer in before if answer.answered and answer.target not in alive
        )
    )


def _gateways(state: State, link: str) -> Iterator[Target]:
    for route in sorted(state.routes_of(link), key=_rank):
        for hop in route.nexthops:
            if hop.link == link and hop.gateway is not None:
                yield Target(kind="gateway", family=6 if ":" in hop.gateway else 4, ip=hop.gateway)


def _rank(route: Route) -> tuple[bool, int, int]:
    """The main table before others, wide routes before narrow ones, then as the kernel prefers them."""
    return route.table != TABLE_MAIN, _prefix(route), route.metric


def _prefix(route: Route) -> int:
    return int(route.dst.partition("/")[2])


def _find_server(text: str) -> Target | None:
    """A server as resolved writes it (`10.0.0.1`, `[2001:db8::1]:853#dns.example`); None for what is no address."""
    place, port = text.partition("#")[0], ""
    if place.startswith("["):
        place, _, port = place[1:].partition("]:")
    elif place.count(":") == 1:
        place, _, port = place.partition(":")
    try:
        family, ip = parse_ip(place)
        return Target(kind="dns", family=family, ip=ip, port=int(port or DNS_PORT))
    except ValueError:
        return None


def _leads_through(state: State, family: Family, ip: str, link: str) -> bool:
    """Whether the main table's best route to an address leads through the link."""
    fitting = [r for r in state.routes if r.family == family and r.table == TABLE_MAIN and contains(family, r.dst, ip)]
    best = min(fitting, key=lambda route: (-_prefix(route), route.metric), default=None)
    return best is not None and best.uses(link)


def _silent(target: Target, evidence: tuple[str, ...]) -> Finding:
    code, words = _SILENT[target.kind]
    message = words.format(ip=target.ip)
    return Finding(code=code, severity=Severity.ERROR, subject=target.ip, message=message, evidence=evidence)


def _line(when: str, answer: Answer) -> str:
    return f"{when}: {answer.target.kind} {answer.target.ip}: {answer.detail}"
