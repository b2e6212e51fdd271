"""Carrying kernel steps out: those beside one another as one message to the kernel, every answer read.

Names become numbers before the message is sent, with a table that follows the renames within it. A link that a step
makes has no number yet, so its message ends there; nothing is made in the window in which packets could be lost.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Sequence

from tapbridge.core.routing import same_route
from tapbridge.linux.channel import Channel, Request
from tapbridge.linux.encode import encode_step
from tapbridge.linux.observe import find_link, observe_routes, observe_rules
from tapbridge.model import step as steps
from tapbridge.model.errors import HostError
from tapbridge.model.state import Route, Rule
from tapbridge.model.step import Step

_DELETES = (steps.DeleteLink, steps.DeleteAddress, steps.DeleteRoute, steps.DeleteNeighbour, steps.DeleteRule)


def split_batches(sequence: Sequence[Step]) -> Iterator[tuple[Step, ...]]:
    """Steps that go to the kernel together; every other step by itself."""
    batch: list[Step] = []
    for step in sequence:
        if isinstance(step, steps.KERNEL_STEPS):
            batch.append(step)
        if batch and not (isinstance(step, steps.KERNEL_STEPS) and not isinstance(step, steps.AddLink)):
            yield tuple(batch)
            batch = []
        if not isinstance(step, steps.KERNEL_STEPS):
            yield (step,)
    if batch:
        yield tuple(batch)


def failed(step: Step, error: OSError, index: int) -> HostError:
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


def perform_batch(channel: Channel, batch: Sequence[Step], first: int) -> None:
    """Send a batch of kernel steps; `first` is the number of its first step, for errors.

    Raises HostError: of a link that is not there before anything is sent, else of the first step that the kernel
    refused, the steps behind it carried out.
    """
    names = _Names(channel)
    requests: list[Request] = []
    owners: list[int] = []
    for place, step in enumerate(batch):
        try:
            if _has_nothing_to_do(channel, names, step, batch[:place]):
                continue
            encoded = encode_step(step, names.index_of)
            names.follow(step)
        except OSError as error:
            raise failed(step, error, first + place) from error
        requests += encoded
        owners += [place] * len(encoded)
    for place, refusal in zip(owners, channel.carry_out(requests), strict=True):
        if refusal is not None and not _is_there_already(channel, names, batch[place], refusal):
            raise failed(batch[place], refusal, first + place)


def _has_nothing_to_do(channel: Channel, names: _Names, step: Step, before: Iterable[Step]) -> bool:
    """Whether a step was done before, and repeating it would be an error or hit something else."""
    if isinstance(step, steps.RenameLink):
        return names.find(step.link) is None and names.find(step.to) is not None
    if isinstance(step, steps.DeleteRoute):
        return _route_is_gone(channel, names, step.route, before)
    if isinstance(step, steps.DeleteRule):
        added = any(isinstance(other, steps.AddRule) and other.rule == step.rule for other in before)
        rules = () if added else observe_rules(channel, step.rule.family)
        return not added and not any(_selectors(rule) == _selectors(step.rule) for rule in rules)
    if isinstance(step, _DELETES):
        return names.find(_link_of(step)) is None
    return False


def _link_of(step: Step) -> str:
    match step:
        case steps.DeleteLink():
            return step.link
        case steps.DeleteAddress():
            return step.address.link
        case steps.DeleteNeighbour():
            return step.neighbour.link
    raise TypeError(type(step).__name__)


def _route_is_gone(channel: Channel, names: _Names, route: Route, before: Iterable[Step]) -> bool:
    """To the kernel a deletion without a metric (IPv4) or a gateway (IPv6) means any: so look first.

    Not where an earlier step of the batch may have put the route there.
    """
    links = [hop.link for hop in route.nexthops if hop.link is not None]
    if any(names.find(link) is None for link in links):
        return True
    for step in before:
        match step:
            case steps.PutRoute() | steps.AddRoute() if same_route(step.route, route):
                return False
            case steps.PutAddress() | steps.DeleteAddress() if step.address.link in links:
                return False
            case steps.SetUp() if step.link in links:
                return False
    exact = route.metric != 0 if route.family == 4 else all(hop.gateway for hop in route.nexthops)
    return not exact and not _route_is_there(channel, names, route)


def _route_is_there(channel: Channel, names: _Names, route: Route) -> bool:
    return any(other.slot == route.slot and _ways(other) == _ways(route) for other in _table(channel, names, route))


def _ways(route: Route) -> list[tuple[str | None, str | None]]:
    return [(hop.link, hop.gateway) for hop in route.nexthops]


def _table(channel: Channel, names: _Names, route: Route) -> tuple[Route, ...]:
    links = {names.index_of(hop.link): hop.link for hop in route.nexthops if hop.link is not None}
    return observe_routes(channel, route.family, route.table, links)


def _selectors(rule: Rule) -> tuple[object, ...]:
    return rule.priority, rule.table, rule.action, rule.src, rule.dst, rule.iif, rule.oif, rule.fwmark


def _is_there_already(channel: Channel, names: _Names, step: Step, refusal: OSError) -> bool:
    """IPv6 refuses a route with the destination, metric and nexthop of another, whatever else is different."""
    if refusal.errno != errno.EEXIST or not isinstance(step, steps.AddRoute):
        return False
    return any(same_route(other, step.route) for other in _table(channel, names, step.route))
