"""NICs that a command line makes by itself are seen, and said again in our own words."""

from __future__ import annotations

import shlex

import pytest

from tapbridge.qemu.argv import CommandLine, parse_command, parse_config
from tapbridge.qemu.found import find_nics, refuse_nics, suggest_options, wants_none


def line(text: str) -> CommandLine:
    return parse_command(["qemu-system-x86_64", *shlex.split(text)])


@pytest.mark.parametrize(
    "text",
    [
        "-nic user",
        "--nic tap,ifname=tap0,script=no",
        "-net nic -net user",
        "-net user",
        "-netdev user,id=n0",
        '-netdev \'{"type":"user","id":"n0"}\'',
        "-device virtio-net-pci,netdev=n0",
        "-device virtio-net-device",
        "-device driver=e1000",
        '-device \'{"driver":"rtl8139","netdev":"n0"}\'',
        "-device something-new,mac=52:54:00:00:00:01",
        "-device usb-net,netdev=n0",
        "-m 64 disk.img -nographic -nic user",
    ],
)
def test_a_nic_is_seen(text: str) -> None:
    assert find_nics(line(text))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-nodefaults",
        "-nic none",
        "-net none",
        "-device help",
        "-device virtio-net-pci,help",
        "-device e1000,?",
        "-netdev help",
        "-device virtio-blk-pci,drive=d",
        "-device vfio-pci,host=01:00.0",
        "-device rocker",
        "-append 'ip=dhcp -nic user'",
        "-append -nic -initrd user",
        "-name -netdev",
        "-chardev socket,id=c,path=/x",
        "-drive file=-netdev",
    ],
)
def test_what_is_no_nic_is_left_alone(text: str) -> None:
    assert not find_nics(line(text))


def test_nics_of_a_configuration_file_are_seen() -> None:
    text = '# disks\n[drive "d"]\n file = "x"\n\n[netdev "n0"]\n  type = "user"\n[device]\n  driver = "e1000"\n'
    found = find_nics(line("-readconfig vm.cfg"), parse_config(text))
    assert [nic.text for nic in found] == ['[netdev "n0"] of -readconfig', "[device] of -readconfig"]


def test_no_nic_at_all_is_a_wish_that_is_seen() -> None:
    assert wants_none(line("-nic none"))
    assert wants_none(line("-net none"))
    assert not wants_none(line("-nodefaults -append '-nic none'"))


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("-nic user", "--net user"),
        ("-nic user,model=e1000,mac=52:54:00:00:00:01", "--net user --model e1000 --mac 52:54:00:00:00:01"),
        ("-nic bridge,br=br7,model=virtio", "--net br7"),
        ("-netdev bridge,id=n -device rtl8139,netdev=n,mac=52:54:00:00:00:02",
         "--net br0 --model rtl8139 --mac 52:54:00:00:00:02"),
        ("-net nic,model=ne2k_pci,macaddr=52:54:00:00:00:03 -net user",
         "--net user --model ne2k_pci --mac 52:54:00:00:00:03"),
        ("-netdev tap,id=t,ifname=tap0", "--net BRIDGE"),
        ("-netdev user,id=a -netdev bridge,br=br1,id=b -device virtio-net-pci,netdev=b -device e1000e,netdev=a",
         "--net user --model e1000e --net br1"),
    ],
)  # fmt: skip
def test_the_same_is_said_in_our_own_words(text: str, options: str) -> None:
    assert " ".join(suggest_options(find_nics(line(text)))) == options


def test_the_refusal_names_the_arguments_and_the_way_out() -> None:
    refusal = refuse_nics(find_nics(line("-nic user,hostfwd=tcp::2222-:22")))
    assert "-nic user,hostfwd=tcp::2222-:22" in refusal.message
    assert refusal.hint is not None
    assert "--net user" in refusal.hint
    assert "--keep-nics" in refusal.hint
