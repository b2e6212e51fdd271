"""Which processes configure links, and how one of them is ended and started again.

A client counts if it is in our network namespace and has the right to configure it; its name is only how it is found.
Every name is read once (15 bytes), and only the few that have a known one are looked into.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Final

from tapbridge.core import dhclient, dhcpcd, udhcpc
from tapbridge.linux import dhcpcd_processes, processes, systemd, udhcpc_start
from tapbridge.linux.managed import Held, networkd_links, networkmanager_links
from tapbridge.model.errors import HostError
from tapbridge.model.noun import replace
from tapbridge.model.state import Client, LeaseFile
from tapbridge.model.values import IfName

_PROGRAMS: Final = {
    "dhclient": "dhclient",
    "dhcpcd": "dhcpcd",
    "udhcpc": "udhcpc",
    "udhcpc6": "udhcpc",
    "busybox": "udhcpc",
    "systemd-network": "systemd-networkd",
    "NetworkManager": "NetworkManager",
    "connmand": "connman",
    "wickedd": "wicked",
    "netifd": "netifd",
}
"""Programs by the name of their process, which the kernel cuts at 15 bytes."""

_READ: Final[Mapping[str, Callable[[Sequence[str]], dhclient.Invocation | dhcpcd.Invocation | udhcpc.Invocation]]] = {
    "dhclient": dhclient.read_invocation,
    "dhcpcd": dhcpcd.read_invocation,
    "udhcpc": udhcpc.read_invocation,
}
_DHCPCD_LEASES: Final = ("/var/lib/dhcpcd/{link}.lease", "/var/lib/dhcpcd/{link}.lease6")
_DHCLIENT_LEASES: Final = ("/var/lib/dhcp/dhclient", "/var/lib/dhclient/dhclient", "/var/db/dhclient")
_LEASE_BYTES: Final = 64 << 20
_SCRIPT_S: Final = 2.0
_ETH_P_ALL_LINE: Final = 9  # fields of a line of /proc/net/packet


def observe_clients(names: Collection[str]) -> tuple[Client, ...]:
    """The processes that configure links of this network namespace; `names` are the links that it has.

    One Client for each link that a process serves; `link` is None where a process may serve any. A manager
    (systemd-networkd, NetworkManager) is there only for the links that it manages, by its own word under /run;
    what configures such a link is in `files`. All files are seen as the process sees them: a path that is another
    file for us is given as /proc/PID/root/…, and is gone with the process.
    """
    found: dict[tuple[object, ...], Client] = {}
    for pid in processes.pids():
        program = _PROGRAMS.get(processes.command_name(pid))
        if program is None or not processes.in_our_netns(pid) or not processes.may_configure_network(pid):
            continue
        argv = _argv(pid, program)
        if not argv or (program == "udhcpc" and not _is_udhcpc(argv)):
            continue
        clients = list(_clients_of(pid, program, argv, names))
        if _PROGRAMS.get(processes.command_name(pid)) != program:
            continue  # a child that has become its script since its name was read
        for client in clients:
            found.setdefault((client.program, client.link, client.argv), client)
    return tuple(sorted(found.values(), key=lambda x: (x.program, x.link or "", x.argv)))


def stop_client(client: Client) -> None:
    """End a client by SIGKILL, so that it neither releases nor deconfigures, and wait for its death.

    What is ended is every process of our network namespace with the client's program and argument vector: dhclient
    is two while its launcher waits, and the PID may be another's by now; of dhcpcd all that belong to such a one. A
    script that it has started is waited for: before, or where it was started in the last moment, after. No such
    process: nothing to do. Raises HostError.
    """
    _end(client, processes.hold([pid for pid in processes.pids() if _is(pid, client)], lambda pid: _is(pid, client)))


def end_halted(client: Client) -> None:
    """End what is left of a dhcpcd that stands still, for who was to end it was killed on the way; where only files
    are left, remove them; else do nothing.

    Any of its processes may be the one that is left, and let go on it would act on the death of the others.
    """
    held = processes.hold(processes.pids(), lambda pid: _is_halted(pid, client))
    if held:
        _end(client, held | processes.hold(dhcpcd_processes.family(held) - held.keys(), _is_dhcpcd))
    elif not dhcpcd_processes.runs(client.argv):
        dhcpcd_processes.forget(client.argv, client.link)
    systemd.let_start(client.cgroup)


def _end(client: Client, held: dict[int, int]) -> None:
    if client.program == dhcpcd_processes.NAME:
        with systemd.held_down(client.cgroup):
            _kill(client, held)
            dhcpcd_processes.forget(client.argv, client.link)
            systemd.await_end(client.cgroup)
        return
    _kill(client, held)
    if client.program == "udhcpc":
        udhcpc_start.forget(client)


def _kill(client: Client, held: dict[int, int]) -> None:
    import signal

    began = processes.clock_ticks()
    scripts = processes.hold(_children(held, but=client.program), lambda pid: processes.parent(pid) in held)
    processes.wait_for_ends(scripts.values(), _SCRIPT_S)
    if client.program == dhcpcd_processes.NAME:  # none of its processes shall see another one die and act on it
        _signal(held, signal.SIGSTOP)
        held |= processes.hold(dhcpcd_processes.family(held) - held.keys(), _is_dhcpcd)
        _signal(held, signal.SIGSTOP)
        held |= processes.hold(dhcpcd_processes.family(held) - held.keys(), _is_dhcpcd)
    _signal(held, signal.SIGKILL)
    if not processes.wait_for_ends(held.values(), 2.0):
        raise HostError(
            f"{client.program} did not end within 2 s of SIGKILL",
            hint=f"look at the process: ps -o pid,stat,wchan,args -C {client.program}",
        )
    if held:
        late = [pid for pid in processes.pids() if _is_of_session(pid, held, began)]
        orphans = processes.hold(late, lambda pid: _is_of_session(pid, held, began))
        processes.wait_for_ends(orphans.values(), _SCRIPT_S)


def _children(held: dict[int, int], but: str) -> list[int]:
    """The children of held processes, but for those that are of the same program."""
    if not held:
        return []
    found = [pid for pid in processes.pids() if pid not in held and processes.parent(pid) in held]
    return [pid for pid in found if processes.command_name(pid) != but]


def _is_of_session(pid: int, leaders: Collection[int], began: int) -> bool:
    """Whether a process has one of these as its session's leader, dead or not, and has started since."""
    return processes.session(pid) in leaders and processes.start_time(pid) >= began


