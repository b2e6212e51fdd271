"""Counting what was tried, and what did not hold; and the page that tells of it."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from kit.injection import Call
from kit.ordeal import VERBS, Trial
from kit.scenes import OWNED, SCENES

WHOLE: Final = os.environ.get("TAPBRIDGE_TEST_ALL") == "1"
"""Whether everything is tried (`script/test faults --all`), not CI's sample."""

_SHOWN: Final = 12
_WIDTH: Final = 400
_T = TypeVar("_T")


@dataclass(slots=True)
class Tally:
    """The trials of one test. `complaints` has one entry for each that did not hold; `changing` counts the points at
    calls that change, start or tell something."""

    fault: str
    scene: str
    verb: str
    tried: int = 0
    missed: int = 0
    changing: int = 0
    cut_off: int = 0
    complaints: list[str] = field(default_factory=list)

    def note(self, where: str, call: Call, trial: Trial) -> None:
        """Count a trial at this call."""
        self.tried += trial.reached
        self.missed += not trial.reached
        self.changing += trial.reached and call.role != "asks"
        self.cut_off += any("cut off" in line for line in trial.told)
        if trial.told:
            self.complaints.append("\n    ".join([where, *(line[:_WIDTH] for line in trial.told[:_SHOWN])]))
            print(f"{self.scene} {self.verb}: {self.complaints[-1]}", flush=True)

    def told(self) -> str:
        """All complaints. Empty: everything held."""
        return "\n".join(self.complaints)


def sample(items: Sequence[_T], most: int, *, offset: int = 0) -> list[_T]:
    """All of them if everything is tried; else as many as told, evenly spread, always the same."""
    return list(items) if WHOLE else spread(items, most, offset=offset)


def spread(items: Sequence[_T], most: int, *, offset: int = 0) -> list[_T]:
    """At most so many of them, evenly spread, always the same."""
    if len(items) <= most:
        return list(items)
    return [items[(offset + number * len(items) // most) % len(items)] for number in range(most)]


def thinned(calls: Sequence[Call]) -> list[Call]:
    """The calls that change something, and every third of those that only ask."""
    asking = [call for call in calls if call.role == "asks"][::3]
    return [call for call in calls if call.role != "asks" or call in asking]


def changing(calls: Sequence[Call]) -> list[Call]:
    """The calls that change something, start something or tell something."""
    return [call for call in calls if call.role != "asks"]


def together(record: Path, tallies: Iterable[Tally], commit: str) -> str:
    """docs/reliability.md: the table of a whole run, which may be made in parts; `record` has the parts before."""
    there = json.loads(record.read_text()) if record.exists() else []
    parts = {_key(tally): (commit, tally) for commit, tally in ((c, Tally(**told)) for c, told in there)}
    parts |= {_key(tally): (commit, tally) for tally in tallies}
    record.write_text(json.dumps([[commit, asdict(tally)] for commit, tally in parts.values()]))
    commits = ", ".join(dict.fromkeys(commit for commit, _ in parts.values()))
    head = _HEAD.format(kernel=platform.release(), commits=commits)
    return "\n".join([*head.splitlines(), *_table(tally for _, tally in parts.values()), ""])


def _key(tally: Tally) -> tuple[str, str, str]:
    return tally.fault, tally.scene, tally.verb


def _table(tallies: Iterable[Tally]) -> Iterator[str]:
    verbs, scenes = [*VERBS, "the guardian"], [*SCENES, *OWNED]
    ordered = sorted(tallies, key=lambda one: (one.fault, scenes.index(one.scene), verbs.index(one.verb)))
    for fault in dict.fromkeys(tally.fault for tally in ordered):
        rows = [tally for tally in ordered if tally.fault == fault]
        yield from ("", f"## {fault[0].upper()}{fault[1:]}", "")
        yield "| scene | verb | points | of them at a changing call | not reached | cut off | did not hold |"
        yield "|---|---|---|---|---|---|---|"
        for row in rows:
            yield f"| {row.scene} | `{row.verb}` | {' | '.join(map(str, _counts(row)))} |"
        yield f"| all | | {' | '.join(str(sum(column)) for column in zip(*map(_counts, rows), strict=True))} |"
        wrong = [(row, complaint.splitlines()[0]) for row in rows for complaint in row.complaints]
        yield from ("", *(f"- {row.scene}, `{row.verb}`: `{' '.join(line.split())}`" for row, line in wrong))


def _counts(tally: Tally) -> tuple[int, ...]:
    return tally.tried, tally.changing, tally.missed, tally.cut_off, len(tally.complaints)


_HEAD: Final = """\
# Reliability

What was done to the program, and what held. The cases are enumerated, not rolled: strace counts the system calls of a
command in a dry run, and then each of them is the one at which the program is killed, or which fails, in turn
(`script/test faults --all`; CI runs a fixed sample of it, `script/test faults`). The program holds no code for that.

- **Scenes.** Eight hosts, each with a LAN, a neighbour on it, a gateway, and a network behind the gateway: static;
  leased (dhclient and a real server that renews every three seconds); advertised (IPv6 by router advertisement);
  secondaries (labels, lifetimes, peers, a second subnet); policy (rules, tables, multipath, static ARP); take-name;
  bridges (somebody's bridge, a guest's tap and a foreign one); docker (its bridge and its nft rules).
- **Points.** Before every system call that changes something outside (netlink, files, ioctl, bpf, signals), starts a
  process, or prints; in the whole run also before every third of those that only ask. Where calls fail, each of these
  has one fault in each scene, the next one in the next scene. Not reached: a call that a program made in the dry run
  and not this time, such as another look at what it waits for.
- **Held** means: after one `tapbridge recover` the host is, by fingerprint, that of before or that of after. And at
  each point, with nothing recovered, a new TCP connection and a ping are answered at every address, from a
  neighbour, the gateway and behind it, over IPv4 and IPv6, with the neighbour caches of the LAN emptied. Where a call
  fails instead: exit 0 and after, or exit 4 and `recover` mends what is left, or any other code and before.
- **Beside an owner** (dhclient, dhcpcd, systemd-networkd, NetworkManager; the last two in a container with systemd)
  there is more to hold: by its own word the owner holds the right link, it is there once, it renews the lease, and
  after that the host is still the same; the server was told no RELEASE or DECLINE, and no DISCOVER but by networkd,
  which begins a NIC anew that was a port (docs/owners.md). *Not confirmed*: the guardian takes back what nobody
  confirms, alone, whether the command ended or was killed on its way there. Where the guardian is killed on its way
  back beside a manager, systemd's timer has a second one at work half a second later. *Kill the recovery*: four kills
  of the verb, and after each of them eight of the recovery, evenly spread. *Fail*: once each, no room for a file of the
  owner's (ENOSPC), no process for its start (EAGAIN), and a systemctl, networkctl or nmcli that ends with 1, or hangs.
- **The fingerprint** is read by `ip`, `bridge`, `nft` and from /proc/sys: links with all details, addresses, routes of
  all tables, rules, static neighbours, ports and their flags, static forwarding entries, the nft ruleset, all switches
  of all links, files with mode, owner and content, processes. tests/kit/fingerprint.py names what it leaves out.

Linux {kernel}. A whole run may be made in parts, at these commits: {commits}. A part
that is not below has not been run whole.
"""
