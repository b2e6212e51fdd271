"""Names as launchers give them where the hypervisor was not told one."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapbridge.guests.cmdline import parse_launch
from tapbridge.guests.names import find_name

VAULT = "/var/snap/multipass/common/data/multipassd/vault/instances"


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (  # Proxmox VE 8
            (
                "/usr/bin/kvm -id 101 -name web,debug-threads=on -no-shutdown "
                "-chardev socket,id=qmp,path=/run/101.qmp,server=on,wait=off -mon chardev=qmp,mode=control "
                "-netdev type=tap,id=net0,ifname=tap101i0,script=/usr/libexec/qemu-server/pve-bridge,vhost=on"
            ),
            "web",
        ),
        (  # Incus 6
            (
                "/opt/incus/bin/qemu-system-x86_64 -S -name web -uuid 1b9c -daemonize -nographic -nodefaults "
                "-readconfig /run/incus/web/qemu.conf -pidfile /run/incus/web/qemu.pid"
            ),
            "web",
        ),
        ("qemu-system-x86_64 -name ubuntu-22.04,process=ubuntu-22.04 -nic user", "ubuntu-22.04"),  # quickemu
        ("/usr/bin/qemu-system-x86_64 -name guest=web,debug-threads=on -S", "web"),  # libvirt
        ("/usr/bin/qemu-system-x86_64 -name sandbox-7a1f,debug-threads=on", "sandbox-7a1f"),  # Kata
        ("/firecracker --id=web --start-time-us 1 --api-sock /run/firecracker.socket", "web"),  # the jailer
        ("crosvm run --name web -s /run/crosvm.sock", "web"),
    ],
)
def test_most_launchers_tell_the_hypervisor(line: str, name: str) -> None:
    argv = shlex.split(line)
    program = argv[0].rpartition("/")[2]
    assert parse_launch(argv, program).name == name


@pytest.mark.parametrize(
    ("hypervisor", "line", "name"),
    [
        ("qemu", "/usr/bin/kvm -id 101 -no-shutdown", "101"),
        (  # multipass 1.13
            "qemu",
            (
                f"qemu-system-x86_64 --enable-kvm -nic tap,ifname=tap-4b63de,script=no,mac=52:54:00:cb:d6:a6 "
                f"-drive file={VAULT}/primary/ubuntu-22.04.img,if=none,format=qcow2,id=hda -qmp stdio "
                f"-cdrom {VAULT}/primary/cloud-init-config.iso"
            ),
            "primary",
        ),
        ("firecracker", "firecracker --api-sock /run/fc/web.socket", "web"),
        ("firecracker", "firecracker --no-api --config-file=/etc/vms/web.json", "web"),
        ("firecracker", "firecracker --api-sock /run/vc/firecracker/7a1f/root/run/firecracker.socket", None),
        ("cloud-hypervisor", "cloud-hypervisor --api-socket path=/run/vms/web/api.sock --net tap=t0", "web"),
        ("cloud-hypervisor", "cloud-hypervisor --api-socket /run/vc/vm/7a1f/clh-api.sock", "7a1f"),  # Kata
        ("cloud-hypervisor", "cloud-hypervisor --api-socket /run/libvirt/ch/web-socket", "web"),
        ("cloud-hypervisor", "cloud-hypervisor --api-socket /tmp/cloud-hypervisor.sock", None),
        ("cloud-hypervisor", "cloud-hypervisor --api-socket fd=23", None),
        ("crosvm", "crosvm run -s /run/crosvm/web.sock --net tap-name=t0", "web"),
        ("qemu", "qemu-system-x86_64 -s disk.img", None),  # -s is gdb's here
        ("other", "openvpn -id 7", None),
    ],
)
def test_a_command_line_tells_otherwise(hypervisor: str, line: str, name: str | None) -> None:
    assert find_name(hypervisor, shlex.split(line), "0::/user.slice/user-1000.slice/session-3.scope\n") == name


@pytest.mark.parametrize(
    ("group", "name"),
    [
        ("/machine.slice/machine-qemu\\x2d3\\x2dweb\\x2d1.scope", "web-1"),
        ("/machine.slice/machine-ch\\x2d3\\x2dweb.scope", "web"),
        ("/machine.slice/machine-web.scope", "web"),
        ("/machine/qemu-3-web.libvirt-qemu", "web"),
        ("/system.slice/system-microvm.slice/microvm@web\\x2d1.service", "web-1"),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/vte.scope", None),
        ("/system.slice/libvirtd.service", None),
        ("/", None),
        ("", None),
    ],
)
def test_a_control_group_tells(group: str, name: str | None) -> None:
    assert find_name("qemu", ("qemu-system-x86_64",), f"12:pids:/\n0::{group}\n") == name


@given(st.sampled_from(("qemu", "firecracker", "crosvm")), st.lists(st.text(max_size=40), max_size=8), st.text())
def test_no_text_stops_the_search(hypervisor: str, argv: list[str], cgroup: str) -> None:
    found = find_name(hypervisor, argv, cgroup)
    assert found is None or found != ""
