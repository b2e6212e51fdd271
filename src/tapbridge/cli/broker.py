"""`tapbridge broker`: the small root service that lends taps to users without rights."""

from __future__ import annotations

import gc
import os
import socket
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tapbridge.cli.result import Result
from tapbridge.model.errors import Forbidden, HostError, Refused

if TYPE_CHECKING:
    from tapbridge.broker.policy import Rule
    from tapbridge.cli.world import World

_POLICY: Final = "etc/tapbridge/broker.policy"
_FIRST_PASSED: Final = 3  # sd_listen_fds(3)
_BACKLOG: Final = 128


def options(parser: ArgumentParser) -> None:
    """The options of `broker`."""
    parser.add_argument("--check", action="store_true", help="read the policy, say what it allows, and serve nobody")


def run(args: Namespace, world: World) -> Result:
    """Serve until somebody ends us, or read the policy."""
    path = world.root / _POLICY
    if args.check:
        return _checked(path)
    world.require_root("broker")
    from tapbridge.broker.server import Broker
    from tapbridge.linux.lent import LentTaps

    gc.enable()  # this command lives long enough
    _raise_limit()
    with world.host() as host:
        taps = LentTaps(quiet_in(world.journal_dir(host)))
    try:
        with _listening(world) as listener:
            rules = rules_of(path, _log)
            rules()  # what is wrong with it is said at once
            broker = Broker(listener, taps, rules, _log)
            try:
                broker.serve()
            finally:
                broker.close()
    except OSError as error:
        raise HostError(f"the broker ends: {error}", hint="taps that are lent stay with their guests") from None
    finally:
        taps.close()
    return Result(text="" if args.quiet else "The broker has ended.")


def read_policy(path: Path) -> tuple[Rule, ...]:
    """The policy of a file that nobody but root may change. Raises Refused, HostError."""
    from tapbridge.broker.policy import BYTES, parse_policy
    from tapbridge.linux.accounts import find_gid, find_uid
    from tapbridge.linux.boot_service import find_stranger
    from tapbridge.linux.files import read_text

    try:
        stranger = find_stranger((path,))
    except OSError as error:
        raise HostError(f"{path} cannot be read: {error.strerror}", errno=error.errno or 0) from None
    if stranger is not None:
        raise Refused(
            f"others than root may change the policy: {stranger}",
            hint=f"chown root {stranger}; chmod go-w {stranger}",
            code="policy-not-of-root",
            subject=str(stranger),
        )
    try:
        return parse_policy(read_text(str(path), BYTES), find_uid, find_gid)
    except Refused as error:
        raise Refused(f"{path}: {error.message}", hint=error.hint, code=error.code, subject=str(path)) from None


def rules_of(path: Path, log: Callable[[str], None]) -> Callable[[], tuple[Rule, ...]]:
    """What tells the policy as it is now: read when its file has changed, and nobody's while it cannot be read."""
    seen: object = ""
    rules: tuple[Rule, ...] = ()

    def now() -> tuple[Rule, ...]:
        nonlocal seen, rules
        there = _stamp(path)
        if there != seen:
            seen, rules = there, ()
            try:
                rules = read_policy(path) if there is not None else ()
                log(
                    f"{path} is read; lines that allow: {len(rules)}"
                    if there is not None
                    else f"nobody may: there is no {path}"
                )
            except (Refused, HostError) as error:
                log(f"nobody may: {error.message}")
        return rules

    return now


def quiet_in(folder: Path) -> Callable[[], None]:
    """What raises Refused while a change of the network is at work whose lock and journal are in this folder, or has
    left its journal there: one that waits to be confirmed may take a bridge away, one that was cut off as well."""
    from tapbridge.transact.journal import Journal
    from tapbridge.transact.lock import is_held

    journal = Journal(folder).path

    def require_quiet() -> None:
        try:
            at_work, waits = is_held(folder), journal.exists()
        except OSError as error:
            raise HostError(f"the broker cannot see whether the network is being changed: {error.strerror}") from None
        if at_work:
            raise Refused(
                "the network of this host is being changed at this moment",
                hint="try again; tapbridge run --wait does so by itself",
                code="locked",
            )
        if waits:
            raise Refused(
                "a change of this host's network waits to be confirmed, or was cut off",
                hint="root ends it: tapbridge confirm, rollback or recover",
                code="pending-change",
            )

    return require_quiet


def _stamp(path: Path) -> object:
    """What changes when a file, or who may change it, does."""
    try:
        each = [os.stat(place) for place in (path, path.parent)]
    except OSError:
        return None
    return [(there.st_dev, there.st_ino, there.st_ctime_ns, there.st_size) for there in each]


def _checked(path: Path) -> Result:
    from tapbridge.core.rate import dump_rate

    rules = read_policy(path) if path.exists() else ()
    told = [
        f"line {rule.line}: {'group' if rule.group else 'user'} {rule.number} on {rule.bridge}, {rule.taps} at a time, "
        + (f"held to one address of {' or '.join(rule.macs)}" if rule.held else "any address")
        + (f", in VLAN {rule.vlan}" if rule.vlan is not None else "")
        + (", isolated" if rule.isolated else "")
        + (f", {dump_rate(rule.rate)} bits per second" if rule.rate is not None else "")
        + (f", guarded by {' and '.join(rule.ips) or 'mac'}" if rule.guard is not None else "")
        + (f" but for {' and '.join(rule.allowed)}" if rule.allowed else "")
        for rule in rules
    ]
    document = {
        "rules": [
            {
                "line": rule.line,
                "uid": None if rule.group else rule.number,
                "gid": rule.number if rule.group else None,
                "bridge": rule.bridge,
                "taps": rule.taps,
                "macs": list(rule.macs) or None,
                "isolated": rule.isolated,
                "rate": rule.rate,
                "guard": rule.guard,
                "ips": list(rule.ips) or None,
                "allow": list(rule.allowed) or None,
                "vlan": rule.vlan,
            }
            for rule in rules
        ]
    }
    return Result(document=document, text="\n".join(told) or f"{path} allows nobody anything")


def _raise_limit() -> None:
    """As many open files as we may have: one for each guest."""
    import resource

    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextmanager
def _listening(world: World) -> Iterator[socket.socket]:
    """The socket that systemd has passed, or one of our own. Raises Refused, Forbidden, OSError."""
    if world.environ.get("LISTEN_PID") == str(os.getpid()):
        with socket.socket(fileno=_FIRST_PASSED) as passed:
            if passed.family != socket.AF_UNIX or passed.type != socket.SOCK_SEQPACKET:
                raise Refused("what systemd passed is no socket of the broker's kind", code="not-a-socket")
            os.set_inheritable(_FIRST_PASSED, False)
            yield passed
        return
    path = world.broker_socket()
    _require_free(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC) as own:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.parent.chmod(0o755)  # whatever root's umask was when it was made
            own.bind(str(path))
            path.chmod(0o666)
        except PermissionError as error:
            raise Forbidden(f"{path} cannot be made: {error.strerror}", hint="run it with sudo") from None
        try:
            own.listen(_BACKLOG)
            yield own
        finally:
            path.unlink(missing_ok=True)


def _require_free(path: Path) -> None:
    """Take the socket of a dead broker away. Raises Refused where one lives."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC) as trial, suppress(OSError):
        trial.connect(str(path))
        raise Refused(f"a broker listens at {path} already", hint="one is enough", code="broker-runs")
    path.unlink(missing_ok=True)


def _log(words: str) -> None:
    sys.stderr.write(f"broker: {words}\n")
    sys.stderr.flush()
