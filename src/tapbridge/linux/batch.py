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
from tapbridge.linux.decode_routes import decode_routes, decode_routes_to
from tapbridge.linux.encode import encode_step
from tapbridge.linux.observe import find_link, observe_rules, read_router_routes, read_table
from tapbridge.model import step as steps
from tapbridge.model.errors import HostError
from tapbridge.model.state import PROTO_RA, Route, Rule, State
from tapbridge.model.step import Step
from tapbridge.model.values import Family, IfName


def failed(step: Step, error: OSError, index: int = 0) -> HostError:
    """A step's error for a reader: what could not be done, and the kernel's own words."""
    from tapbridge.core.describe import describe

    hint = "this needs the right to change the network (CAP_NET_ADMIN)" if error.errno == errno.EPERM else None
    message = f"cannot {describe(step).sentence}: {error.strerror}"
    return HostError(message, index=index, errno=error.errno or 0, hint=hint)


class _Present:
    """What is there while a batch is put together: links as they will be called when it runs, rules, routes."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._numbers: dict[str, int | None] = {}
        self._rules: dict[Family, tuple[Rule, ...]] = {}
        self._tables: dict[tuple[Family, int], list[bytes]] = {}

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

    def rules(self, family: Family) -> State:
        if family not in self._rules:
            self._rules[family] = observe_rules(self._channel, family)
        return State(rules=self._rules[family])

    def routes_beside(self, route: Route) -> State:
        """The routes of its table to its destination; other links than its own are called by their numbers."""
        table = route.family, route.table
        if table not in self._tables:
            self._tables[table] = read_table(self._channel, *table)
        links = {self.index_of(hop.link): hop.link for hop in route.nexthops if hop.link is not None}
        return State(routes=decode_routes_to(self._tables[table], route.dst, _Numbered(links)))

    def acts_of(self, step: Step) -> Sequence[Step]:
        """The step itself, or what it comes to on this host."""
        if not isinstance(step, steps.DropRouterRoutes):
            return (step,)
        link = {self.index_of(step.link): step.link}
        told = decode_routes(read_router_routes(self._channel, self.index_of(step.link)), _Numbered(link))
        return [steps.DeleteRoute(route=r) for r in told if r.protocol == PROTO_RA and r.uses(step.link)]


class _Numbered(dict[int, IfName]):
    def get(self, index: int, default: object = None) -> IfName:
        return self[index] if index in self else IfName(f"#{index}")


def perform_batch(channel: Channel, batch: Sequence[Step]) -> None:
    """Send a batch of kernel steps.

    Raises HostError with the place of the step in the batch: where a link is not there before anything is sent, else
    of the first step that the kernel refused, the steps behind it carried out.
    """
    present = _Present(channel)
    requests: list[Request] = []
    places: list[int] = []
    for place, step in enumerate(batch):
        try:
            if _has_nothing_to_do(present, step, batch[:place]):
                continue
            encoded = [request for act in present.acts_of(step) for request in encode_step(act, present.index_of)]
        except OSError as error:
            raise failed(step, error, place) from error
        present.follow(step)
        requests += encoded
        places += [place] * len(encoded)
    for place, refusal in zip(places, channel.carry_out(requests), strict=True):
        if refusal is not None and not _is_there_already(_Present(channel), batch[place], refusal):
            raise failed(batch[place], refusal, place)


def _has_nothing_to_do(present: _Present, step: Step, before: Sequence[Step]) -> bool:
    """Whether a step was done before, and repeating it would be an error or hit something else."""
    match step:
        case steps.RenameLink():
            return present.find(step.link) is None and present.find(step.to) is not None
        case steps.DeleteLink(link=link):
            return present.find(link) is None
        case steps.DropRouterRoutes(link=link):
            return present.find(link) is None
        case steps.DeleteAddress(address=address):
            return present.find(address.link) is None
        case steps.DeleteNeighbour(neighbour=neighbour):
            return present.find(neighbour.link) is None
        case steps.DeleteRoute(route=route):
            return _route_is_gone(present, route, before)
        case steps.DeleteRule(rule=rule):
            state = present.rules(rule.family)
            for other in before:
                if isinstance(other, steps.AddRule | steps.DeleteRule):
                    state = effect(other, state)
            return rule not in state.rules
    return False


def _route_is_gone(present: _Present, route: Route, before: Sequence[Step]) -> bool:
    """To the kernel a deletion without a metric, a source or a gateway means any: so look first."""
    links = [hop.link for hop in route.nexthops if hop.link is not None]
    if any(present.find(link) is None for link in links):
        return True
    if any(_makes_connected_routes(step, links) for step in before):
        return False
    state = present.routes_beside(route)
    for step in before:
        if isinstance(step, steps.PutRoute | steps.AddRoute | steps.DeleteRoute):
            state = effect(step, state)
    return not any(same_route(other, route) for other in state.routes)


def _makes_connected_routes(step: Step, links: Sequence[str]) -> bool:
    if isinstance(step, steps.PutAddress | steps.DeleteAddress):
        return step.address.link in links
    return isinstance(step, steps.SetUp) and step.link in links


def _is_there_already(present: _Present, step: Step, refusal: OSError) -> bool:
    """EEXIST may mean this very route, behind others of its slot; in IPv6 also any by the same nexthop."""
    if refusal.errno != errno.EEXIST or not isinstance(step, steps.AddRoute | steps.PutRoute):
        return False
    if any(hop.link is not None and present.find(hop.link) is None for hop in step.route.nexthops):
        return False  # it was renamed in this very batch
    return any(same_route(other, step.route) for other in present.routes_beside(step.route).routes)
