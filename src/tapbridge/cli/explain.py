"""`tapbridge explain [TOPIC]`: the missing documentation, in the terminal.

A topic is a file topics/NAME.md whose first line is `# NAME: summary`. The same files make docs/explain/.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from functools import cache
from typing import NamedTuple

from tapbridge.cli.result import Result
from tapbridge.cli.world import World
from tapbridge.model.errors import UsageError

GROUPS = (
    ("Start here", ("symptoms", "order", "lab")),
    ("The parts", ("tap", "bridge", "address", "mac", "names", "mtu", "vlan")),
    ("What tapbridge does", ("lease", "down", "save", "safety", "proof", "qemu", "guests", "broker", "guard", "rate")),
    ("What bites", ("firewall", "stp", "multicast", "ipv6", "wifi", "macvtap")),
    ("Other ways to connect a guest", ("user", "routed", "vde")),
    ("For scripts", ("exit-codes", "json")),
    ("Where it comes from", ("history",)),
)

ALIASES = {
    "symptoms": ("trouble", "problem", "help", "broken", "faq"),
    "order": ("up", "make-before-break", "adopt", "loss", "shield", "keeper", "tcx"),
    "lab": ("demo", "try", "sandbox"),
    "tap": ("tun", "tuntap", "vnet"),
    "bridge": ("br0", "switch", "port", "fdb", "brctl"),
    "address": ("ip", "arp", "rp-filter", "route", "routes"),
    "mac": ("hardware-address", "ethernet-address", "port-security", "collision"),
    "names": ("name", "take-name", "rename", "altname"),
    "mtu": ("jumbo", "fragmentation"),
    "vlan": ("vlans", "802.1q", "8021q", "trunk", "tag", "tagged", "pvid", "vlan-aware", "vlan-filtering"),
    "lease": ("dhcp", "dhclient", "release", "init-reboot", "client-id", "owner", "owners"),
    "down": ("undo", "back", "remove"),
    "save": ("unsave", "permanent", "reboot", "boot", "persistent", "interfaces"),
    "safety": ("rollback", "journal", "recover", "confirm", "crash"),
    "proof": ("proof-of-life", "probe", "probes", "visitor", "gateway", "remote", "reachable"),
    "qemu": ("run", "args", "attach", "detach", "qmp", "hotplug", "ifup", "netdev", "device", "vhost", "virtio", "kvm"),
    "guests": ("ps", "guest", "vm"),
    "broker": ("policy", "unprivileged", "without-root", "helper", "bridge-helper", "permissions"),
    "guard": ("spoofing", "filter", "filters", "arp-spoofing", "rogue-dhcp", "anti-spoofing"),
    "rate": ("limit", "bandwidth", "tc", "tbf", "police", "qos", "throttle"),
    "firewall": ("nft", "nftables", "iptables", "br-netfilter", "docker", "iifname"),
    "stp": ("spanning-tree", "forward-delay"),
    "multicast": ("snooping", "igmp", "mld", "querier"),
    "ipv6": ("ra", "dad", "slaac", "accept-ra", "link-local"),
    "wifi": ("wi-fi", "wlan", "wireless", "4addr"),
    "macvtap": ("macvlan",),
    "user": ("user-mode", "user-mode-networking", "slirp", "passt", "rootless"),
    "routed": ("route-guest", "nat", "masquerade", "proxy-arp", "cloud"),
    "vde": ("vde2", "vde-switch"),
    "exit-codes": ("exit", "exit-code", "codes", "status-codes"),
    "json": ("schema", "script", "scripts"),
    "history": ("2007", "recipe", "brctl-recipe"),
}


class Topic(NamedTuple):
    """A topic. `text` is its whole Markdown."""

    name: str
    summary: str
    text: str


@cache
def load_topic(name: str) -> Topic:
    """The topic of exactly that name. Raises FileNotFoundError for a name that is not in GROUPS."""
    from importlib.resources import files

    text = files("tapbridge").joinpath("topics", f"{name}.md").read_text(encoding="utf-8")
    return Topic(name, text.partition("\n")[0].removeprefix(f"# {name}: "), text)


def topic_names() -> tuple[str, ...]:
    """The names of all topics, in the order of the list."""
    return tuple(name for _, names in GROUPS for name in names)


def find_topic_name(words: str) -> str | None:
    """The name of the topic that `words` (a name or an alias, in any case, with blanks or hyphens) mean."""
    wanted = "-".join(words.lower().replace("_", " ").replace("-", " ").split())
    if wanted in topic_names():
        return wanted
    return next((name for name, aliases in ALIASES.items() if wanted in aliases), None)


def options(parser: ArgumentParser) -> None:
    """The options of `explain`."""
    parser.add_argument(
        "topic", nargs="*", metavar="TOPIC", help="what to explain; without it, the list of topics is printed"
    )


def run(args: Namespace, world: World) -> Result:
    """Print a topic, or the list of them. Raises UsageError for a topic that there is not."""
    words = " ".join(args.topic)
    if not words:
        document = {"topics": [load_topic(name)._asdict() for name in topic_names()]}
        return Result(document=document, text=_list())
    name = find_topic_name(words)
    if name is None:
        raise UsageError(f"there is no topic {words!r}", hint=_nearest(words), code="unknown-topic", subject=words)
    topic = load_topic(name)
    from tapbridge.cli.prose import render, text_width

    text = render(topic.text, width=text_width(world.environ), styled=world.colour())
    return Result(document={"topics": [topic._asdict()]}, text=text)


def _list() -> str:
    width = max(len(name) for name in topic_names())
    lines: list[str] = []
    for title, names in GROUPS:
        lines += [title, *(f"  {name:<{width}}  {load_topic(name).summary}" for name in names), ""]
    return "\n".join([*lines, "tapbridge explain TOPIC prints one."])


def _nearest(words: str) -> str:
    """The hint for a topic that there is not: the nearest name, by the letters or by one of the words."""
    import difflib

    names = {alias: name for name, aliases in ALIASES.items() for alias in (name, *aliases)}
    for word in words.lower().split()[:20]:
        near = difflib.get_close_matches(word[:40], names, n=1, cutoff=0.7)
        if near:
            return f"tapbridge explain {names[near[0]]}"
    return "tapbridge explain, without a topic, lists them all"
