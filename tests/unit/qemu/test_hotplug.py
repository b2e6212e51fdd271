"""Where a running QEMU is spoken to, and what it is told."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from tapbridge.model.errors import Refused, UsageError
from tapbridge.model.values import Mac
from tapbridge.qemu.argv import parse_command
from tapbridge.qemu.cards import Fittings, choose_port, device_arguments, netdev_arguments, require_bus
from tapbridge.qemu.machine import Model, choose_model, machine_of, parse_model
from tapbridge.qemu.monitor import find_sockets, has_monitor
from tapbridge.qemu.nics import Nic, TapDescriptors, UserMode

MAC = Mac("52:54:00:ab:cd:ef")
TYPES = {"mq": "bool", "vectors": "uint32", "host_mtu": "uint16", "mac": "str", "bootindex": "int32", "addr": "int32"}


def nic(model: str = "virtio-net-pci", **more: Any) -> Nic:
    return Nic(id="tbtap0", backend=TapDescriptors(taps=(5,)), model=parse_model(model), mac=MAC, **more)


@pytest.mark.parametrize(
    ("words", "sockets", "any_monitor"),
    [
        ("-qmp unix:/run/q,server=on,wait=off", ("/run/q",), True),
        ("--qmp unix:/run/q,server,nowait", ("/run/q",), True),
        ("-qmp-pretty unix:/run/a,,b,server", ("/run/a,b",), True),
        ("-chardev socket,id=c,path=q,server=on -mon chardev=c,mode=control", ("q",), True),
        ("-chardev socket,id=c,path=q,server=on -mon c,mode=control", ("q",), True),
        ("-chardev socket,id=c,path=q,server=on -qmp chardev:c", ("q",), True),
        ("-qmp unix:/a,server -qmp unix:/b,server", ("/a", "/b"), True),
        ("-chardev socket,id=c,path=q,server=on -mon chardev=c", (), False),  # for humans
        ("-qmp unix:/run/q", (), True),  # QEMU connects to somebody
        ("-chardev socket,id=c,fd=30,server=on -mon chardev=c,mode=control", (), True),  # libvirt
        ("-qmp tcp:localhost:4444,server", (), True),  # takes no open files
        ("-qmp stdio -monitor unix:/run/m,server", (), True),
        ("-monitor unix:/run/m,server", (), False),
        ("", (), False),
    ],
)
def test_the_monitor_is_found_where_qemu_waits(words: str, sockets: tuple[str, ...], any_monitor: bool) -> None:
    line = parse_command(["qemu-system-x86_64", *shlex.split(words)])
    assert (find_sockets(line), has_monitor(line)) == (sockets, any_monitor)


def test_every_property_has_the_type_that_qemu_asks_for() -> None:
    told = device_arguments(nic("virtio-net-pci,bootindex=0x2,addr=3", queues=2, host_mtu=1400), TYPES, "rp1")
    assert told == {
        "driver": "virtio-net-pci", "netdev": "tbtap0", "id": "tbtap0-nic", "mac": MAC, "mq": True, "vectors": 6,
        "host_mtu": 1400, "bootindex": 2, "addr": "3", "bus": "rp1",
    }  # fmt: skip


def test_a_value_that_is_none_of_its_type_is_refused() -> None:
    with pytest.raises(UsageError, match="bootindex=first in --model is not a number"):
        device_arguments(nic("virtio-net-pci,bootindex=first"), TYPES, None)
    with pytest.raises(UsageError, match="rombar=maybe in --model is not on or off"):
        device_arguments(nic("virtio-net-pci,rombar=maybe"), {"rombar": "bool"}, None)


def test_the_open_files_go_by_the_tap_s_name() -> None:
    backend = TapDescriptors(taps=(5, 6), vhost=True, vhost_files=(7, 8))
    two = Nic(id="tbtap3", backend=backend, model=Model("virtio-net-pci"), mac=MAC, queues=2)
    assert netdev_arguments(two) == {
        "type": "tap", "id": "tbtap3", "vhost": True,
        "fds": "tbtap3:tbtap3-1", "vhostfds": "tbtap3-vhost0:tbtap3-vhost1",
    }  # fmt: skip
    user = Nic(id="tapbridge1", backend=UserMode(), model=Model("e1000"), mac=MAC)
    assert netdev_arguments(user) == {"type": "user", "id": "tapbridge1"}


@pytest.mark.parametrize(
    ("ports", "model", "port"),
    [
        ((), "virtio-net-pci", None),
        ((("rp1", False), ("rp2", True)), "virtio-net-pci", "rp2"),
        ((("rp1", True),), "virtio-net-pci,bus=rp9", None),
        ((("rp1", False),), "usb-net", None),
    ],
)
def test_a_card_goes_to_the_first_free_port(ports: tuple[tuple[str, bool], ...], model: str, port: str | None) -> None:
    fittings = Fittings(cards=(), ids=frozenset(), ports=ports)
    assert choose_port(parse_model(model), fittings, "web") == port


def test_without_a_free_port_nothing_is_tried() -> None:
    fittings = Fittings(cards=(), ids=frozenset(), ports=(("rp1", False),))
    with pytest.raises(Refused, match=r"'web' has no free PCIe port \(taken: rp1\)"):
        choose_port(Model("virtio-net-pci"), fittings, "web")


@pytest.mark.parametrize(
    ("line", "fits"),
    [
        ("qemu-system-x86_64", True),
        ("qemu-system-x86_64 -M microvm", False),
        ("qemu-system-x86_64 -M isapc", False),
        ("qemu-system-aarch64 -M virt", True),
        ("qemu-system-m68k -M virt", False),
        ("qemu-system-arm -M versatilepb", False),
        ("qemu-system-s390x", True),
    ],
)
def test_which_machine_takes_a_card_while_it_runs(line: str, fits: bool) -> None:
    machine = machine_of(parse_command(line.split()))
    model = choose_model(machine, None).name
    if fits:
        require_bus(machine, model)
        return
    with pytest.raises(Refused, match="takes a NIC only when it is started"):
        require_bus(machine, model)
