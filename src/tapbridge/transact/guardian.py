"""The guardian: a process that takes an unconfirmed change back, whatever becomes of the command that made it.

Theory of operation. The command forks it before the first step, so it has everything imported and the snapshot in
memory; it leaves the command's session, terminal, files and control group, locks its memory, opens its own netlink
socket, rehearses the way back, and only then says that it is ready. From then on it sleeps on three things: a timer of
CLOCK_BOOTTIME (a suspended host must not sleep through its deadline), the command's pidfd, and the journal's folder: it
goes when the journal goes, and nobody has to end it. What it does when it wakes is decided by the journal alone, under
the lock: a change that ended is left alone, one that was proved has its window, everything else is taken back. A holder
of the lock that does not let go is killed first (the fence): a way back that races a command which still applies wrecks
both.

systemd's timer runs a second one beside it, made from the journal, half a second behind.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tapbridge.model.errors import HostError, Refused, Stuck
from tapbridge.model.journal import Applied, Armed, Began, Ended, Undoing, load
from tapbridge.ports import Clock, Host
from tapbridge.transact.detach import come_back, detach, ended, start_time
from tapbridge.transact.journal import Journal
from tapbridge.transact.lock import writing
from tapbridge.transact.undo import take_back

READY_S = 10.0
"""How long a guardian may take to get ready; on an idle machine it takes 0.1 s."""

_TFD_TIMER_ABSTIME = 1  # include/uapi/linux/timerfd.h
_IN_DELETE, _IN_DELETE_SELF = 0x200, 0x400  # include/uapi/linux/inotify.h
_PRESS_S = 1.0  # how long a holder of the lock that is not the command may go on
_UNDO_S = 30.0  # how long another's way back may take


@dataclass(slots=True, kw_only=True)
class Watch:
    """One guardian's duty. `command` is a pidfd of the command, None for a guardian that never knew it; `late_s` are
    the seconds by which this one lets another be first."""

    journal: Journal
    began: Began
    host: Host
    clock: Clock
    apply_by: float
    command: int | None = None
    command_pid: int = 0
    late_s: float = 0.0
    _pressed: dict[int, float] = field(default_factory=dict)

    def stand(self, sleep: Callable[[float, int | None], bool]) -> str:
        """Sleep and look until the change has ended; what was done: `left alone`, or the outcome of the undo.

        `sleep(deadline, pidfd)` returns whether the process behind the pidfd has ended.
        """
        deadline, dead = self.apply_by, False
        while True:
            dead = sleep(deadline + self.late_s, None if dead else self.command) or dead
            due = self._due(dead)
            if due is None:
                return "left alone"
            if due <= self.clock.monotonic():
                outcome = self._undo(dead)
                if outcome is not None:
                    return outcome
            else:
                deadline = due

    def _due(self, dead: bool) -> float | None:
        """When the change is to be taken back, by the journal as it is; None where it has ended."""
        transaction, texts = self.journal.read()
        records = [load(text) for text in texts[1:]]
        if transaction != self.began.id or any(isinstance(record, Ended) for record in records):
            return None
        applied = [record.confirm_by for record in records if isinstance(record, Applied)]
        if applied:
            return applied[-1] + self.late_s
        return 0.0 if dead else self.apply_by + self.late_s

    def _undo(self, dead: bool) -> str | None:
        """Take the change back under the lock; None where it has a reason to wait after all."""
        with writing(self.journal.folder, wait_s=_UNDO_S, press=self._press):
            due = self._due(dead)
            if due is None or due > self.clock.monotonic():
                return None
            self.journal.resume()
            why = "the command ended before the change was proved" if due == 0.0 else "nobody confirmed it in time"
            undone = take_back(self.began, self.host, self.journal, why)
            return "stuck" if undone.left else "rolled-back"

    def _press(self, holder: int) -> None:
        """The fence: kill who holds the lock, the command at once, another where it neither ends nor takes back."""
        if holder == self.command_pid and self.command is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.command, signal.SIGKILL)
            ended(self.command, 1000)
            return
        since = self._pressed.setdefault(holder, time.monotonic())
        if holder == 0 or time.monotonic() - since < _PRESS_S or self._takes_back(holder):
            return
        with suppress(OSError):
            other = os.pidfd_open(holder)
            try:
                signal.pidfd_send_signal(other, signal.SIGKILL)
                ended(other, 1000)
            finally:
                os.close(other)

    def _takes_back(self, holder: int) -> bool:
        texts = self.journal.read()[1]
        return any(isinstance(record, Undoing) and record.pid == holder for record in map(load, texts[1:]))


def sleeper(folder: Path) -> Callable[[float, int | None], bool]:
    """A `sleep` for Watch: until a time of CLOCK_BOOTTIME, a process's end, or until something goes from the folder.

    Raises OSError.
    """
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    timer = _opened(libc.timerfd_create(time.CLOCK_BOOTTIME, os.O_CLOEXEC), ctypes.get_errno())
    news = _opened(libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK), ctypes.get_errno())
    libc.inotify_add_watch(news, os.fsencode(folder), _IN_DELETE | _IN_DELETE_SELF)

    class Itimerspec(ctypes.Structure):
        _fields_ = (
            ("every_s", ctypes.c_long),
            ("every_ns", ctypes.c_long),
            ("s", ctypes.c_long),
            ("ns", ctypes.c_long),
        )

    def sleep(deadline: float, pidfd: int | None) -> bool:
        deadline = max(deadline, 0.001)  # zero would disarm it
        wanted = Itimerspec(0, 0, int(deadline), int(deadline % 1 * 1e9))
        libc.timerfd_settime(timer, _TFD_TIMER_ABSTIME, ctypes.byref(wanted), None)
        poll = select.poll()
        for fd in (timer, news, *([pidfd] if pidfd is not None else [])):
            poll.register(fd, select.POLLIN)
        woken = {fd for fd, _ in poll.poll()}
        if news in woken:
            os.read(news, 65536)
        return pidfd in woken

    return sleep


def _opened(fd: int, errno: int) -> int:
    if fd < 0:
        raise OSError(errno, os.strerror(errno))
    return fd


def fork_guardian(make: Callable[[int, int], Watch], apply_by: float) -> tuple[Armed, tuple[str, ...]]:
    """Fork a guardian and wait until it is ready: its record, and what could not be had for it.

    `make(pidfd, pid)` is called in the guardian with the command's pidfd and PID, when everything of the command's is
    closed; it opens what the guardian needs and imports all that it may ever need. Raises Refused where it does not
    get ready.
    """
    command = os.pidfd_open(os.getpid())
    ready, told = os.pipe()
    try:
        child = os.fork()
        if child == 0:
            _leave(command, told, os.getppid(), make)
        os.close(told)
        told = -1
        os.waitpid(child, 0)
        words = _read_ready(ready)
    finally:
        for fd in (command, ready, told):
            if fd >= 0:
                os.close(fd)
    if len(words) < 3 or words[0] != "ready":
        why = words[0] if words and words[0] != "ready" else f"it was not ready within {READY_S:g} s"
        raise Refused(
            f"the guardian that would take the change back cannot be had: {why}",
            hint="without it the change can be made, and fails only loudly: --confirm 0",
            code="no-guard",
        )
    pid = int(words[1])
    return Armed(pid=pid, started=start_time(pid), apply_by=apply_by), tuple(words[3:])


def _read_ready(ready: int) -> list[str]:
    content, deadline = b"", time.monotonic() + READY_S
    poll = select.poll()
    poll.register(ready, select.POLLIN)
    while (left_s := deadline - time.monotonic()) > 0 and poll.poll(left_s * 1000):
        part = os.read(ready, 4096)
        if not part:
            break
        content += part
    return content.decode(errors="replace").splitlines()


def _leave(command: int, told: int, pid: int, make: Callable[[int, int], Watch]) -> None:
    """In the child: become nobody's, get ready, stand guard. Never returns."""
    try:
        os.setsid()
        if os.fork() == 0:
            _guard(command, told, pid, make)
    finally:
        os._exit(0)


def _guard(command: int, told: int, pid: int, make: Callable[[int, int], Watch]) -> None:
    missing = detach({command, told})
    try:
        watch = make(command, pid)
        sleep = sleeper(watch.journal.folder)
    except (HostError, OSError) as error:
        os.write(told, f"{error}\n".encode())
        return
    os.write(told, "\n".join(["ready", str(os.getpid()), "", *missing, ""]).encode())
    os.close(told)
    try:
        watch.stand(sleep)
    except (HostError, Refused, Stuck, OSError):
        return  # nobody listens; the journal is there for `recover`
    finally:
        come_back()
