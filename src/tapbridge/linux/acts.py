"""Steps that are no message to the kernel's routing, one by one."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from contextlib import closing

from tapbridge.linux import uapi
from tapbridge.linux.channel import Channel
from tapbridge.linux.observe import find_link, find_local_v6
from tapbridge.linux.shield import Shields
from tapbridge.linux.sysctls import write_sysctl
from tapbridge.model import step as steps
from tapbridge.model.state import Link
from tapbridge.model.step import Step


def perform_alone(channel: Channel, shields: Shields, step: Step) -> None:
    """Carry out a step that is none of KERNEL_STEPS. Raises OSError, HostError."""
    match step:
        case steps.SetSysctl():
            write_sysctl(step.sysctl)
        case steps.Await():
            _await(channel, step)
        case steps.AwaitLocal():
            _await_local(channel, step)
        case steps.Shield():
            shields.put_up(_link(channel, step.link).index, _link(channel, step.to).index)
        case steps.Unshield():
            link = find_link(channel, step.link)
            if link is not None:
                shields.take_down(link.index)
        case steps.AddTap():
            from tapbridge.linux.taps import add_tap

            add_tap(channel, step)
        case steps.DeleteTaps():
            from tapbridge.linux.taps import delete_taps

            delete_taps(channel, step)
        case steps.LimitRate():
            from tapbridge.linux.rates import limit_rate

            limit_rate(channel, _link(channel, step.link).index, step.rate)
        case steps.SetFilter():
            from tapbridge.linux.filters import set_filter

            set_filter(_link(channel, step.link).index, step.guard)
        case steps.SetFourAddress():
            from tapbridge.linux.four_address import set_four_address

            set_four_address(_link(channel, step.link).index, step)
        case steps.SetDns():
            from tapbridge.linux.resolved import set_dns

            set_dns(step.dns)
        case _:
            _perform_for_owner(channel, step)


def _perform_for_owner(channel: Channel, step: Step) -> None:
    """Those that have to do with who holds a link: processes, units, files."""
    match step:
        case steps.StopClient():
            from tapbridge.linux.clients import stop_client

            stop_client(step.client)
        case steps.StartClient():
            from tapbridge.linux.clients import start_client

            start_client(step.client)
        case steps.PauseClient():
            from tapbridge.linux.pause import pause_client

            pause_client(step.client)
        case steps.ResumeClient():
            from tapbridge.linux.pause import resume_client

            resume_client(step.client)
        case steps.ReloadClient():
            from tapbridge.linux.networkd import read_anew

            read_anew(step.client)
        case steps.AwaitClient():
            from tapbridge.linux.networkd import await_networkd

            await_networkd(channel, step)
        case steps.WriteFile():
            from tapbridge.linux.files import write_file

            write_file(step.path, step.content, step.mode, step.owner)
        case steps.WriteLinkFile():
            from tapbridge.linux.files import write_file

            write_file(f"{step.folder}/{_link(channel, step.link).index}", step.content)
        case steps.StopUnit():
            from tapbridge.linux.systemd import stop_or_kill

            stop_or_kill(step.unit)
        case steps.StartUnit():
            from tapbridge.linux.units import start_unit

            start_unit(step)
        case _:
            raise TypeError(f"{type(step).__name__} is no step that a host can perform")


def _link(channel: Channel, name: str) -> Link:
    link = find_link(channel, name)
    if link is None:
        raise OSError(errno.ENODEV, f"there is no link '{name}'")
    return link


def _await(channel: Channel, step: steps.Await) -> None:
    def missing() -> str:
        operstate = _link(channel, step.link).operstate
        return "" if operstate == "up" else f"its operstate is '{operstate}'"

    _until_nothing(missing, uapi.RTMGRP_LINK, step.limit_s)


def _await_local(channel: Channel, step: steps.AwaitLocal) -> None:
    index = _link(channel, step.link).index

    def missing() -> str:
        there = find_local_v6(channel, index)
        return ", ".join(f"{ip} is not in use" for ip in step.ips if ip not in there)

    _until_nothing(missing, uapi.RTMGRP_IPV6_ROUTE, step.limit_s)


def _until_nothing(missing: Callable[[], str], groups: int, limit_s: float) -> None:
    """Look again at each of the kernel's notifications until nothing is missing; a question that the kernel does not
    answer is asked again likewise. Raises OSError at the limit, and where the link is gone."""
    from select import POLLIN, poll

    def still_missing() -> str:
        try:
            return missing()
        except OSError as error:
            if error.errno == errno.ENODEV:
                raise
            return f"what is to be awaited cannot be read ({error.strerror})"

    if not still_missing():
        return
    deadline = time.monotonic() + limit_s
    with closing(Channel(groups=groups)) as news:  # before the next look, so that no change is missed
        waiting = poll()
        waiting.register(news.socket, POLLIN)
        while what := still_missing():
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not waiting.poll(left_s * 1000):
                raise OSError(errno.ETIMEDOUT, f"{what} after {limit_s:g} s")
            news.skip()
