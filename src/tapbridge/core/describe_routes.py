"""Addresses, routes, rules and neighbours in the words of iproute2."""

from __future__ import annotations

from tapbridge.model.state import (
    MANAGETEMPADDR,
    NOPREFIXROUTE,
    SCOPE_GLOBAL,
    Address,
    Neighbour,
    Nexthop,
    Route,
    Rule,
)

_SCOPES = {0: "global", 200: "site", 253: "link", 254: "host", 255: "nowhere"}
_METRICS = {
    2: "mtu",
    3: "window",
    4: "rtt",
    5: "rttvar",
    6: "ssthresh",
    7: "cwnd",
    8: "advmss",
    9: "reordering",
    10: "hoplimit",
    11: "initcwnd",
    12: "features",
    13: "rto_min",
    14: "initrwnd",
    15: "quickack",
}
_LOCK = 1  # RTAX_LOCK: a bit for every metric that is locked
_MILLISECONDS = {4: 8, 5: 4, 13: 1}  # rtt is kept in 1/8 ms, rttvar in 1/4 ms
_PREFERENCES = {0: None, 1: "high", 3: "low"}
_STATES = {0x80: "permanent", 0x40: "noarp", 0x02: "reachable", 0x04: "stale", 0x08: "delay", 0x10: "probe"}
_PROXY = 0x08
_ROUTER = 0x80


def address_words(address: Address) -> list[str]:
    """What `ip address add` takes, without flags.

    Without its protocol either, which is a note (IFA_PROTO) and no more: iproute2 6.1 of Debian 12 does not know it.
    """
    words = [f"{address.ip}" if address.peer else f"{address.ip}/{address.prefix}"]
    if address.peer:
        words += ["peer", f"{address.peer}/{address.prefix}"]
    words += ["dev", address.link]
    if address.broadcast:
        words += ["broadcast", address.broadcast]
    if address.label and address.label != address.link:
        words += ["label", address.label]
    if address.family == 4:
        words += ["scope", _SCOPES.get(address.scope, str(address.scope))]
    if address.metric:
        words += ["metric", str(address.metric)]
    if address.valid_lft is not None:
        words += ["valid_lft", str(address.valid_lft), "preferred_lft", str(address.preferred_lft or 0)]
    return words


def flag_words(address: Address) -> list[str]:
    """The flags that `ip address add` takes."""
    words = ["noprefixroute"] if address.flags & NOPREFIXROUTE else []
    return words + (["mngtmpaddr"] if address.flags & MANAGETEMPADDR else [])


def route_words(route: Route) -> list[str]:
    """What `ip route add` takes."""
    words = [] if route.type == "unicast" else [route.type]
    words.append("default" if route.dst in ("0.0.0.0/0", "::/0") else route.dst)
    words += ["from", route.src] if route.src else []
    words += ["tos", f"0x{route.tos:02x}"] if route.tos else []
    words += ["table", str(route.table)]
    words += ["proto", str(route.protocol)]
    words += ["metric", str(route.metric)] if route.metric else []
    if route.family == 4:
        words += ["scope", _SCOPES.get(route.scope, str(route.scope))]
    elif route.scope != SCOPE_GLOBAL:
        words += ["scope", str(route.scope)]
    words += ["src", route.prefsrc] if route.prefsrc else []
    words += ["realm", str(route.realm)] if route.realm else []
    for number, value in route.metrics:
        words += _metric_words(number, value, route)
    preference = _PREFERENCES.get(route.pref)
    words += ["pref", preference] if preference else []
    words += ["expires", str(route.expires)] if route.expires is not None else []
    if len(route.nexthops) == 1:
        return words + _hop_words(route, route.nexthops[0])
    for hop in route.nexthops:
        words += ["nexthop", *_hop_words(route, hop), "weight", str(hop.weight)]
    return words


def _metric_words(number: int, value: int | str, route: Route) -> list[str]:
    if isinstance(value, str):
        return ["congctl", value]
    name = _METRICS.get(number)
    if name is None or number == _LOCK:
        return []
    locked = any(key == _LOCK and isinstance(bits, int) and bits >> number & 1 for key, bits in route.metrics)
    divisor = _MILLISECONDS.get(number)
    text = f"{value // divisor}ms" if divisor else str(value)
    if number == 12:
        text = "ecn"
    return [name, *(["lock"] if locked else []), text]


def _hop_words(route: Route, hop: Nexthop) -> list[str]:
    words: list[str] = []
    if hop.gateway:
        other = route.family == 4 and ":" in hop.gateway
        words += ["via", *(["inet6"] if other else []), hop.gateway]
    words += ["dev", hop.link] if hop.link else []
    return words + (["onlink"] if hop.onlink else [])


def neighbour_words(one: Neighbour) -> list[str]:
    """What `ip neigh replace` takes."""
    if one.flags & _PROXY:
        return ["proxy", one.ip, "dev", one.link]
    words = [one.ip, *(["lladdr", one.mac] if one.mac else []), "dev", one.link]
    words += ["nud", _STATES.get(one.state, "stale")]
    return words + (["router"] if one.flags & _ROUTER else [])


def rule_words(rule: Rule) -> list[str]:
    """What `ip rule add` takes; selectors that are kept raw have no words."""
    words = ["not"] if rule.invert else []
    words += ["priority", str(rule.priority)]
    words += ["from", rule.src or "all"]
    words += ["to", rule.dst] if rule.dst else []
    words += ["tos", f"0x{rule.tos:02x}"] if rule.tos else []
    if rule.fwmark is not None:
        mask = f"/0x{rule.fwmask:x}" if rule.fwmask is not None else ""
        words += ["fwmark", f"0x{rule.fwmark:x}{mask}"]
    words += ["iif", rule.iif] if rule.iif else []
    words += ["oif", rule.oif] if rule.oif else []
    words += ["protocol", str(rule.protocol)] if rule.protocol else []
    return words + (["lookup", str(rule.table)] if rule.action == "lookup" else [rule.action])