def _is_halted(pid: int, client: Client) -> bool:
    return (
        _is_dhcpcd(pid)
        and processes.state(pid) in ("T", "t")
        and _full_argv(pid, _argv(pid, client.program)) == client.argv
    )


def _is_dhcpcd(pid: int) -> bool:
    return processes.command_name(pid) == dhcpcd_processes.NAME and processes.in_our_netns(pid)


def _signal(held: dict[int, int], number: int) -> None:
    import signal

    for fd in held.values():
        try:
            signal.pidfd_send_signal(fd, number)
        except ProcessLookupError:
            continue


def start_client(client: Client, limit_s: float = 5.0) -> None:
    """Start a client with its argument vector, environment, folder and control group; nothing to do where it runs.

    Where the control group is gone and systemd runs in this network namespace, the client gets a service again: the one
    that starts it by the same words, else a transient one of its own. Returns when the client has gone to the
    background by itself (dhclient without -nw does so once it has an address), or after `limit_s` seconds: then it
    goes on trying. Raises HostError if it ends with an error.
    """
    if any(_is(pid, client) for pid in processes.pids()):
        return
    alone = client.cgroup and not processes.control_group_folders(client.cgroup) and systemd.is_here()
    unit = _unit_of(client) if alone else None
    if unit is not None:
        systemd.let_come_up(unit, limit_s)
    else:
        _start(client, limit_s, as_service=bool(alone))
    if client.program == dhcpcd_processes.NAME:
        dhcpcd_processes.await_link(client, limit_s)


def _start(client: Client, limit_s: float, *, as_service: bool) -> None:
    if client.program == "udhcpc":
        client = udhcpc_start.left_alone(client)
    elif client.program == dhcpcd_processes.NAME:
        client = replace(client, argv=dhcpcd_processes.at_once(client.argv))
    argv = _as_service(client) if as_service else client.argv
    pid = processes.spawn(argv, client.environment, client.cwd, client.cgroup)
    if not processes.wait_for_ends([os.pidfd_open(pid)], 0.25 if _stays(client) else limit_s):
        return
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status != 0:
        raise HostError(
            f"{client.program} ended at once, with exit code {status}", hint="try: " + " ".join(client.argv)
        )


