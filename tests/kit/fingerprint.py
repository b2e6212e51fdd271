"""The whole of a host as independent tools show it: ip, bridge, nft, /proc/sys, and the files below its folders.

It is the oracle of the fault suite, so nothing of the product reads it. Left out, and named here alone, because the
kernel or the world decides it: the numbers of links, of ports and of the namespace, and PIDs; timers of bridges and
ports, counters and handles of nft; what remains of a lifetime (that it ends is compared); learnt neighbours and learnt
forwarding entries; the metric and the expiry of routes by router advertisement, since a copy waits behind the kernel's
own; of a lease file all but which address each link holds; what is in a PID file, a lock file or a journal that is
there, and in a lease file of dhcpcd's; processes of a moment, of dhcpcd's and those around managers; the metric of an
address that networkd 252 finds in place, and so of its connected route, for it forgets that; the folder of a namespace
while it is empty; the number of a change in the name of its timer, and that timer once the change has ended, for then
it finds nothing to do; the number of NetworkManager's profile of lo; whether a tap has carrier, and what hangs on it,
for that depends on who had it open last.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from kit.command import run
from kit.stage import Stage, processes_in

Fingerprint = dict[str, tuple[str, ...]]
"""What there is, by kind; each item a line."""

_PASSING: Final = re.compile(
    r"^(if)?index$|^link_index$|_timer$|^(no|id|designated_port)$|^handle$|^expires$|^cache$|^used$|^updated$"
)
_LIFETIMES: Final = ("valid_life_time", "preferred_life_time")
_PASSING_PROCESSES: Final = re.compile(
    r"^dhcpcd: \[(BPF|network proxy)|udev-worker|systemd-udevd|nm-dispatcher|systemd-nspawn|polkitd"
)
_DHCPCD: Final = 1000
"""dhcpcd adds the number of the link to it: its metric."""

_FOREVER: Final = 4294967295
_LEASE: Final = re.compile(r"lease\s*\{(.*?)\n\}", re.DOTALL)
_SWITCHES: Final = ("ipv4/conf", "ipv6/conf")
_TIMER: Final = "tapbridge-undo"
_ALONE: Final = ("ipv4/ip_forward", "bridge/bridge-nf-call-iptables", "bridge/bridge-nf-call-ip6tables")


def fingerprint(stage: Stage) -> Fingerprint:
    """The host of this thread."""
    links, routes, rules4, neighbours, proxies = _documents(
        "ip", "addr show\nroute show table all\nrule show\nneigh show nud permanent\nneigh show proxy"
    )
    (rules6,) = _documents("ip", "-6", "rule show")
    ports, forwarding = _documents("bridge", "link show\nfdb show")
    taps = [link["ifname"] for link in links if link.get("linkinfo", {}).get("info_kind") == "tun"]
    return {
        "link": _lines(_link({k: v for k, v in link.items() if k != "addr_info"}, taps) for link in links),
        "address": _addresses(links, stage.scene.owner),
        "route": _lines(
            _route(r, stage.scene.owner) for r in routes if not (r.get("dst") == "ff00::/8" and r.get("dev") in taps)
        ),
        "rule": _lines([*rules4, *rules6]),
        "neighbour": _lines([*neighbours, *proxies]),
        "port": _lines(_link(port, taps) for port in ports),
        "forwarding": _lines(entry for entry in forwarding if entry.get("state") in ("permanent", "static")),
        "nft": _lines(_rules()),
        "switch": _whole(_switches),
        "file": _whole(partial(_files, stage.folders)),
        "process": _processes(stage),
        "owner": stage.daemon.view(stage.within) if stage.daemon and stage.within else (),
    }


def differing(wanted: Fingerprint, found: Fingerprint) -> tuple[str, ...]:
    """What one has and the other has not. Empty: the same host."""
    told: list[str] = []
    for kind, items in wanted.items():
        missing = [item for item in items if item not in found[kind]]
        unexpected = [item for item in found[kind] if item not in items]
        if kind in ("link", "port"):
            told += _changed(kind, missing, unexpected)
        told += [f"missing {kind}: {item}" for item in missing]
        told += [f"unexpected {kind}: {item}" for item in unexpected]
    return tuple(told)


def _changed(kind: str, missing: list[str], unexpected: list[str]) -> Iterator[str]:
    """What has another value now, of links that are in both; they are taken from the two lists."""
    there = {json.loads(item)["ifname"]: item for item in unexpected}
    for item in missing.copy():
        was = _flat(json.loads(item))
        if was["ifname"] in there:
            now = _flat(json.loads(there[was["ifname"]]))
            missing.remove(item)
            unexpected.remove(there[was["ifname"]])
            keys = sorted(key for key in was.keys() | now.keys() if was.get(key) != now.get(key))
            values = (f"{key}: {was.get(key)} -> {now.get(key)}" for key in keys)
            yield f"changed {kind} {was['ifname']}: {', '.join(values)}"


def _flat(value: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= {f"{key}.{k}": v for k, v in _flat(item).items()} if isinstance(item, dict) else {key: item}
    return flat


def _documents(program: str, *words: str) -> list[Any]:
    """What a program of iproute2 answers to a batch, one JSON document for each line."""
    *options, script = words
    text = run(program, *options, "-d", "-j", "-batch", "-", stdin=script).stdout
    decoder, documents, at = json.JSONDecoder(), [], 0
    for _ in script.splitlines():
        while text[at : at + 1].isspace():
            at += 1
        document, at = decoder.raw_decode(text, at) if text[at:] else ([], at)
        documents.append([item for item in document if item])
    return documents


def _lines(items: Any) -> tuple[str, ...]:
    return tuple(sorted({json.dumps(_lasting(item), sort_keys=True) for item in items}))


def _lasting(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lasting(item) for key, item in value.items() if not _PASSING.search(key)}
    return [_lasting(item) for item in value] if isinstance(value, list) else value


def _addresses(links: list[dict[str, Any]], owner: str) -> tuple[str, ...]:
    """The addresses by link; those of IPv4 with their place, which says who is whose secondary."""
    told = []
    for link in links:
        place = 0
        for address in link["addr_info"]:
            shown = {k: v for k, v in address.items() if k not in ("dynamic", *_LIFETIMES)}
            if owner == "networkd":
                shown.pop("metric", None)
            shown["ends"] = [address[key] != _FOREVER for key in _LIFETIMES]
            if address["family"] == "inet":
                place += 1
                shown["place"] = place
            told.append({"link": link["ifname"], **shown})
    return _lines(told)


def _link(link: dict[str, Any], taps: list[str]) -> dict[str, Any]:
    if link["ifname"] not in taps:
        return link
    flags = [flag for flag in link["flags"] if flag not in ("NO-CARRIER", "LOWER_UP")]
    kind = dict(link.get("linkinfo", {}))
    if "info_slave_data" in kind:
        kind["info_slave_data"] = {k: v for k, v in kind["info_slave_data"].items() if k != "state"}
    rest = {k: v for k, v in link.items() if k not in ("flags", "linkinfo", "operstate", "state")}
    return {**rest, "flags": flags, "linkinfo": kind}


def _route(route: dict[str, Any], owner: str) -> dict[str, Any]:
    protocol, metric = route.get("protocol"), route.get("metric", 0)
    forgotten = owner == "networkd" and protocol == "kernel"
    if protocol == "ra" or forgotten or (protocol == "dhcp" and metric > _DHCPCD and owner == "dhcpcd"):
        return {k: v for k, v in route.items() if k != "metric"}
    return route


def _whole(read: Callable[[], Iterator[str]]) -> tuple[str, ...]:
    """All of it, read again where something goes meanwhile."""
    while True:
        with suppress(FileNotFoundError):
            return tuple(sorted(read()))


def _rules() -> list[Any]:
    listed = json.loads(run("nft", "-j", "-s", "list", "ruleset").stdout)["nftables"]
    return [{"place": n, **item} for n, item in enumerate(listed) if "metainfo" not in item]


def _switches() -> Iterator[str]:
    net = Path("/proc/sys/net")
    for path in (*(file for stack in _SWITCHES for file in (net / stack).glob("*/*")), *(net / key for key in _ALONE)):
        try:
            yield f"{path.relative_to(net)} = {path.read_text().strip()}"
        except OSError:
            continue  # stable_secret has no value, some are write-only


def _processes(stage: Stage) -> tuple[str, ...]:
    lines = (" ".join(words).strip() for _, words in processes_in(stage.host) if words)  # a title is filled up
    there = Counter(line for line in lines if not _PASSING_PROCESSES.search(line))
    return tuple(f"{number} x {line}" for line, number in sorted(there.items()))


def _files(folders: dict[str, Path]) -> Iterator[str]:
    waits = any(True for folder in folders.values() for _ in folder.rglob("journal"))
    for where, folder in folders.items():
        for path in folder.rglob("*"):
            there = path.lstat()
            if path.name.startswith("netns-") and not any(path.iterdir()):
                continue
            if path.name.startswith(_TIMER) and not waits:
                continue
            content = "" if stat.S_ISDIR(there.st_mode) else _content(path)
            name = re.sub(rf"(netns|{_TIMER})-[^./]+", r"\1", f"{where}/{path.relative_to(folder)}")
            yield f"{name} {there.st_mode:o} {there.st_uid}:{there.st_gid} {content}"


def _content(path: Path) -> str:
    passing = path.name in ("lock", "lo.nmconnection") or path.name.startswith(("journal", _TIMER))
    if passing or path.suffix in (".pid", ".lease") or stat.S_ISSOCK(path.lstat().st_mode):
        return "text"
    if path.is_symlink():
        return os.readlink(path)
    if path.suffix == ".leases":
        blocks = _LEASE.findall(path.read_text())
        held = {tuple(re.findall(r'interface "(\S+)"|fixed-address (\S+);', block)) for block in blocks}
        return str(sorted(held))
    return hashlib.sha256(path.read_bytes()).hexdigest()
