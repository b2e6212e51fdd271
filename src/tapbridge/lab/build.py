"""Making a lab, and the lab as an object for tests and the demo."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tapbridge.lab import namespaces as ns
from tapbridge.lab import wiring
from tapbridge.lab.keeper import start_keeper
from tapbridge.lab.place import act, batch, environment, prefix, run_in, with_system_path
from tapbridge.lab.record import Keep, Phase, Record, Shelf
from tapbridge.lab.remove import NAMED, has_privilege, remove
from tapbridge.lab.settle import await_settled
from tapbridge.lab.spec import Mark, Spec, netns_name
from tapbridge.model.errors import Forbidden, HostError, Refused
from tapbridge.model.noun import dataclass, fields, replace
from tapbridge.model.values import Family

READY_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """A lab that is up. `new`: it was made just now, not found."""

    record: Record
    shelf: Shelf
    new: bool = True

    @property
    def name(self) -> str:
        """The lab's name."""
        return self.record.spec.name

    def argv(self, place: str, argv: Sequence[str]) -> list[str]:
        """The command line that runs `argv` in a place, for subprocess and the like. Raises Refused."""
        return [*prefix(keep_of(self.record, place)), *argv]

    def environment(self, place: str) -> dict[str, str]:
        """The environment for a program in a place."""
        return environment(os.environ, self.name, place)

    def run(
        self, place: str, argv: Sequence[str], *, check: bool = True, **more: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in a place to its end. Raises HostError if it fails and `check` is on."""
        done = run_in(keep_of(self.record, place), argv, env=self.environment(place), **more)
        if check and done.returncode != 0:
            raise HostError(f"{' '.join(argv)} in {place}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def popen(self, place: str, argv: Sequence[str], **more: Any) -> subprocess.Popen[str]:
        """Start a program in a place."""
        return subprocess.Popen(self.argv(place, argv), env=self.environment(place), text=True, **more)

    def addresses(self, place: str) -> dict[Family, list[str]]:
        """The global addresses that a place has now, without prefix."""
        return live_addresses(self.record, place)

    def down(self) -> None:
        """Remove the lab. Raises Stuck."""
        with self.shelf.locked():
            remove(self.shelf, self.name)


def up(spec: Spec, run_dir: Path, *, given: Collection[str] | None = None) -> Lab:
    """Make a lab below `run_dir`/labs, or find one there that is alike in all that was `given`. All of it, or nothing.

    Without root the calling process itself becomes root of a new user namespace, and stays that.
    Raises Refused, Forbidden, HostError.
    """
    shelf = Shelf(run_dir)
    with shelf.locked():
        record = shelf.find(spec.name)
        if record is not None:
            if is_whole(record):
                options = [each.name for each in fields(Spec)] if given is None else given
                if any(getattr(record.spec, option) != getattr(spec, option) for option in options):
                    raise Refused(
                        f"the lab {spec.name} is there already, with other options",
                        hint=f"tapbridge lab down {spec.name}, or give the new one another name",
                        code="lab-exists",
                        subject=spec.name,
                    )
                return Lab(record=record, shelf=shelf, new=False)
            remove(shelf, spec.name)
        _require_programs(spec)
        if has_privilege():
            _refuse_names_in_use(spec)
            return _make(Record(spec=spec, named=True), shelf)
        try:
            ns.enter_user_namespace()
            return _make(Record(spec=spec, named=False), shelf)
        except (OSError, HostError) as error:
            if error.errno not in (errno.EPERM, errno.EACCES, errno.ENOSPC):
                raise
            raise _no_user_namespace(str(error)) from error


@contextlib.contextmanager
def lab(spec: Spec, run_dir: Path) -> Iterator[Lab]:
    """A lab for the time of a with statement."""
    made = up(spec, run_dir)
    try:
        yield made
    finally:
        made.down()


def is_whole(record: Record) -> bool:
    """Whether a lab is up and every keeper of it lives."""
    return record.phase is Phase.UP and all(ns.started(keep.pid) == keep.start for keep in record.keeps.values())


def keep_of(record: Record, place: str) -> Keep:
    """The keeper of a place. Raises Refused."""
    keep = record.keeps.get(place)
    if keep is None:
        raise Refused(
            f"the lab {record.spec.name} has no place {place}",
            hint=f"it has {', '.join(record.keeps)}",
            code="no-such-place",
            subject=place,
        )
    return keep


def live_addresses(record: Record, place: str) -> dict[Family, list[str]]:
    """The global addresses that a place has now, without prefix. Raises Refused, HostError."""
    import json

    links = json.loads(act(keep_of(record, place), ["ip", "-j", "addr", "show"]))
    found: dict[Family, list[str]] = {4: [], 6: []}
    for link in links:
        for address in link["addr_info"] if link["ifname"] != "lo" else ():
            if address["scope"] == "global":
                found[4 if address["family"] == "inet" else 6].append(address["local"])
    return found


def _make(record: Record, shelf: Shelf) -> Lab:
    spec = record.spec
    with contextlib.ExitStack() as undo:
        undo.callback(remove, shelf, spec.name)
        shelf.write(record)
        keepers = []
        for place in spec.places:
            mark = Mark(shelf.ident, spec.name, place)
            keeper = start_keeper(mark, wiring.sysctls(spec, place), wiring.files(spec, place))
            undo.callback(keeper.abandon)
            keepers.append(keeper)
            keep = Keep(pid=keeper.pid, start=keeper.start, netns=os.stat(f"/proc/{keeper.pid}/ns/net").st_ino)
            record = record.with_keep(place, keep)
            shelf.write(record)
            batch(keep, wiring.marking(mark))
            if record.named:
                _name(netns_name(spec.name, place), keep)
        _wire(record)
        record = replace(record, phase=Phase.UP)
        shelf.write(record)
        for keeper in keepers:
            keeper.release()
        undo.pop_all()
    return Lab(record=record, shelf=shelf)


def _wire(record: Record) -> None:
    spec, keeps = record.spec, record.keeps
    for place, lines in wiring.cabling(spec, {place: keep.pid for place, keep in keeps.items()}).items():
        batch(keeps[place], lines)
    for place in spec.places:
        batch(keeps[place], wiring.addressing(spec, place))
    for place in ("lan", "router"):
        await_settled(keeps[place], advertised=False, limit_s=READY_S)
    act(keeps["router"], wiring.dnsmasq(spec))
    if spec.addresses == "leased":
        _lease(record)
    for place in spec.places:
        advertised = spec.ipv6 and spec.addresses == "leased" and place in spec.host_names
        await_settled(keeps[place], advertised=advertised, limit_s=READY_S)


def _lease(record: Record) -> None:
    """Start the DHCP client of every host at once; each goes to the background when it is bound."""
    hosts = record.spec.host_names
    clients = {
        host: subprocess.Popen(
            [*prefix(record.keeps[host]), *wiring.DHCLIENT],
            env=environment(os.environ, record.spec.name, host),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        for host in hosts
    }
    for host, client in clients.items():
        try:
            said = client.communicate(timeout=READY_S)[1]
        except subprocess.TimeoutExpired as error:
            raise HostError(f"{host} got no lease within {READY_S:g} s") from error
        if client.returncode != 0 or "bound to" not in said:
            raise HostError(f"{host} got no lease: {said.strip().splitlines()[-1:]}")


def _name(name: str, keep: Keep) -> None:
    words = ["ip", "netns", "attach", name, str(keep.pid)]
    done = subprocess.run(words, env=with_system_path(os.environ), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise HostError(f"the network namespace cannot be named {name}: {done.stderr.strip()}")


def _refuse_names_in_use(spec: Spec) -> None:
    for place in spec.places:
        name = netns_name(spec.name, place)
        if os.path.lexists(NAMED / name):
            raise Refused(
                f"there is a network namespace {name} already, and no lab {spec.name} on record here",
                hint="tapbridge lab down --all, or give the lab another name",
                code="name-in-use",
                subject=name,
            )


def _require_programs(spec: Spec) -> None:
    path = environment(os.environ, spec.name, "lan")["PATH"]
    missing = [package for program, package in wiring.programs(spec).items() if not shutil.which(program, path=path)]
    if missing:
        raise Refused(
            "a lab needs programs that are not installed",
            hint=f"sudo apt-get install {' '.join(missing)}",
            code="programs-missing",
        )


def _no_user_namespace(reason: str) -> Forbidden:
    """Which of the switches forbids it: user_namespaces(7), and two that Debian and Ubuntu have added."""
    switches: Mapping[str, tuple[str, str]] = {
        "kernel/unprivileged_userns_clone": ("0", "1"),
        "kernel/apparmor_restrict_unprivileged_userns": ("1", "0"),
        "user/max_user_namespaces": ("0", "10000"),
    }
    hint = "run it with sudo"
    for path, (off, on) in switches.items():
        with contextlib.suppress(OSError):
            if Path("/proc/sys", path).read_text(encoding="ascii").strip() == off:
                hint += f", or allow user namespaces: sudo sysctl {path.replace('/', '.')}={on}"
    return Forbidden(
        f"this system does not let a user without root make network namespaces: {reason}",
        hint=hint,
        code="not-permitted",
    )
