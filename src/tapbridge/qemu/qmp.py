"""A conversation with a running QEMU over QMP, by the library qemu.qmp.

Theory of operation. QEMU serves one client of a monitor at a time; the next one is accepted by the kernel and hears
nothing. So whoever has been greeted is alone with the guest, and no lock of ours is needed. The library runs on
asyncio; its loop runs here only while an answer is waited for, and every wait has a limit.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

from tapbridge.model.errors import Forbidden, HostError, Refused

_LIMIT_S: Final = 10.0
_GREETING_S: Final = 3.0
_LOOK_S: Final = 0.2
_UNPLUGGED: Final = ("DEVICE_DELETED", "DEVICE_UNPLUG_GUEST_ERROR")
_ALREADY: Final = "in the process of unplug"  # qdev_unplug(), system/qdev-monitor.c
_T = TypeVar("_T")


class MonitorLost(HostError):
    """QEMU does not answer any more: what it has done of the last command is not known."""


class Monitor:
    """A QMP conversation. `said` are the commands that changed something and that QEMU has carried out, as JSON."""

    def __init__(self, connection: socket.socket) -> None:
        import asyncio
        import logging

        from qemu.qmp import QMPClient

        logging.getLogger("qemu.qmp").addHandler(logging.NullHandler())  # it would write to stderr beside us
        self.said: list[str] = []
        self._loop = asyncio.new_event_loop()
        self._client = QMPClient()
        try:
            self._wait(self._client.connect(connection), "the greeting", _GREETING_S)
        except BaseException:
            self._loop.close()
            raise

    def close(self) -> None:
        """End the conversation; the guest runs on."""
        if self._loop.is_closed():
            return
        with suppress(MonitorLost):
            self._wait(self._client.disconnect(), "the end", _LIMIT_S)
        self._loop.close()

    def ask(self, command: str, **arguments: Any) -> Any:
        """Let QEMU carry a command out, and return its answer. Raises HostError with QEMU's own words, MonitorLost."""
        return self._wait(self._client.execute(command, arguments or None), command, _LIMIT_S)

    def tell(self, command: str, **arguments: Any) -> None:
        """The same for a command that changes something."""
        import json

        self.ask(command, **arguments)
        self.said.append(json.dumps({"execute": command, "arguments": arguments}))

    def give(self, name: str, descriptor: int) -> None:
        """Give QEMU an open file, which it keeps under this name until something takes it or `closefd`."""
        try:
            self._client.send_fd_scm(descriptor)
        except OSError as error:
            raise MonitorLost(f"QEMU takes no open file: {error}") from None
        self.tell("getfd", fdname=name)

    def unplug(self, path: str, limit_s: float, look: Callable[[], None]) -> None:
        """Have the card at a place of QOM taken out, and wait until the guest has let it go.

        `look` is called several times a second, and may raise. Raises HostError if the guest does not let it go.
        """
        import asyncio

        deadline = time.monotonic() + limit_s
        with self._client.listener(_UNPLUGGED) as events:
            try:
                self.tell("device_del", id=path)
            except HostError as error:
                if _ALREADY not in error.message:  # then somebody has asked before, and only the guest is missing
                    raise
            while (left_s := deadline - time.monotonic()) > 0:
                look()
                try:
                    event = self._loop.run_until_complete(asyncio.wait_for(events.get(), min(left_s, _LOOK_S)))
                except TimeoutError:
                    if self._client.runstate.name != "RUNNING":
                        raise MonitorLost("QEMU has ended, or closed its monitor") from None
                    continue
                told: Any = event["data"]
                if told.get("path") == path and event["event"] == "DEVICE_DELETED":
                    return
                if told.get("path") == path:
                    raise HostError("the guest refuses to let the card go")
        raise HostError(
            f"the guest has not let the card go within {limit_s:.0f} s",
            hint="a guest does so only while its own system runs; the request stays with it: repeat detach later",
        )

    def _wait(self, what: Coroutine[Any, Any, _T], name: str, limit_s: float) -> _T:
        import asyncio

        from qemu.qmp import ExecuteError, QMPError

        try:
            return self._loop.run_until_complete(asyncio.wait_for(what, limit_s))
        except ExecuteError as error:
            raise HostError(f"QEMU refuses {name}: {error}") from None
        except TimeoutError:
            raise MonitorLost(f"QEMU has not answered within {limit_s:.0f} s ({name})") from None
        except (QMPError, OSError, EOFError) as error:
            raise MonitorLost(f"the conversation with QEMU broke off ({name}): {error}") from None


def open_monitor(path: str, pid: int, guest: str) -> Monitor:
    """Begin a conversation with the QEMU that has this PID, at this socket. Raises Refused, Forbidden.

    `guest` is its name. The other end is asked of the kernel: a tap is handed to nobody else.
    """
    _require_library()
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    monitor = None
    try:
        connection.settimeout(_GREETING_S)
        _connect(connection, path)
        _require_peer(connection, path, pid, guest)
        monitor = Monitor(connection)
    except (TimeoutError, BlockingIOError, MonitorLost):
        raise Refused(
            f"the monitor of the guest {guest!r} is busy: {path} gives no greeting",
            hint="QEMU serves one program at a time: end the other one, or start the guest with one more -qmp; a guest "
            "that was stopped (SIGSTOP) serves nobody",
            code="monitor-busy",
            subject=guest,
        ) from None
    except PermissionError as error:
        raise Forbidden(
            f"the monitor of the guest {guest!r} is not yours to use: {path}: {error.strerror}",
            hint="run it with sudo, or as the user who started the guest",
            code="not-permitted",
            subject=guest,
        ) from None
    except OSError as error:
        raise Refused(
            f"the monitor of the guest {guest!r} cannot be reached: {path}: {error.strerror}",
            hint="was its socket removed? Start the guest again with -qmp unix:PATH,server=on,wait=off",
            code="no-monitor",
            subject=guest,
        ) from None
    finally:
        if monitor is None:
            connection.close()
    return monitor


def _require_library() -> None:
    try:
        import qemu.qmp  # noqa: F401
    except ImportError:
        raise Refused(
            "the Python library qemu.qmp is missing, by which running guests are spoken to",
            hint="pip install qemu.qmp (or install tapbridge[qmp], which brings it)",
            code="no-qmp-library",
        ) from None


def _connect(connection: socket.socket, path: str) -> None:
    """By its folder, since the name of a socket has 107 bytes at most, and one in /proc/PID/cwd may be longer."""
    folder, name = os.path.split(path)
    held = os.open(folder or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        connection.connect(f"/proc/self/fd/{held}/{name}")
    finally:
        os.close(held)


def _require_peer(connection: socket.socket, path: str, pid: int, guest: str) -> None:
    peer = struct.unpack("=iII", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
    if peer != pid:
        raise Refused(
            f"the monitor of the guest {guest!r} cannot be trusted: at {path} listens PID {peer}, not PID {pid}",
            hint="start the guest so that QEMU itself makes the socket: -qmp unix:PATH,server=on,wait=off",
            code="not-its-monitor",
            subject=guest,
        )