def _unit_of(client: Client) -> str | None:
    """The service that starts a client by the very words that it has, if there is one: its own, or that of its name."""
    if client.program != dhcpcd_processes.NAME:
        return None  # another would deconfigure its link, or take a second one
    systemd.reload()  # it may have got other words, or its own again; that, systemd does not find out by itself
    for unit in (os.path.basename(client.cgroup), f"{client.program}.service"):
        words = tuple(word for word in systemd.find_command(unit) if word not in dhcpcd.AT_ONCE)
        if words == client.argv:
            return unit
    return None


def _stays(client: Client) -> bool:
    """Whether a client stays in the foreground."""
    return _READ[client.program](client.argv).foreground


def _is(pid: int, client: Client) -> bool:
    if _PROGRAMS.get(processes.command_name(pid)) != client.program or not processes.in_our_netns(pid):
        return False
    return processes.may_configure_network(pid) and _full_argv(pid, _argv(pid, client.program)) == client.argv


def _clients_of(pid: int, program: str, argv: tuple[str, ...], names: Collection[str]) -> Iterator[Client]:
    if program == "dhclient":
        yield from _dhclients(pid, argv, names)
    elif program == "udhcpc":
        yield _client(pid, program, argv, IfName(udhcpc.read_invocation(argv).link))
    elif program == dhcpcd_processes.NAME:
        yield from _dhcpcds(pid, argv, names)
    elif program == "systemd-networkd":
        yield from _managed(pid, program, networkd_links(pid), names)
    elif program == "NetworkManager":
        yield from _managed(pid, program, networkmanager_links(pid), names)
    else:
        yield _client(pid, program, argv, None)


def _or_any(links: list[IfName]) -> Sequence[IfName | None]:
    return links or [None]


def _client(
    pid: int, program: str, argv: tuple[str, ...], link: IfName | None, files: Sequence[str] = (), profile: str = ""
) -> Client:
    return Client(
        link=link,
        profile=profile,
        program=program,
        pid=pid,
        started=processes.start_time(pid),
        argv=_full_argv(pid, argv),
        environment=_environment(pid),
        cwd=_folder(pid),
        cgroup=processes.control_group(pid),
        files=tuple(item for path in files if (item := _file(pid, path)) is not None),
    )


def _argv(pid: int, program: str) -> tuple[str, ...]:
    """The argument vector as its user gave it."""
    if program == dhcpcd_processes.NAME:
        return dhcpcd_processes.read_argv(pid)
    argv = processes.argument_vector(pid)
    return udhcpc_start.without_ours(argv) if program == "udhcpc" else argv


def _full_argv(pid: int, argv: tuple[str, ...]) -> tuple[str, ...]:
    """The argument vector, a bare command name replaced by the path of what runs: our PATH need not be its own. An
    applet of busybox, which may be there under no name of its own, becomes `/bin/busybox APPLET`."""
    if not argv or "/" in argv[0] or " " in argv[0]:
        return argv
    try:
        path = os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return argv
    called = os.path.basename(path)
    if called != argv[0] and called.startswith("busybox"):
        return (path, *argv)
    return (path, *argv[1:]) if called == argv[0] else argv


def _environment(pid: int) -> tuple[str, ...]:
    """What dhclient reads of its environment, and PATH: 16 variables of 4 KiB at most."""
    kept = [
        item.decode(errors="surrogateescape")
        for item in processes.read_bytes(f"/proc/{pid}/environ", 65536).split(b"\0")
        if item.startswith((b"PATH=", b"PATH_DHCLIENT_")) and len(item) <= 4096
    ]
    return tuple(sorted(kept)[:16])


