"""Command lines as launchers write them."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapbridge.guests.cmdline import Launch, Netdev, parse_launch
from tapbridge.model.noun import replace

MAC = "52:54:00:aa:bb:01"
DEFAULT = "52:54:00:12:34:56"


def qemu(line: str) -> Launch:
    return parse_launch(shlex.split(f"qemu-system-x86_64 {line}"), "qemu-system-x86_64")


def said(**fields: object) -> Netdev:
    return Netdev(mac_source="command-line", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("line", "netdev"),
    [
        (f"-netdev tap,id=n0,ifname=tap7 -device e1000,netdev=n0,mac={MAC}", said(ifname="tap7", mac=MAC)),
        (f"-device e1000,mac={MAC},netdev=n0 -netdev type=tap,id=n0,fd=9", said(fds=(9,), mac=MAC)),
        (f"--netdev tap,id=n0,fds=9:11:12 --device e1000,netdev=n0,mac={MAC}", said(fds=(9, 11, 12), mac=MAC)),
        (f"-netdev bridge,id=n0,br=br0 -device e1000,netdev=n0,mac={MAC.upper()}", said(mac=MAC)),
        (f"-nic tap,ifname=tap7,mac={MAC},model=e1000", said(ifname="tap7", mac=MAC)),
        (f"-net nic,macaddr={MAC} -net tap,ifname=tap7,script=no", said(ifname="tap7", mac=MAC)),
        (f"-netdev tap,id=n0,ifname=tap7 -net nic,netdev=n0,macaddr={MAC}", said(ifname="tap7", mac=MAC)),
        ("-netdev tap,id=n0,ifname=tap7 -device e1000,netdev=other,mac=" + MAC, Netdev(ifname="tap7")),
        ("-netdev tap,id=n0,ifname=tap7 -device e1000,netdev=n0,mac=nonsense -nic user", Netdev(ifname="tap7")),
    ],
)
def test_qemu_says_which_mac_is_behind_which_tap(line: str, netdev: Netdev) -> None:
    assert qemu(line).netdevs == (replace(netdev, id="n0" if "id=n0" in line else None),)


@pytest.mark.parametrize(
    "line",
    [
        "-netdev tap,id=n0,ifname=tap7 -device e1000,netdev=n0",
        "-nic tap,ifname=tap7",
        "-net nic -net tap,ifname=tap7",
    ],
)
def test_an_only_card_without_a_mac_has_qemu_s_own(line: str) -> None:
    (netdev,) = qemu(line).netdevs
    assert (netdev.ifname, netdev.mac, netdev.mac_source) == ("tap7", DEFAULT, "qemu-default")


def test_which_of_two_cards_has_which_of_qemu_s_macs_is_not_guessed() -> None:
    launch = qemu("-nic tap,ifname=a -nic tap,ifname=b")
    assert [netdev.mac for netdev in launch.netdevs] == [None, None]


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("-name web", "web"),
        ("-name guest=web,debug-threads=on", "web"),
        ("-name web,process=other", "web"),
        ("-name 'a,,b c'", "a,b c"),
        ("-name one -name guest=two", "two"),
        ("-S -m 64", None),
    ],
)
def test_qemu_s_guest_has_the_name_that_qemu_takes(line: str, name: str | None) -> None:
    assert qemu(line).name == name


def test_the_command_line_of_libvirt_is_understood() -> None:
    argv = [
        "/usr/bin/qemu-system-x86_64",
        *("-name", "guest=debian12,debug-threads=on"),
        *("-machine", "pc-q35-7.2,usb=off,dump-guest-core=off,memory-backend=pc.ram"),
        *("-netdev", '{"type":"tap","fd":"31","vhost":true,"vhostfd":"34","id":"hostnet0"}'),
        *("-device", f'{{"driver":"virtio-net-pci","netdev":"hostnet0","id":"net0","mac":"{MAC}","bus":"pci.1"}}'),
        *("-netdev", "tap,fds=35:36,id=hostnet1,vhost=on,vhostfds=37:38"),
        *("-device", "virtio-net-pci,mq=on,vectors=6,netdev=hostnet1,id=net1,mac=52:54:00:aa:bb:02,bus=pci.2"),
    ]
    assert parse_launch(argv, "qemu-system-x86_64") == Launch(
        hypervisor="qemu",
        name="debian12",
        netdevs=(
            said(id="hostnet0", fds=(31,), mac=MAC),
            said(id="hostnet1", fds=(35, 36), mac="52:54:00:aa:bb:02"),
        ),
    )


def test_other_hypervisors_say_what_they_say() -> None:
    line = ["firecracker", "--id", "fc-1", "--config-file", "vm.json"]
    assert parse_launch(line, "firecracker") == Launch(hypervisor="firecracker", name="fc-1")
    line = ["cloud-hypervisor", "--net", f"tap=tap1,mac={MAC}", "fd=[3,4],num_queues=4", "--cpus", "boot=2"]
    assert parse_launch(line, "cloud-hypervisor") == Launch(
        hypervisor="cloud-hypervisor", netdevs=(said(ifname="tap1", mac=MAC), Netdev(fds=(3, 4)))
    )
    line = ["crosvm", "run", "--name", "c1", "--net", f"tap-name=tap1,mac={MAC}", "--tap-fd", "7", "kernel"]
    assert parse_launch(line, "crosvm") == Launch(
        hypervisor="crosvm", name="c1", netdevs=(said(ifname="tap1", mac=MAC), Netdev(fds=(7,)))
    )
    assert parse_launch(["openvpn", "--dev", "tap0"], "openvpn") == Launch(hypervisor="other")


@pytest.mark.parametrize(
    ("program", "hypervisor"),
    [
        ("qemu-system-aarch64", "qemu"),
        (".qemu-system-x86_64-wrapped", "qemu"),
        ("qemu-kvm", "qemu"),
        ("kvm", "qemu"),
        ("firecracker-v1.7.0-x86_64", "firecracker"),
        ("cloud-hypervisor-static", "cloud-hypervisor"),
        ("qemu-img", "other"),
        ("firecrackers", "other"),
    ],
)
def test_a_hypervisor_has_many_names(program: str, hypervisor: str) -> None:
    assert parse_launch((), program).hypervisor == hypervisor


_word = st.text(max_size=20) | st.sampled_from(
    [
        "-netdev",
        "-device",
        "-nic",
        "-net",
        "-name",
        "--net",
        "tap,id=a,fd=3",
        "e1000,netdev=a",
        '{"id":',
        '{"id":[]}',
        "[]",
    ]
)


@given(st.lists(_word, max_size=8), st.sampled_from(["qemu-kvm", "firecracker", "crosvm", "cloud-hypervisor"]))
def test_no_command_line_upsets_the_parser(words: list[str], program: str) -> None:
    assert parse_launch(words, program).hypervisor == parse_launch((), program).hypervisor


def test_json_that_nests_without_end_is_passed_over() -> None:
    words = ["qemu-system-x86_64", "-netdev", '{"a":' * 100_000]
    assert parse_launch(words, words[0]).netdevs == ()
