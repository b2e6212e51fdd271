"""One exam for two hosts: the same steps on the model and on the kernel must lead to the same state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from kit.command import run
from kit.everything import keep_quiet
from kit.netns import in_netns
from tapbridge.core.compare import comparable, differences
from tapbridge.linux.host import LinuxHost
from tapbridge.model.noun import fields, replace
from tapbridge.model.port import Port
from tapbridge.model.state import State
from tapbridge.model.step import Step
from tapbridge.modelhost.host import ModelHost

WORLD = """
link add nic0 address 02:00:00:00:00:01 type veth peer name far0 address 02:00:00:00:00:02
link add nic1 address 02:00:00:00:01:01 type veth peer name far1 address 02:00:00:00:01:02
link set far0 up
link set far1 up
link set nic0 up
link set nic1 up
address add 10.0.0.1/24 brd 10.0.0.255 dev nic0
address add 10.0.0.2/24 dev nic0 label nic0:two
address add 10.9.0.1/16 dev nic0 noprefixroute valid_lft 3600 preferred_lft 1800
address add 10.1.0.1/24 dev nic1
address add fd00::1/64 dev nic0 nodad
address add fd00::2/64 dev nic0 nodad valid_lft 3600 preferred_lft 1800
address add fe80::1/64 dev nic0 nodad
address add fd01::1/64 dev nic1 nodad
route add default via 10.0.0.254 dev nic0 proto dhcp metric 100
route add 172.16.0.0/12 via 10.0.0.253 dev nic0
route add ::/0 via fe80::ff dev nic0 metric 512
neigh add 10.0.0.254 lladdr 02:00:00:00:00:fe dev nic0 nud permanent
neigh add 10.1.0.254 lladdr 02:00:00:00:01:fe dev nic1 nud permanent
neigh add proxy 10.1.0.253 dev nic1
"""

ODD_PORT = Port(priority=40, **{one.name: not one.default for one in fields(Port) if isinstance(one.default, bool)})
"""A port with every flag the other way round."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A kernel and a model of it that were once the same."""

    kernel: LinuxHost
    model: ModelHost

    def perform(self, *steps: Step) -> None:
        """Perform on both."""
        self.kernel.perform(steps)
        self.model.perform(steps)

    def assert_same(self, after: object) -> None:
        """Raises AssertionError with what only one of the two has."""
        seen = comparable(self.kernel.observe())
        foretold = comparable(_with_random_macs(self.model.observe(), seen))
        told = differences(foretold, seen, tuple({link.name for link in (*seen.links, *foretold.links)}))
        assert not told, f"after {after}:\n" + "\n".join(told)
        for part in ("links", "addresses", "routes", "rules", "neighbours", "sysctls"):
            assert getattr(seen, part) == getattr(foretold, part), f"{part} after {after}"


def _with_random_macs(foretold: State, seen: State) -> State:
    """A link that is made without an address gets one by chance."""
    by_chance = {link.name: link.mac for link in seen.links}
    links = tuple(replace(x, mac=by_chance.get(x.name)) if x.mac is None else x for x in foretold.links)
    return replace(foretold, links=links)


@contextmanager
def pair_of(script: str = WORLD) -> Iterator[Pair]:
    """A namespace laid out by `ip -batch`, in which the kernel makes no IPv6 address by itself, and a model of it."""
    with in_netns():
        keep_quiet()
        run("ip", "-batch", "-", stdin=script)
        with LinuxHost() as kernel:
            for link in kernel.observe().links:
                if link.kind == "veth":
                    await_up(kernel, link.name)
            yield Pair(kernel, ModelHost(kernel.observe()))


def await_up(host: LinuxHost, name: str) -> None:
    """Wait until a link's operstate is up."""
    from tapbridge.model.step import Await
    from tapbridge.model.values import IfName

    host.perform([Await(link=IfName(name), limit_s=5)])