def _folder(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return "/"


def _file(pid: int, path: str) -> LeaseFile | None:
    """A file as the process sees it, with its hash; None where there is none."""
    import hashlib

    text = processes.read_bytes(f"/proc/{pid}/root{path}", _LEASE_BYTES)
    if not text and not os.path.exists(f"/proc/{pid}/root{path}"):
        return None
    seen = path if processes.sees_our_file(pid, path) else f"/proc/{pid}/root{path}"
    return LeaseFile(path=seen, sha256=hashlib.sha256(text).hexdigest())


def _dhclients(pid: int, argv: tuple[str, ...], names: Collection[str]) -> Iterator[Client]:
    """The links that it was told, and those on which it listens: it also serves a link that its configuration has a
    block for, and without a word the links that it finds. One whose links are all gone still is a client of those."""
    told = dhclient.read_invocation(argv)
    links = {name: IfName(name) for name in (*told.links, *_links_listened_on(pid)) if name in names}
    files = [path] if (path := _lease_path(pid, told.lease_path, told.family)) else []
    found = list(links.values()) or [IfName(name) for name in told.links]
    for link in found if told.links else _or_any(found):
        yield _client(pid, "dhclient", argv, link, files)


def _dhcpcds(pid: int, argv: tuple[str, ...], names: Collection[str]) -> Iterator[Client]:
    """The links that it was told, be they there or gone, or else those that it says; any, where it says nothing."""
    invocation = dhcpcd.read_invocation(argv)
    told = dict.fromkeys(invocation.links or dhcpcd_processes.managed_links(pid))
    if invocation.made_for and not invocation.alone:
        told[invocation.made_for] = None
    if dhcpcd_processes.is_title(argv):
        told = {word: None for word in argv[0].split() if word in names}
    for link in _or_any([IfName(word) for word in told]):
        files = [path.format(link=link) for path in _DHCPCD_LEASES] if link else []
        client = _client(pid, dhcpcd_processes.NAME, argv, link, files)
        yield replace(client, environment=dhcpcd_processes.ENVIRONMENT, cwd="/")


def _lease_path(pid: int, told: str | None, family: int) -> str | None:
    """Where dhclient keeps its leases: as told, else the file that it has open, else the first default there is."""
    if told is not None and told.startswith("/"):
        return told
    for path in processes.descriptors(pid):
        if path.startswith("/") and path.endswith((".leases", ".lease")):
            return path
    suffix = "6.leases" if family == 6 else ".leases"
    return next((stem + suffix for stem in _DHCLIENT_LEASES if os.path.exists(f"/proc/{pid}/root{stem}{suffix}")), None)


def _links_listened_on(pid: int) -> list[IfName]:
    """The links on which a process has a packet socket."""
    held = {target.removeprefix("socket:[").removesuffix("]") for target in processes.descriptors(pid)}
    found = set()
    for line in processes.read_bytes("/proc/thread-self/net/packet", 1 << 20).decode().splitlines()[1:]:
        fields = line.split()
        if len(fields) == _ETH_P_ALL_LINE and fields[8] in held and int(fields[4]) > 0:  # 0: any; -1: one that is gone
            found.add(int(fields[4]))
    return [IfName(name) for index in sorted(found) if (name := _name(index)) is not None]


def _name(index: int) -> str | None:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return None


def _is_udhcpc(argv: tuple[str, ...]) -> bool:
    """Whether a busybox is called as its DHCP client: by its own name, or as `busybox udhcpc`."""
    called = os.path.basename(argv[0])
    if called in ("busybox", "busybox-static"):
        called = argv[1] if len(argv) > 1 else ""
    return called in ("udhcpc", "udhcpc6")


def _managed(pid: int, program: str, links: dict[int, Held] | None, names: Collection[str]) -> Iterator[Client]:
    argv = _argv(pid, program)
    if links is None:
        yield _client(pid, program, argv, None)
        return
    for index, held in sorted(links.items()):
        name = _name(index)
        if name in names:
            yield _client(pid, program, argv, IfName(name or ""), *held)


def _as_service(client: Client) -> list[str]:
    """The client as a transient service of systemd, which is collected when it ends."""
    return [
        "/usr/bin/systemd-run",
        "--quiet",
        "--collect",
        f"--unit=tapbridge-{client.program}-{client.link}",
        f"--property=Type={'exec' if _stays(client) else 'forking'}",
        f"--working-directory={client.cwd}",
        *(f"--setenv={item}" for item in client.environment),
        "--",
        *client.argv,
    ]
