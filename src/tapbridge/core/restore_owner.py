"""The second half of the way back: giving the touched links back to whoever configures them.

The kernel's half is done (restore.py), and the host reachable; this one may take seconds, and may fail.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from tapbridge.core.draft import Draft
from tapbridge.model.noun import replace
from tapbridge.model.plan import Plan, Reason
from tapbridge.model.state import PROTO_DHCP, PROTO_KERNEL, PROTO_RA, Client, File, State
from tapbridge.model.step import (
    AwaitClient,
    PutRoute,
    ReloadClient,
    RenameLink,
    SetDns,
    StartClient,
    StartUnit,
    Step,
    StopClient,
    StopUnit,
    WriteFile,
)
from tapbridge.model.values import is_link_local

_MANAGED = (PROTO_KERNEL, PROTO_DHCP, PROTO_RA)
"""The protocols of routes that come with a lease, an address or an advertisement."""


def restore_owner(
    before: State,
    now: State,
    touched: tuple[str, ...],
    files: Sequence[tuple[File, File]] = (),
    steps: Sequence[Step] = (),
) -> Plan:
    """The plan that gives the touched links back to their clients. `files` are pairs: as it was, as it is; `steps`
    are those of the change.

    Clients are ended first, so that none writes to a file that is put back, and started last. Those of a unit that the
    change stops are the unit's business.
    """
    draft = Draft(now)
    units = stopped_units(steps)
    renamed = {name for step in steps if isinstance(step, RenameLink) for name in (step.link, step.to)}
    draft.stage(Reason.OWNER)
    beyond = _of_units(_clients_beyond(now, before, touched, renamed), units)
    draft.do(*(unit for unit in units if any(_runs(c, unit) for c in beyond)))
    draft.do(*(StopClient(client=c) for c in beyond if not any(_runs(c, unit) for unit in units)))
    for was, is_now in files:
        if was != is_now:
            owner = (was.uid, was.gid)
            draft.do(WriteFile(path=was.path, content=was.content, mode=was.mode, owner=owner))
    for dns in before.dns:
        if dns.link in touched and dns not in now.dns and now.link(dns.link) is not None:
            draft.do(SetDns(dns=dns))
    had = {dns.link for dns in before.dns}
    for dns in now.dns:
        if dns.link in touched and dns.link not in had:
            draft.do(SetDns(dns=replace(dns, servers=(), domains=())))
    again = _of_units(_clients_beyond(before, draft.state, touched, renamed), units)
    for unit in units:
        held = tuple(c for c in again if _runs(c, unit))
        draft.do(*([StartUnit(unit=unit.unit, clients=held)] if held else []))
    draft.do(*(StartClient(client=c) for c in again if not any(_runs(c, unit) for unit in units)))
    draft.do(*_read_anew(before, touched, steps))
    return draft.plan("recover", touched)


def stopped_units(steps: Sequence[Step]) -> tuple[StopUnit, ...]:
    """The managers that a change stops. Its way back begins with them: they would take part in every step of it."""
    return tuple(step for step in steps if isinstance(step, StopUnit))


def _of_units(clients: list[Client], units: tuple[StopUnit, ...]) -> list[Client]:
    """Without those that serve other links too, unless it is by their unit that the change stops and starts them."""
    return [c for c in clients if not c.serves_many or any(_runs(c, unit) for unit in units)]


def _runs(client: Client, unit: StopUnit) -> bool:
    return any((client.program, client.argv) == (one.program, one.argv) for one in unit.clients)


def _clients_beyond(one: State, other: State, touched: tuple[str, ...], renamed: Collection[str]) -> list[Client]:
    """The clients of touched links that `other` has not.

    A process is told by its PID as well where the change renamed links (`renamed`): one that was started since may
    listen on another link, which had the name then.
    """

    def told(c: Client) -> tuple[object, ...]:
        return c.program, c.argv, c.link, c.profile, c.pid if c.link in renamed else 0

    there = {told(c) for c in other.clients}
    return [c for c in one.clients if c.link is not None and c.link in touched and told(c) not in there]


def _read_anew(before: State, touched: tuple[str, ...], steps: Sequence[Step]) -> Iterator[Step]:
    """A manager that the change has told to read its files is told again, and waited for."""
    if not any(isinstance(step, ReloadClient) for step in steps):
        return
    for client in before.clients:
        if client.serves_many and client.link in touched:
            yield ReloadClient(client=client)
            yield from _connected(before, client)
            yield brought_back(before, client)


def _connected(before: State, client: Client) -> Iterator[Step]:
    """The connected routes, put once more so that the kernel tells of them: a manager that begins a link anew, because
    it was a port, looks for its addresses and not for these, and waits for them before it puts a route by a gateway.
    """
    for route in before.routes_of(client.link or ""):
        if route.protocol == PROTO_KERNEL and not any(hop.gateway for hop in route.nexthops):
            yield PutRoute(route=route)


def brought_back(state: State, client: Client) -> AwaitClient:
    """The step that waits until a manager has put on its link what is there in a state, but for what others put."""
    addresses = state.addresses_of(client.link or "")
    routes = state.routes_of(client.link or "")
    return AwaitClient(
        client=client,
        leased=tuple(a.ip for a in addresses if a.family == 4 and a.valid_lft is not None),
        addresses=tuple(a for a in addresses if not a.temporary and not is_link_local(a.family, a.ip)),
        routes=tuple(
            r for r in routes if r.protocol in _MANAGED and not is_link_local(r.family, r.dst.partition("/")[0])
        ),
    )
