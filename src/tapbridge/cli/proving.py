"""Proof of life around a change: who is asked before it, and what they must answer after."""

from __future__ import annotations

from collections.abc import Callable

from tapbridge.core.proof import judge, targets
from tapbridge.model.noun import dataclass
from tapbridge.model.proof import Answer, Flow
from tapbridge.model.state import State
from tapbridge.model.values import IfName
from tapbridge.model.verdict import Verdict

BEFORE_S = 1.0
"""How long someone may take to answer before the change, in seconds; who does not is not missed after it."""

AFTER_S = 2.5
"""How long they may take after it: what ARP, ND and TCP send is repeated after a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What was answered before a change."""

    answers: tuple[Answer, ...]

    def check(self, link: IfName) -> Verdict:
        """Ask those who answered before once more, over new flows, through the link that carries the host now.

        Raises HostError.
        """
        asked = tuple(answer.target for answer in self.answers if answer.answered)
        if not asked:
            return Verdict()
        from tapbridge.linux.probes import probe

        return judge(self.answers, probe(asked, link, anew=True, limit_s=AFTER_S))


NO_PROOF = Proof(answers=())


def ask_before(state: State, link: IfName, visitor: Flow | None = None, *, guarded: bool = False) -> Proof:
    """Ask before a change of `link`: its gateways, and where guards stand by DNS servers and the visitor as well.

    Raises HostError.
    """
    from tapbridge.linux.probes import probe

    servers: tuple[str, ...] = ()
    if guarded:
        from tapbridge.linux.nameservers import observe_nameservers

        servers = observe_nameservers()
    asked = targets(state, link, visitor, dns=servers, gateways_only=not guarded)
    return Proof(answers=probe(asked, link, anew=False, limit_s=BEFORE_S) if asked else ())


def find_visitor(state: State, link: IfName) -> Flow | None:
    """The flow by which the user of this command came in through the link; None where he did not, or nobody knows."""
    from tapbridge.linux import flows

    try:
        return flows.find_visitor({address.ip for address in state.addresses_of(link)})
    except OSError:
        return None


def watch_for_arrivals(state: State, link: IfName) -> Callable[[], Flow | None]:
    """What tells of a new connection from outside since now, to one of the addresses that the link has in `state`."""
    from tapbridge.linux.flows import inbound_flows

    ips = {address.ip for address in state.addresses_of(link)}

    def flows() -> frozenset[Flow]:
        try:
            return inbound_flows(ips)
        except OSError:
            return frozenset()

    known = flows()
    return lambda: next(iter(flows() - known), None)
