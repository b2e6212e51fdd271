"""A batch of kernel steps: one message to the kernel, every answer read.

Names become numbers before the message is sent, with a table that follows the renames within it. Steps may be
repeated: what is done already is found by looking first, or by the kernel's answer.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence

from tapbridge.core.effect import effect
from tapbridge.core.routing import same_route
from tapbridge.linux.channel import Channel, Request
from tapbridge.linux.encode import encode_step
from tapbridge.linux.observe import find_link, observe_routes_to, observe_rules
from tapbridge.model import step as steps
from tapbridge.model.errors import HostError
from tapbridge.model.state import Route, Rule, State
from tapbridge.model.step import Step


def failed(step: Step, error: OSError, index: int = 0) -> HostError:
    """A step's error for a reader: what could not be done, and the kernel's own words."""
    from tapbridge.core.describe import describe

    hint = "this needs the right to change the network (CAP_NET_ADMIN)" if error.errno == errno.EPERM else None
    message = f"cannot {describe(step).sentence}: {error.strerror}"
    return HostError(message, index=index, errno=error.errno or 0, hint=hint)


class _Names:
    """The numbers of links as they will be called while a batch runs."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._numbers: dict[str, int | None] = {}

    def find(self, name: str) -> int | None:
        if name not in self._numbers:
            link = find_link(self._channel, name)
            self._numbers[name] = None if link is None else link.index
        return self._numbers[name]

    def index_of(self, name: str) -> int:
        number = self.find(name)
        if number is None:
            raise OSError(errno.ENODEV, f"there is no link '{name}'")
        return number

    def follow(self, step: Step) -> None:
        if isinstance(step, steps.RenameLink):
            self._numbers[step.to] = self._numbers[step.link]
            self._numbers[step.link] = None
        elif isinstance(step, steps.DeleteLink):
            self._numbers[step.link] = None


def perform_batch(channel: Channel, batch: Sequence[Step]) -> None:
    """Send a batch of kernel steps.

    Raises HostError with the place of the step in the batch: where a link is not there before anything is sent, else
    of the first step that the kernel refused, the steps behind it carried out.
    """
    names = _Names(channel)
    requests: list[Request] = []
    places: list[int] = []
    for place, step in enumerate(batch):
        try:
            if _has_nothing_to_do(channel, names, step, batch[:place]):
                continue
            encoded = encode_step(step, names.index_of)
        except OSError as error:
            raise failed(step, error, place) from error
        names.follow(step)
        requests += encoded
        places += [place] * len(encoded)
    for place, refusal in zip(places, channel.carry_out(requests), strict=True):
        if refusal is not None and not _is_there_already(channel, names, batch[place], refusal):
            raise failed(batch[place], refusal, place)


def _has_nothing_to_do(channel: Channel, names: _Names, step: Step, before: Sequence[Step]) -> bool:
    """Whether a step was done before, and repeating it would be an error or hit something else."""
    match step:
        case steps.RenameLink():
            return names.find(step.link) is None and names.find(step.to) is not None
        case steps.DeleteLink(link=link):
            return names.find(link) is None
        case steps.DeleteAddress(address=address):
            return names.find(address.link) is None
        case steps.DeleteNeighbour(neighbour=neighbour):
            return names.find(neighbour.link) is None
        case steps.DeleteRoute(route=route):
            return _route_is_gone(channel, names, route, before)
        case steps.DeleteRule(rule=rule):
            return _rule_is_gone(channel, rule, before)
    return False


def _rule_is_gone(channel: Channel, rule: Rule, before: Sequence[Step]) -> bool:
    """To the kernel a selector that a deletion does not name means any: so look first."""
    state = State(rules=observe_rules(channel, rule.family))
    for step in before:
        if isinstance(step, steps.AddRule | steps.DeleteRule):
            state = effect(step, state)
    return not any(_selectors(other) == _selectors(rule) for other in state.rules)


def _selectors(rule: Rule) -> tuple[object, ...]:
    return rule.priority, rule.table, rule.action, rule.src, rule.dst, rule.iif, rule.oif, rule.fwmark


def _route_is_gone(channel: Channel, names: _Names, route: Route, before: Sequence[Step]) -> bool:
    """To the kernel a deletion without a metric (IPv4) or a gateway (IPv6) means any: so look first."""
    links = [hop.link for hop in route.nexthops if hop.link is not None]
    if any(names.find(link) is None for link in links):
        return True
    exact = route.metric != 0 if route.family == 4 else all(hop.gateway for hop in route.nexthops)
    if exact or any(_makes_connected_routes(step, links) for step in before):
        return False
    state = _routes_beside(channel, names, route)
    for step in before:
        if isinstance(step, steps.PutRoute | steps.AddRoute | steps.DeleteRoute):
            state = effect(step, state)
    return not any(other.slot == route.slot and _ways(other) == _ways(route) for other in state.routes)


def _makes_connected_routes(step: Step, links: Sequence[str]) -> bool:
    if isinstance(step, steps.PutAddress | steps.DeleteAddress):
        return step.address.link in links
    return isinstance(step, steps.SetUp) and step.link in links


def _ways(route: Route) -> list[tuple[str | None, str | None]]:
    return [(hop.link, hop.gateway) for hop in route.nexthops]


def _routes_beside(channel: Channel, names: _Names, route: Route) -> State:
    links = {names.index_of(hop.link): hop.link for hop in route.nexthops if hop.link is not None}
    return observe_routes_to(channel, route.family, route.table, route.dst, links)


def _is_there_already(channel: Channel, names: _Names, step: Step, refusal: OSError) -> bool:
    """IPv6 refuses a route with the destination, metric and nexthop of another, whatever else is different."""
    if refusal.errno != errno.EEXIST or not isinstance(step, steps.AddRoute):
        return False
    return any(same_route(other, step.route) for other in _routes_beside(channel, names, step.route).routes)
