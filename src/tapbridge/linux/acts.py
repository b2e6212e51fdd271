"""Steps that are no message to the kernel's routing, one by one."""

from __future__ import annotations

import errno
import time
from contextlib import closing

from tapbridge.linux import uapi
from tapbridge.linux.channel import Channel
from tapbridge.linux.observe import find_link
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
        case steps.Shield():
            shields.put_up(_link(channel, step.link).index, _link(channel, step.to).index)
        case steps.Unshield():
            link = find_link(channel, step.link)
            if link is not None:
                shields.take_down(link.index)
        case steps.StopClient():
            from tapbridge.linux.clients import stop_client

            stop_client(step.client)
        case steps.StartClient():
            from tapbridge.linux.clients import start_client

            start_client(step.client)
        case steps.WriteFile():
            from tapbridge.linux.files import write_file

            write_file(step.path, step.content, step.mode)
        case steps.SetDns():
            from tapbridge.linux.resolved import set_dns

            set_dns(step.dns)
        case _:
            raise TypeError(f"{type(step).__name__} is no step that a host can perform")


def _link(channel: Channel, name: str) -> Link:
    link = find_link(channel, name)
    if link is None:
        raise OSError(errno.ENODEV, f"there is no link '{name}'")
    return link


def _await(channel: Channel, step: steps.Await) -> None:
    from select import POLLIN, poll

    if _link(channel, step.link).operstate == "up":
        return
    deadline = time.monotonic() + step.limit_s
    with closing(Channel(groups=uapi.RTMGRP_LINK)) as news:  # before the next look, so that no change is missed
        waiting = poll()
        waiting.register(news.socket, POLLIN)
        while (operstate := _link(channel, step.link).operstate) != "up":
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not waiting.poll(left_s * 1000):
                raise OSError(errno.ETIMEDOUT, f"its operstate is '{operstate}' after {step.limit_s:g} s")
            news.skip()
