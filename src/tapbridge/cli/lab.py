"""`tapbridge lab up|exec|status|down`: a LAN, hosts and guests in namespaces."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tapbridge.cli.result import Result
from tapbridge.lab.spec import ADDRESSES, NIC, Spec, netns_name, parse_lab_name
from tapbridge.model.errors import HostError, Refused, UsageError
from tapbridge.model.verdict import Finding, Severity

if TYPE_CHECKING:
    from tapbridge.cli.world import World
    from tapbridge.lab.record import Record, Shelf

VERBS = ("up", "exec", "status", "down")
DEFAULT = "lab"
_OF_UP = ("hosts", "addresses", "ipv6", "subnet4", "subnet6", "mtu", "lease_seconds", "renew_seconds", "dad")
_OF = {"up": (*_OF_UP,), "exec": ("host",), "status": (), "down": ("all",)}


def options(parser: argparse.ArgumentParser) -> None:
    """What can be asked of a lab."""
    parser.add_argument("verb", choices=VERBS, help="make a lab, run a command in it, show the labs, remove a lab")
    parser.add_argument("name", nargs="?", help=f"the lab (default: {DEFAULT}, or the only one there is)")
    up = parser.add_argument_group("options of up")
    up.add_argument("--hosts", type=int, metavar="N", help="how many hosts h1, h2, … (1)")
    up.add_argument("--addresses", choices=ADDRESSES, help="where the hosts have their addresses from (leased)")
    up.add_argument("--subnet4", metavar="NET", help="the LAN's IPv4 subnet (192.0.2.0/24 in the lab named lab)")
    up.add_argument("--subnet6", metavar="NET", help="the LAN's IPv6 subnet (2001:db8:1::/64 in the lab named lab)")
    up.add_argument("--no-ipv6", dest="ipv6", action="store_const", const=False, help="a LAN of IPv4 alone")
    up.add_argument("--mtu", type=int, metavar="BYTES", help="of every link (1500)")
    up.add_argument("--lease-seconds", type=int, metavar="N", help="lifetime of a lease, 120 or more (3600)")
    up.add_argument("--renew-seconds", type=int, metavar="N", help="when a lease is renewed (half of its lifetime)")
    no_dad = "the hosts skip duplicate address detection: the lab is up sooner"
    up.add_argument("--no-dad", dest="dad", action="store_const", const=False, help=no_dad)
    run_in = parser.add_argument_group("options of exec", "the command stands behind --; without one it is a shell")
    run_in.add_argument(
        "--host", metavar="PLACE", help="where to run it: h1 (default), h2, …, router, peer, beyond, lan"
    )
    down = parser.add_argument_group("options of down")
    down.add_argument("--all", action="store_const", const=True, help="every lab, and what a killed one has left")


def run(args: argparse.Namespace, world: World) -> Result:
    """Carry out one verb."""
    for verb, names in _OF.items():
        for name in names if verb != args.verb else ():
            if getattr(args, name) is not None:
                option = {"ipv6": "no-ipv6", "dad": "no-dad"}.get(name, name.replace("_", "-"))
                raise UsageError(f"--{option} is an option of lab {verb}", hint="tapbridge lab --help", code="usage")
    if args.rest is not None and args.verb != "exec":
        raise UsageError(f"lab {args.verb} takes no command", hint="tapbridge lab exec -- COMMAND", code="usage")
    if args.name is not None:
        parse_lab_name(args.name)
    return {"up": _up, "exec": _exec, "status": _status, "down": _down}[args.verb](args, world)


def _up(args: argparse.Namespace, world: World) -> Result:
    from tapbridge.lab.build import up

    name = args.name or DEFAULT
    given = {option: getattr(args, option) for option in _OF_UP if getattr(args, option) is not None}
    lab = up(Spec(name=name, **given), world.run_dir(), given=given)
    shown = _document(lab.record, lab.shelf)
    document: dict[str, Any] = {"outcome": "done" if lab.new else "nothing", "steps": [], "lab": shown}
    lines = [f"the lab {name} is up{'' if lab.new else ' already'}", "", *_tree(shown), "", *_invitation(name)]
    return Result(document=document, text="\n".join(lines))


def _exec(args: argparse.Namespace, world: World) -> Result:
    from tapbridge.lab.build import keep_of
    from tapbridge.lab.place import become, environment
    from tapbridge.lab.record import Shelf

    if args.json:
        raise UsageError("lab exec has no --json: its output is the command's own", code="usage")
    shelf = Shelf(world.run_dir())
    name = _which(args.name, shelf)
    record = shelf.find(name)
    if record is None:
        raise _no_such_lab(name, shelf)
    place = args.host or "h1"
    keep = keep_of(record, place)
    environ = environment(world.environ, name, place)
    own = os.path.abspath(sys.argv[0])
    if os.path.basename(own) == "tapbridge":  # so that `lab exec -- tapbridge …` is this program, installed or not
        environ["PATH"] = f"{os.path.dirname(own)}:{environ['PATH']}"
    become(keep, args.rest or [environ.get("SHELL", "/bin/sh")], environ)
    raise AssertionError("become does not return")


def _status(args: argparse.Namespace, world: World) -> Result:
    from tapbridge.lab.record import Shelf

    shelf = Shelf(world.run_dir())
    if args.name is not None and shelf.find(args.name) is None:
        raise _no_such_lab(args.name, shelf)
    labs = []
    for name in [args.name] if args.name else shelf.names():
        record = shelf.find(name)
        if record is not None:  # it may have gone since names() was read
            labs.append(_document(record, shelf))
    lines = [line for lab in labs for line in (f"{lab['name']}  {lab['state']}", *_tree(lab), "")]
    return Result(
        document={"labs": labs}, text="\n".join(lines[:-1]) if labs else "there is no lab; tapbridge lab up makes one"
    )


def _down(args: argparse.Namespace, world: World) -> Result:
    from tapbridge.lab.record import Shelf
    from tapbridge.lab.remove import leftovers, remove

    if args.all and args.name:
        raise UsageError("lab down takes a name or --all, not both", hint="tapbridge lab --help", code="usage")
    shelf = Shelf(world.run_dir())
    with shelf.locked():
        names = leftovers(shelf) if args.all else [_which(args.name, shelf)]
        gone = [name for name in names if remove(shelf, name)]
    if gone:
        return Result(document={"outcome": "done", "steps": [], "labs": gone}, text=f"removed: {', '.join(gone)}")
    document = {"outcome": "nothing", "steps": [], "labs": []}
    if args.name and shelf.names():
        error = _no_such_lab(args.name, shelf)
        finding = Finding(
            code=error.code, severity=Severity.INFO, subject=args.name, message=error.message, fix=error.hint
        )
        return Result(document=document, findings=(finding,))
    return Result(document=document, text="there is no lab to remove")


def _which(name: str | None, shelf: Shelf) -> str:
    """The lab that is meant when none is named."""
    if name is not None:
        return name
    names = shelf.names()
    if len(names) > 1 and DEFAULT not in names:
        raise Refused(f"there are several labs: {', '.join(names)}", hint="name one", code="which-lab")
    return names[0] if len(names) == 1 else DEFAULT


def _no_such_lab(name: str, shelf: Shelf) -> Refused:
    import difflib

    near = difflib.get_close_matches(name, shelf.names(), n=1)
    there = f"; there is {', '.join(shelf.names())}" if shelf.names() else ""
    hint = f"did you mean {near[0]}?" if near else f"tapbridge lab up {name}"
    return Refused(f"there is no lab {name}{there}", hint=hint, code="no-such-lab", subject=name)


def _document(record: Record, shelf: Shelf) -> dict[str, Any]:
    from tapbridge.lab.build import is_whole, live_addresses

    spec = record.spec
    whole, live = is_whole(record), {}
    if whole:
        try:
            live = {place: live_addresses(record, place) for place in record.keeps}
        except (HostError, OSError):  # a keeper died while we looked
            whole = False
    places = []
    for place, keep in record.keeps.items():
        netns = netns_name(spec.name, place) if record.named else None
        addresses = [ip for ips in live.get(place, {}).values() for ip in ips]
        places.append({"name": place, "pid": keep.pid, "netns": netns, "addresses": addresses})
    return {
        "name": spec.name,
        "state": "up" if whole else record.phase.value if shelf.busy() else "broken",
        "hosts": spec.hosts,
        "nic": NIC,
        "addressing": spec.addresses,
        "subnets": [spec.subnet(family) for family in spec.families],
        "places": places,
    }


def _tree(lab: dict[str, Any]) -> Iterable[str]:
    notes = {"lan": "the switch", "router": "gateway, DHCP, DNS", "beyond": "behind the router", "peer": "on the LAN"}
    width = max((len(place["name"]) for place in lab["places"]), default=0)
    for place in lab["places"]:
        note = notes.get(place["name"], f"a host, {lab['addressing']}")
        yield f"  {place['name']:<{width}}  {note:<18}  {'  '.join(place['addresses'])}".rstrip()


def _invitation(name: str) -> list[str]:
    named = "" if name == DEFAULT else f" {name}"
    return [
        f"to try:     tapbridge lab exec{named} -- tapbridge up --dry-run",
        f"a shell:    tapbridge lab exec{named}",
        f"to remove:  tapbridge lab down{named}",
    ]
