"""The arguments that QEMU gets, and the card that fits a machine."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapbridge.core.mark import make_guest_mark
from tapbridge.core.topology import find_guest_name
from tapbridge.model.errors import Refused, UsageError
from tapbridge.model.intent import Guard
from tapbridge.model.state import Link, State
from tapbridge.model.step import (
    LimitRate,
    PutPortAddress,
    SetAddressGeneration,
    SetAlias,
    SetFilter,
    SetMaster,
    SetMtu,
    SetPort,
    SetUp,
)
from tapbridge.model.values import IfName, Mac
from tapbridge.qemu.argv import ids, parse_command
from tapbridge.qemu.machine import Model, choose_model, machine_of
from tapbridge.qemu.nics import (
    Nic,
    TapDescriptors,
    TapName,
    UserMode,
    attach_steps,
    check_card,
    choose_id,
    find_tap,
    nic_words,
    parse_guest,
)

MAC = Mac("52:54:00:ab:cd:ef")
VIRTIO = Model("virtio-net-pci")


def words(backend: TapDescriptors | TapName | UserMode, model: Model = VIRTIO, **more: int) -> str:
    return " ".join(nic_words(Nic(id="tapbridge0", backend=backend, model=model, mac=MAC, **more)))


def test_one_queue() -> None:
    assert words(TapDescriptors(taps=(3,))) == (
        "-netdev tap,id=tapbridge0,fds=3,vhost=off"
        f" -device virtio-net-pci,netdev=tapbridge0,id=tapbridge0-nic,mac={MAC}"
    )


def test_four_queues_with_vhost_and_large_frames() -> None:
    assert words(TapDescriptors(taps=(3, 4, 5, 6), vhost=True, vhost_files=(7, 8, 9, 10)), queues=4, host_mtu=9000) == (
        "-netdev tap,id=tapbridge0,fds=3:4:5:6,vhost=on,vhostfds=7:8:9:10"
        f" -device virtio-net-pci,netdev=tapbridge0,id=tapbridge0-nic,mac={MAC},mq=on,vectors=10,host_mtu=9000"
    )


def test_an_old_card_is_not_told_what_only_virtio_knows() -> None:
    assert words(TapDescriptors(taps=(3,)), Model("e1000"), host_mtu=9000) == (
        f"-netdev tap,id=tapbridge0,fds=3,vhost=off -device e1000,netdev=tapbridge0,id=tapbridge0-nic,mac={MAC}"
    )


def test_vectors_are_for_pci_only() -> None:
    assert "vectors" not in words(TapDescriptors(taps=(3, 4)), Model("virtio-net-device"), queues=2)
    assert "mq=on" in words(TapDescriptors(taps=(3, 4)), Model("virtio-net-device"), queues=2)


def test_the_card_on_a_board_is_one_argument() -> None:
    assert words(TapDescriptors(taps=(3,)), Model("board")) == (
        f"-nic tap,id=tapbridge0,fds=3,vhost=off,mac={MAC}"
    )  # fmt: skip


def test_a_tap_by_name() -> None:
    assert words(TapName(name=IfName("tap7")), queues=2).startswith(
        "-netdev tap,id=tapbridge0,ifname=tap7,script=no,downscript=no,queues=2,vhost=off -device"
    )


def test_user_mode_needs_no_tap() -> None:
    assert words(UserMode()).startswith("-netdev user,id=tapbridge0 -device virtio-net-pci,")


def test_properties_of_the_user_come_last() -> None:
    assert words(UserMode(), Model("e1000e", (("bus", "a,b"), ("bootindex", "1")))).endswith(",bus=a,,b,bootindex=1")


@given(st.lists(st.sampled_from([f"tapbridge{n}{x}" for n in range(3) for x in ("", "x", "-nic")]), max_size=9))
def test_our_ids_are_never_the_users(taken: list[str]) -> None:
    line = parse_command(["qemu-system-x86_64", *(word for name in taken for word in ("-device", f"x,id={name}"))])
    own: list[str] = []
    for number in range(3):
        chosen = choose_id(number, ids(line))
        nic = Nic(id=chosen, backend=UserMode(), model=VIRTIO, mac=MAC)
        own += ids(parse_command(["qemu-system-x86_64", *nic_words(nic)]))
    assert not set(own) & set(taken)
    assert len(own) == len(set(own)) == 6


@pytest.mark.parametrize(
    ("command", "model"),
    [
        ("qemu-system-x86_64", "virtio-net-pci"),
        ("qemu-system-x86_64 -M q35", "virtio-net-pci"),
        ("qemu-system-x86_64 -machine type=pc-i440fx-7.2,accel=tcg", "virtio-net-pci"),
        ("qemu-system-x86_64 -machine accel=tcg -M microvm,acpi=off", "virtio-net-device"),
        ("qemu-system-x86_64 -M microvm -machine pcie=on", "virtio-net-pci"),
        ("qemu-system-x86_64-microvm -nodefaults", "virtio-net-device"),
        ("qemu-system-i386 -M isapc", "ne2k_isa"),
        ("qemu-system-s390x", "virtio-net-ccw"),
        ("qemu-system-aarch64 -M virt", "virtio-net-pci"),
        ("qemu-system-aarch64 -M virt-9.0,gic-version=3", "virtio-net-pci"),
        ("qemu-system-aarch64 -M sbsa-ref", "virtio-net-pci"),
        ("qemu-system-aarch64 -M raspi3b", "usb-net"),
        ("qemu-system-xtensa -M virt", "virtio-net-pci"),
        ("qemu-system-loongarch64", "virtio-net-pci"),
        ("qemu-system-arm -M vexpress-a9", "board"),
        ("qemu-system-riscv64 -M virt", "virtio-net-pci"),
        ("qemu-system-riscv32 -M sifive_u", "board"),
        ("qemu-system-m68k -M virt", "virtio-net-device"),
        ("qemu-system-m68k -M q800", "board"),
        ("qemu-system-ppc64", "virtio-net-pci"),
        ("/usr/libexec/qemu-kvm -m 64", "virtio-net-ccw"),
        ("./start.sh -M microvm", "virtio-net-device"),
        ("./start.sh", "virtio-net-pci"),
    ],
)
def test_the_card_that_fits_a_machine(command: str, model: str) -> None:
    assert choose_model(machine_of(parse_command(shlex.split(command)), native="s390x"), None) == Model(model)


def test_the_users_choice_of_a_model_counts() -> None:
    pc, micro = (machine_of(parse_command(["qemu-system-x86_64", "-M", name])) for name in ("pc", "microvm"))
    assert choose_model(pc, "e1000") == Model("e1000")
    assert choose_model(micro, "virtio") == Model("virtio-net-device")
    assert choose_model(pc, "virtio,bootindex=1") == Model("virtio-net-pci", (("bootindex", "1"),))


@pytest.mark.parametrize(
    ("command", "old", "ne2k"),
    [
        ("qemu-system-x86_64", "rtl8139", "ne2k_pci"),
        ("qemu-system-i386 -M isapc", "ne2k_isa", "ne2k_isa"),
        ("qemu-system-x86_64 -M microvm -machine pcie=on", "rtl8139", "ne2k_pci"),
        ("qemu-system-aarch64 -M virt", "rtl8139", "ne2k_pci"),
        ("qemu-system-riscv64 -M virt", "rtl8139", "ne2k_pci"),
        ("qemu-system-x86_64 -M microvm", None, None),
        ("qemu-system-s390x", None, None),
        ("qemu-system-arm -M versatilepb", "board", None),
        ("qemu-system-aarch64 -M raspi3b", "usb-net", None),
        ("qemu-system-x86_64 -M none", None, None),
    ],
)
def test_a_guest_without_virtio_gets_a_card_that_the_machine_takes(
    command: str, old: str | None, ne2k: str | None
) -> None:
    machine = machine_of(parse_command(command.split()))
    for name, model in (("old", old), ("ne2k", ne2k)):
        if model is not None:
            assert choose_model(machine, f"{name},bootindex=1") == Model(model, (("bootindex", "1"),))
            continue
        with pytest.raises(Refused, match=r"no bus for a card as old|no place for a NIC"):
            choose_model(machine, name)


@pytest.mark.parametrize(
    "command", ["qemu-system-x86_64 -M none", "qemu-system-riscv64", "qemu-system-riscv32 -M spike"]
)
def test_a_machine_without_a_place_for_a_card_is_refused(command: str) -> None:
    with pytest.raises(Refused, match="no place for a NIC"):
        choose_model(machine_of(parse_command(command.split())), None)


@pytest.mark.parametrize("text", ["", "-e1000", "a b", "e1000,mac=52:54:00:00:00:01", "e1000,id=x", "{}", "e1000\n"])
def test_what_cannot_be_a_model_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        choose_model(machine_of(parse_command(["qemu-system-x86_64"])), text)


def test_only_virtio_on_a_tap_has_queues_and_vhost() -> None:
    check_card(VIRTIO, queues=8, vhost="on", user=False)
    check_card(Model("e1000"), queues=1, vhost="auto", user=True)
    for model, user in ((Model("e1000"), False), (VIRTIO, True)):
        with pytest.raises(Refused, match="one pair"):
            check_card(model, queues=2, vhost="auto", user=user)
        with pytest.raises(Refused, match="vhost"):
            check_card(model, queues=1, vhost="on", user=user)


def test_a_tap_has_the_bridges_mtu_and_no_address_of_the_host_before_it_is_a_port() -> None:
    tap = IfName("tbtap0")
    steps = attach_steps(tap, Link(name=IfName("br0"), kind="bridge", mtu=9000), "my web", ipv6=True)
    assert steps == (
        SetAlias(link=tap, alias="tapbridge guest=my web"),
        SetAddressGeneration(link=tap, mode=1),
        SetMtu(link=tap, mtu=9000),
        SetMaster(link=tap, master=IfName("br0")),
        SetUp(link=tap, up=True),
    )


def test_a_guest_is_held_back_before_its_tap_is_a_port() -> None:
    steps = attach_steps(IfName("tbtap0"), Link(name=IfName("br0"), kind="bridge"), "web", ipv6=False, rate=1_000_000)
    assert [type(step) for step in steps] == [SetAlias, LimitRate, SetMaster, SetUp]
    with pytest.raises(Refused, match="user mode knows no rate"):
        check_card(VIRTIO, queues=1, vhost="auto", user=True, rate=1_000_000)


def test_a_guard_stands_before_the_tap_is_a_port_and_its_address_before_it_is_up() -> None:
    mac = Mac("52:54:00:aa:00:01")
    bridge = Link(name=IfName("br0"), kind="bridge")
    steps = attach_steps(IfName("tbtap0"), bridge, "web", ipv6=False, guard=Guard(mac=mac))
    assert [type(step) for step in steps] == [SetAlias, SetFilter, SetMaster, SetPort, PutPortAddress, SetUp]
    assert steps[0] == SetAlias(link=IfName("tbtap0"), alias="tapbridge guard=mac guest=web")
    with pytest.raises(Refused, match="user mode needs no guard"):
        check_card(VIRTIO, queues=1, vhost="auto", user=True, guarded=True)


def test_a_kernel_without_ipv6_and_a_usual_mtu_need_fewer_steps() -> None:
    steps = attach_steps(IfName("tbtap0"), Link(name=IfName("br0"), kind="bridge"), "web", ipv6=False)
    assert [type(step) for step in steps] == [SetAlias, SetMaster, SetUp]


def test_a_running_guest_is_found_by_its_tap() -> None:
    tap = Link(name=IfName("tbtap0"), kind="tap", alias=make_guest_mark("my web"))
    assert find_guest_name(tap) == "my web"
    assert find_tap(State(links=(tap,)), "my web") is tap
    assert find_tap(State(links=(tap,)), "my") is None


@pytest.mark.parametrize("text", ["", " ", "a\nb", "\x1b[31m", "x" * 129, " a", "a "])
def test_what_cannot_be_a_guests_name_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_guest(text)
