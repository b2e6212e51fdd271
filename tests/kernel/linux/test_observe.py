"""What observe() says of a host with one of everything, against what iproute2 and pyroute2 say of it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from kit.command import run
from kit.netns import new_netns
from tapbridge.linux.channel import Channel
from tapbridge.linux.host import LinuxHost
from tapbridge.linux.observe import find_links
from tapbridge.linux.switches import IPV4_SWITCHES, IPV6_SWITCHES
from tapbridge.model.journal import dump, load
from tapbridge.model.noun import replace
from tapbridge.model.state import PERMANENT, Link, Route, Scope, State
from tapbridge.model.values import IfName

TABLES = {"main": 254, "local": 255, "default": 253}
PROTOCOLS = {"kernel": 2, "boot": 3, "static": 4, "ra": 9, "dhcp": 16}
SCOPES = {"global": 0, "site": 200, "link": 253, "host": 254}
METRICS = {"mtu": 2, "advmss": 8, "initcwnd": 11, "congestion": 16}
STATES = {"STALE": 4, "PERMANENT": 0x80, "NOARP": 0x40, "REACHABLE": 2, "FAILED": 0x20, "INCOMPLETE": 1}


PASSING = ("tap", "tun")
"""Their operstate is `unknown` without a holder until the kernel comes by, up to a second later (linkwatch)."""


def settled(links: tuple[Link, ...]) -> list[Link]:
    """Links without what passes."""
    return [replace(link, operstate="") if link.kind in PASSING else link for link in links]


def ip(*words: str) -> list[dict[str, Any]]:
    """What `ip -d -j` answers, without the empty objects that it puts between."""
    answered: list[dict[str, Any]] = json.loads(run("ip", "-d", "-j", *words).stdout or "[]")
    return [item for item in answered if item]


def test_links_are_those_of_ip(everything: LinuxHost) -> None:
    seen: dict[str, Link] = {link.name: link for link in everything.observe(Scope.LINKS).links}
    told = {item["ifname"]: item for item in ip("link")}
    assert set(seen) == set(told)
    for name, item in told.items():
        link, kind = seen[name], item.get("linkinfo", {})
        assert link.index == item["ifindex"]
        assert link.mtu == item["mtu"]
        assert (link.mac or None) == (item.get("address") or None)
        assert link.operstate == item["operstate"].lower() or link.kind in PASSING
        assert (link.up, link.carrier) == ("UP" in item["flags"], "LOWER_UP" in item["flags"])
        assert (link.master, link.parent) == (item.get("master"), item.get("link"))
        assert (link.alias, list(link.altnames)) == (item.get("ifalias"), item.get("altnames", []))
        assert link.ethernet == (item["link_type"] == "ether")
        assert link.kind.replace("tap", "tun").replace("loopback", "") == kind.get("info_kind", "")
    assert {link.name: link.kind for link in seen.values() if link.kind in ("tap", "tun", "loopback")} == {
        "tap0": "tap",
        "tap1": "tap",
        "tun0": "tun",
        "lo": "loopback",
    }


def test_many_links_are_those_that_are_found_one_by_one(everything: LinuxHost) -> None:
    channel = Channel()
    try:
        names = [link.name for link in everything.observe().links]
        found = find_links(channel, [*names, "no-such-link"])
        assert len(found) == len(names) > 8
        assert {link.name: link.mac for link in found} == {
            link.name: link.mac for name in names for link in find_links(channel, [name])
        }
    finally:
        channel.close()


def test_bridges_ports_and_taps_are_those_of_ip(everything: LinuxHost) -> None:
    seen: dict[str, Link] = {link.name: link for link in everything.observe(Scope.LINKS).links}
    for item in ip("link"):
        link, kind = seen[item["ifname"]], item.get("linkinfo", {})
        options, port = kind.get("info_data", {}), kind.get("info_slave_data", {})
        assert (link.bridge is not None) == (kind.get("info_kind") == "bridge")
        assert (link.port is not None) == (kind.get("info_slave_kind") == "bridge")
        if link.bridge is not None:
            assert link.bridge.stp == bool(options["stp_state"])
            assert link.bridge.forward_delay == options["forward_delay"]
            assert link.bridge.mcast_snooping == bool(options["mcast_snooping"])
        if link.port is not None:
            assert link.port.learning == port["learning"]
            assert link.port.flood == port["flood"]
            assert link.port.isolated == port["isolated"]
            assert link.port.locked == port["locked"]
            assert link.port.hairpin == port["hairpin"]
        if link.tap is not None:
            assert (link.tap.multi_queue, link.tap.vnet_hdr) == (options["multi_queue"], options["vnet_hdr"])
            assert link.tap.persist == options["persist"]
    tap = seen["tap0"].tap
    assert tap is not None
    assert (tap.owner, tap.group, tap.multi_queue, tap.vnet_hdr) == (65534, 100, True, True)


def test_a_pair_whose_other_end_is_elsewhere_has_no_parent_here(host: LinuxHost) -> None:
    with new_netns() as other:
        run("ip", "link", "add", "nic0", "type", "veth", "peer", "name", "far0", "netns", other.path)
        seen = host.observe(Scope.LINKS).link("nic0")
    assert seen is not None
    assert seen.parent is None


def test_addresses_are_those_of_ip_in_its_order(everything: LinuxHost) -> None:
    seen = everything.observe(Scope.LINKS)
    told = {item["ifname"]: item["addr_info"] for item in ip("addr")}
    flags = {"noprefixroute": 0x200, "mngtmpaddr": 0x100, "nodad": 0x02, "deprecated": 0x20, "secondary": 0x01}
    for link in seen.links:
        for family, word in ((4, "inet"), (6, "inet6")):
            items = [item for item in told.get(link.name, []) if item["family"] == word]
            addresses = seen.addresses_of(link.name, 4 if family == 4 else 6)
            assert [a.ip for a in addresses] == [item["local"] for item in items]
            for address, item in zip(addresses, items, strict=True):
                assert address.prefix == item["prefixlen"]
                assert address.peer == item.get("address")
                assert address.broadcast == item.get("broadcast")
                assert address.label == item.get("label")
                assert address.scope == SCOPES[item["scope"]]
                assert address.metric == item.get("metric", 0)
                assert bool(address.flags & PERMANENT) != item.get("dynamic", False)
                assert {name for name, bit in flags.items() if address.flags & bit} == flags.keys() & item.keys()
                assert near(address.valid_lft, item["valid_life_time"])
                assert near(address.preferred_lft, item["preferred_life_time"])


def near(seen: int | None, told: int) -> bool:
    """A lifetime that was read a moment earlier."""
    return told == 0xFFFFFFFF if seen is None else 0 <= seen - told <= 5


def test_routes_are_those_of_ip_less_what_the_kernel_derives(everything: LinuxHost) -> None:
    seen = everything.observe().routes
    told = [(family, item) for family in (4, 6) for item in ip(f"-{family}", "route", "show", "table", "all")]
    derived = ("local", "broadcast", "anycast", "multicast")
    kept = [(f, x) for f, x in told if not (x.get("type") in derived and x.get("protocol") == "kernel")]
    assert len(seen) == len(kept)
    assert sorted(as_told(route) for route in seen) == sorted(as_seen(family, item) for family, item in kept)


def as_told(route: Route) -> str:
    """A route in the words of `ip -j`."""
    ways = [(hop.link, hop.gateway, hop.weight, hop.onlink) for hop in route.nexthops]
    if route.family == 4 and route.type != "unicast":
        ways = [way for way in ways if way[0] != "lo"]
    metrics = {key: value for key, value in route.metrics if key != 1}
    return repr((route.family, route.dst, route.src, route.table, route.type, route.tos, route.protocol, route.scope,
                 route.metric, route.prefsrc, ways, metrics, route.realm, route.expires is not None,
                 route.nexthop_object))  # fmt: skip


def as_seen(family: int, item: dict[str, Any]) -> str:
    """An answer of `ip -j` in the order of `as_told`."""
    full = "/32" if family == 4 else "/128"
    dst = item["dst"].replace("default", "0.0.0.0/0" if family == 4 else "::/0")
    src = item.get("from")
    kind = item.get("type", "unicast")
    metrics = {METRICS[k]: v for group in item.get("metrics", []) for k, v in group.items() if k in METRICS}
    hops = item.get("nexthops", [item] if "dev" in item else [])
    ways = [
        (
            x.get("dev"),
            x.get("gateway", x.get("via", {}).get("host")),
            x.get("weight", 1),
            "onlink" in x.get("flags", []),
        )
        for x in hops
        if not (family == 4 and kind != "unicast" and x.get("dev") == "lo")
    ]
    table = item.get("table", "main")
    return repr((family, dst if "/" in dst else dst + full, src, int(TABLES.get(table, table)), kind,
                 int(item.get("tos", "0"), 16), PROTOCOLS[item.get("protocol", "boot")],
                 SCOPES[item.get("scope", "global")], item.get("metric", 0), item.get("prefsrc"), ways, metrics,
                 int(item.get("flow", {}).get("to", 0)) if isinstance(item.get("flow"), dict) else 0,
                 "expires" in item, item.get("nhid", 0)))  # fmt: skip


def test_rules_are_those_of_ip(everything: LinuxHost) -> None:
    seen = everything.observe().rules
    for family in (4, 6):
        told = ip(f"-{family}", "rule")
        rules = [rule for rule in seen if rule.family == family]
        assert [rule.priority for rule in rules] == [item["priority"] for item in told]
        for rule, item in zip(rules, told, strict=True):
            table = item.get("table")
            assert rule.table == (0 if table is None else int(TABLES.get(table, table)))
            assert rule.action == item.get("action", "lookup" if table else rule.action)
            assert (rule.iif, rule.oif) == (item.get("iif"), item.get("oif"))
            assert rule.invert == ("not" in item)
            source = item["src"] + (f"/{item['srclen']}" if "srclen" in item else "")
            assert (rule.src or "all") == source


def test_neighbours_are_those_of_ip(everything: LinuxHost) -> None:
    seen = everything.observe().neighbours
    told = [item for item in ip("neigh", "show", "nud", "all") if item["dst"][:4] not in ("ff02", "224.")]
    learnt = {(n.link, n.ip, n.mac, n.state) for n in seen if not n.flags & 0x08}
    assert learnt == {(x["dev"], x["dst"], x.get("lladdr"), STATES[x["state"][0]]) for x in told}
    proxies = {(n.link, n.ip) for n in seen if n.flags & 0x08}
    assert proxies == {(item["dev"], item["dst"]) for item in ip("neigh", "show", "proxy")}
    assert proxies == {("nic1", "192.0.2.77"), ("nic1", "2001:db8::77")}
    ages = {(n.link, n.ip): n.confirmed_s for n in seen if not n.configured and n.confirmed_s is not None}
    asked = {(x["dev"], x["dst"]): x["confirmed"] for x in ip("-s", "neigh", "show", "nud", "all") if "confirmed" in x}
    assert ages
    assert all(abs(asked[key] - age) <= 5 for key, age in ages.items())


def test_forwarding_entries_are_those_of_the_bridge_tool(everything: LinuxHost) -> None:
    seen = everything.observe().forwarding
    answered = json.loads(run("bridge", "-j", "fdb", "show", "br", "br0").stdout)
    told = {(x["ifname"], x["mac"]) for x in answered if x["state"] in ("permanent", "static") and "flags" in x}
    kept = {(entry.port, entry.mac) for entry in seen if entry.bridge == "br0" and (entry.local or entry.static)}
    assert kept == {pair for pair in told if not pair[1].startswith(("33:33", "01:00"))}
    assert [entry.mac for entry in seen if entry.static] == ["02:00:00:00:0a:0a"]
    assert {entry.port for entry in seen if entry.local} == {"br0", "br1", "tap0"}, "nic0 has the bridge's own address"


@pytest.mark.parametrize(("stack", "table"), [("ipv4", IPV4_SWITCHES), ("ipv6", IPV6_SWITCHES)])
def test_every_switch_is_in_its_place(everything: LinuxHost, stack: str, table: dict[str, int]) -> None:
    folder = Path(f"/proc/thread-self/root/proc/sys/net/{stack}/conf/nic1")
    for name in table:
        switch = folder / name
        if not switch.exists():
            continue
        before = int(switch.read_text())
        for value in (1 - before if before in (0, 1) else before - 1, before):
            try:
                switch.write_text(str(value))
            except OSError:  # a value that this switch does not take
                continue
            kept = int(switch.read_text())
            assert everything.observe().sysctl("nic1", stack, name) == kept, name


def test_the_switches_of_all_and_default_are_there(everything: LinuxHost) -> None:
    Path("/proc/sys/net/ipv4/conf/all/rp_filter").write_text("2")
    Path("/proc/sys/net/ipv6/conf/default/accept_ra").write_text("0")
    seen = everything.observe()
    assert seen.sysctl("all", "ipv4", "rp_filter") == 2
    assert seen.sysctl("default", "ipv6", "accept_ra") == 0
    assert seen.sysctl("all", "ipv4", "forwarding") == 0


def test_a_state_survives_the_journal(everything: LinuxHost) -> None:
    seen = everything.observe()
    assert load(dump(seen)) == seen
    assert seen == seen.sorted()


def test_the_small_scope_is_links_and_addresses_and_nothing_else(everything: LinuxHost) -> None:
    small, whole = everything.observe(Scope.LINKS), everything.observe()
    assert (settled(small.links), small.scope) == (settled(whole.links), Scope.LINKS)
    assert [a.ip for a in small.addresses] == [a.ip for a in whole.addresses]
    assert small == State(scope=Scope.LINKS, kernel=whole.kernel, links=small.links, addresses=small.addresses)
    assert ".".join(map(str, whole.kernel)) == ".".join(os.uname().release.split(".")[:2])


def test_the_scope_of_guests_has_neighbours_too_and_no_routes(everything: LinuxHost) -> None:
    near, whole = everything.observe(Scope.GUESTS), everything.observe()
    assert near.neighbours and near.forwarding
    assert {(n.link, n.ip, n.mac) for n in near.neighbours} == {(n.link, n.ip, n.mac) for n in whole.neighbours}
    assert (near.forwarding, near.scope) == (whole.forwarding, Scope.GUESTS)
    assert (near.routes, near.rules, near.sysctls) == ((), (), ())


def test_links_routes_and_addresses_are_those_of_pyroute2(everything: LinuxHost) -> None:
    from pyroute2 import IPRoute

    seen = everything.observe()
    with IPRoute() as oracle:
        links = {x.get_attr("IFLA_IFNAME"): x for x in oracle.get_links()}
        addresses = {(x["index"], x.get_attr("IFA_LOCAL") or x.get_attr("IFA_ADDRESS")) for x in oracle.get_addr()}
        routes = [x for x in oracle.get_routes(family=2) if x["table"] == 254 and x["type"] == 1]
    numbers = {link.name: link.index for link in seen.links}
    assert {(numbers[a.link], a.ip) for a in seen.addresses} == addresses
    for link in seen.links:
        spec = dict(links[link.name].get_attr("IFLA_AF_SPEC")["attrs"])
        ipv6 = dict(spec["AF_INET6"]["attrs"])
        assert link.addr_gen_mode == ipv6["IFLA_INET6_ADDR_GEN_MODE"]
        assert (link.token or "::") == ipv6["IFLA_INET6_TOKEN"]
        assert link.permanent_mac == links[link.name].get_attr("IFLA_PERM_ADDRESS")
    mine = [route for route in seen.routes if route.family == 4 and route.table == 254 and route.type == "unicast"]
    assert sorted(r.metric for r in mine) == sorted(x.get_attr("RTA_PRIORITY") or 0 for x in routes)


def test_a_host_belongs_to_the_namespace_that_it_was_made_in(host: LinuxHost) -> None:
    run("ip", "link", "add", "here0", "type", "bridge")
    with new_netns() as other, other.entered(), LinuxHost() as there:
        assert there.observe(Scope.LINKS).link("here0") is None
        assert host.observe(Scope.LINKS).link(IfName("here0")) is not None
        assert there.cookie() != host.cookie()
    with LinuxHost() as again:
        assert again.cookie() == host.cookie()
