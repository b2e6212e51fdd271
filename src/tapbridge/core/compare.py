"""What it means for two states to be equal: the one place that names what equality leaves out.

Left out, because the kernel or the world decides it and no plan could restore it: link numbers, carrier and operstate,
learnt neighbours and learnt forwarding entries, what remains of a lifetime (only whether it ends is compared), PIDs and
the content of lease files, the profile by which a manager holds a link (it says so only when it is ready), temporary
IPv6 addresses (the kernel makes new ones) and our plain copies of them, routes that the kernel keeps by router
advertisements, the order of IPv6 addresses and of routes behind the first of their slot, and the flags of an address
that pass.
"""

from __future__ import annotations

from typing import Any

from tapbridge.model.noun import replace
from tapbridge.model.state import (
    COPY_PROTO,
    DEPRECATED,
    PROTO_RA,
    STABLE_PRIVACY,
    TENTATIVE,
    Address,
    Client,
    Link,
    Route,
    Scope,
    State,
)

_PASSING = TENTATIVE | DEPRECATED | STABLE_PRIVACY


def comparable(state: State) -> State:
    """The state without what equality leaves out. Two states of two scopes never compare equal."""
    addresses = [_address(a) for a in state.addresses if not a.temporary and a.proto != COPY_PROTO]
    deaf = {s.link for s in state.sysctls if (s.stack, s.name, s.value) == ("ipv6", "accept_ra", 0)}
    ordered = [a for a in addresses if a.family == 4] + sorted((a for a in addresses if a.family == 6), key=repr)
    return replace(
        state,
        links=tuple(_link(link, deaf=link.name in deaf) for link in state.links),
        addresses=tuple(ordered),
        routes=_routes(state),
        neighbours=tuple(entry for entry in state.neighbours if entry.configured),
        forwarding=tuple(entry for entry in state.forwarding if entry.static),
        clients=tuple(_client(client) for client in state.clients),
    ).sorted()


def kernel_part(state: State) -> State:
    """The state as one of scope KERNEL: without what processes, files and D-Bus know."""
    return replace(state, scope=Scope.KERNEL, clients=(), dns=(), attachments=())


def differences(wanted: State, found: State, links: tuple[str, ...]) -> tuple[str, ...]:
    """What of `wanted` is not so in `found`, and what `found` has beyond it, on these links. Empty: equal.

    Raises ValueError for states of two scopes.
    """
    if wanted.scope is not found.scope:
        raise ValueError(f"a state of scope {wanted.scope} cannot be compared with one of scope {found.scope}")
    one, other = _parts(comparable(wanted)), _parts(comparable(found))
    told: list[str] = []
    for kind, items in one.items():
        left = {item for item in items if _concerns(item, links)}
        right = {item for item in other[kind] if _concerns(item, links)}
        told += [f"missing {kind}: {_brief(item)}" for item in sorted(left - right, key=repr)]
        told += [f"unexpected {kind}: {_brief(item)}" for item in sorted(right - left, key=repr)]
    return tuple(told)


def _brief(item: Any) -> str:
    """A noun for a reader: its fields, without those that say nothing."""
    fields = ((name, getattr(item, name)) for name in item.__dataclass_fields__)
    usual = {name: field.default for name, field in item.__dataclass_fields__.items()}
    said = (f"{name} {_word(value)}" for name, value in fields if value != usual[name] and value not in ("", ()))
    return ", ".join(said)


def _word(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(_word(item) for item in value)
    return f"({_brief(value)})" if hasattr(value, "__dataclass_fields__") else str(value)


def _parts(state: State) -> dict[str, tuple[object, ...]]:
    return {
        "link": state.links,
        "address": state.addresses,
        "route": state.routes,
        "rule": state.rules,
        "neighbour": state.neighbours,
        "sysctl": state.sysctls,
        "client": state.clients,
        "dns": state.dns,
    }


def _concerns(item: object, links: tuple[str, ...]) -> bool:
    if isinstance(item, Link):
        return item.name in links
    if isinstance(item, Route):
        return any(item.uses(link) for link in links)
    if hasattr(item, "iif"):
        return getattr(item, "iif", None) in links or getattr(item, "oif", None) in links
    return getattr(item, "link", None) in links


def _ends(seconds: int | None) -> int | None:
    return None if seconds is None else 0


def _address(address: Address) -> Address:
    return replace(
        address,
        flags=address.flags & ~_PASSING,
        valid_lft=_ends(address.valid_lft),
        preferred_lft=_ends(address.preferred_lft),
    )


def _routes(state: State) -> tuple[Route, ...]:
    """The first of a slot stays the first, because it is used. Nobody can choose the place of the others."""
    slots: dict[object, list[Route]] = {}
    for route in state.routes:
        if route.protocol != PROTO_RA:
            slots.setdefault(route.slot, []).append(_route(route))
    return tuple(route for first, *rest in slots.values() for route in (first, *sorted(rest, key=repr)))


def _route(route: Route) -> Route:
    return replace(route, expires=_ends(route.expires))


def _link(link: Link, *, deaf: bool) -> Link:
    """The token of a link that heeds no router advertisements means nothing to the kernel; it may be another's."""
    token = None if deaf else link.token
    port = replace(link.port, state=0) if link.port else None
    return replace(link, index=0, carrier=False, operstate="", port=port, token=token)


def _client(client: Client) -> Client:
    return replace(client, pid=0, started=0, environment=(), cwd="", cgroup="", files=(), profile="")
