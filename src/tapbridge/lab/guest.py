"""Real guests, made of Debian packages alone: a kernel for clouds and busybox, in an initramfs that is built here.

The guest loads the driver of its card, takes an IPv4 lease, makes its IPv6 addresses from router advertisements, and
tells on its serial console what it has; likewise for cards that are plugged in later. On the console it also takes
orders, one word or two on a line:

    ping ADDRESS    send one echo request and tell whether it was answered
    off             power off

Every line that it tells begins with MARK. It powers itself off when its time is over.
"""

from __future__ import annotations

import gzip
import lzma
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tapbridge.model.errors import Refused
from tapbridge.model.noun import dataclass

MARK: Final = "TAPBRIDGE-GUEST"
QEMU: Final = "qemu-system-x86_64"
BUSYBOX: Final = Path("/usr/bin/busybox"), Path("/bin/busybox")
_DRIVERS: Final = ("virtio_pci", "virtio_mmio", "virtio_net")
_BOOT: Final = "console=ttyS0 quiet panic=-1 mitigations=off nokaslr random.trust_cpu=on no_timer_check audit=0"
_INIT: Final = """\
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
limit=600
for word in $(cat /proc/cmdline); do
    case $word in tapbridge.limit=*) limit=${word#*=} ;; esac
done
(sleep $limit; poweroff -f) &
while read module; do insmod /modules/$module; done </modules/order
say() { echo "MARK $*"; }
say up
ip link set lo up
meet() {
    for card in $(cd /sys/class/net && ls -d eth* 2>/dev/null); do
        met=/met-$card-$(cat /sys/class/net/$card/ifindex)  # one that came back at once has another number
        [ ! -e $met ] || continue
        : >$met
        ip link set $card up
        udhcpc -b -S -t 8 -T 1 -A 2 -i $card -s /lease 2>/dev/null &
        (
            while sleep 1; do
                found=$(ip -6 addr show dev $card scope global | sed -n '/tentative/!s/^ *inet6 \\([^/]*\\).*/\\1/p')
                case $found in ?*) say address $card $found; break ;; esac
            done
        ) &
    done
}
meet
[ -e /sys/class/net/eth0 ] || say no card
(while sleep 1; do meet; done) &
while read order address; do
    case $order in
        ping)
            if ping -c 1 -W 2 $address >/dev/null 2>&1; then say answer $address; else say silence $address; fi ;;
        off) say off; poweroff -f ;;
    esac
done
sleep $limit
poweroff -f
"""
_LEASE: Final = """\
#!/bin/busybox sh
case $1 in
    bound | renew)
        ip addr replace $ip/$mask dev $interface
        [ -z "$mtu" ] || ip link set $interface mtu $mtu
        for gateway in $router; do ip route replace default via $gateway dev $interface; done
        echo "MARK lease $interface $ip via ${router:-nothing} from ${serverid:-nobody}" ;;
    leasefail) echo "MARK no lease $interface" ;;
esac
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """A kernel and the modules, uncompressed and in the order of loading, that its network card needs."""

    image: Path
    modules: tuple[tuple[str, bytes], ...]


def load_kernel(folder: Path) -> Kernel:
    """The kernel in the folder that script/guest-kernel fills. Raises Refused if it is not there."""
    image = folder / "vmlinuz"
    if not image.exists():
        raise Refused(f"there is no kernel for guests in {folder}", hint="script/guest-kernel", code="no-guest-kernel")
    found = {path.name.partition(".")[0].replace("-", "_"): path for path in folder.glob("*.ko*")}
    loaded: dict[str, bytes] = {}
    for driver in _DRIVERS:
        _load_module(driver, found, loaded)
    return Kernel(image=image, modules=tuple(loaded.items()))


def find_busybox() -> Path:
    """A statically linked busybox of this machine. Raises Refused."""
    for path in BUSYBOX:
        if path.exists() and b"/ld-linux" not in path.read_bytes()[:4096]:  # PT_INTERP stands right behind the headers
            return path
    raise Refused(
        "there is no statically linked busybox", hint="sudo apt-get install busybox-static", code="no-busybox"
    )


def build_initramfs(kernel: Kernel, busybox: Path) -> bytes:
    """The file system of the guest, a compressed cpio archive."""
    files = {
        "init": (_INIT.replace("MARK", MARK).encode(), 0o755),
        "lease": (_LEASE.replace("MARK", MARK).encode(), 0o755),
        "bin/busybox": (busybox.read_bytes(), 0o755),
        "modules/order": ("".join(f"{name}\n" for name, _ in kernel.modules).encode(), 0o644),
    }
    files |= {f"modules/{name}": (content, 0o644) for name, content in kernel.modules}
    archive = bytearray()
    for number, (name, content, mode) in enumerate(_entries(files), start=1):
        archive += encode_cpio(number, name, content, mode)
    archive += encode_cpio(0, "TRAILER!!!", b"", 0)
    return gzip.compress(bytes(archive), compresslevel=1, mtime=0)


def encode_cpio(inode: int, name: str, content: bytes, mode: int) -> bytes:
    """One entry of a cpio archive of format newc: Documentation/driver-api/early-userspace/buffer-format.rst."""
    path = name.encode() + b"\0"
    numbers = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(path), 0)
    entry = b"070701" + "".join(f"{number:08X}" for number in numbers).encode() + path
    entry += bytes(-len(entry) % 4) + content
    return entry + bytes(-len(entry) % 4)


def guest_argv(kernel: Kernel, initramfs: Path, *, memory_mib: int = 96, limit_s: int = 600) -> list[str]:
    """The command line of a guest without a card: add -netdev and -device, or give it to `tapbridge run`."""
    return [
        *(QEMU, "-accel", "tcg", "-m", str(memory_mib), "-nodefaults", "-no-user-config", "-no-reboot"),
        *("-display", "none", "-serial", "stdio", "-kernel", str(kernel.image), "-initrd", str(initramfs)),
        *("-append", f"{_BOOT} tapbridge.limit={limit_s}"),
    ]


def ipxe_argv(*, memory_mib: int = 32) -> list[str]:
    """The command line of the smallest guest there is: its card's boot ROM takes a lease and, finding no server, stops.

    It needs no kernel, holds its address only while it boots, and takes any card that QEMU has a ROM for.
    """
    return [
        *(QEMU, "-accel", "tcg", "-m", str(memory_mib), "-nodefaults", "-no-user-config", "-no-reboot"),
        *("-display", "none", "-serial", "stdio", "-boot", "n"),
    ]


def _entries(files: dict[str, tuple[bytes, int]]) -> Iterator[tuple[str, bytes, int]]:
    for folder in ("bin", "dev", "modules", "proc", "sys"):
        yield folder, b"", stat.S_IFDIR | 0o755
    for name, (content, mode) in files.items():
        yield name, content, stat.S_IFREG | mode


def _load_module(name: str, found: dict[str, Path], loaded: dict[str, bytes]) -> None:
    """Append a module behind those that it depends on. One that is not there is built into the kernel."""
    path = found.get(name)
    if path is None or name in loaded:
        return
    content = path.read_bytes()
    if path.suffix == ".xz":
        content = lzma.decompress(content)
    depends = re.search(rb"\0depends=([a-z0-9_,-]*)\0", content)  # a string of the section .modinfo
    for needed in depends[1].decode().split(",") if depends else ():
        _load_module(needed.replace("-", "_"), found, loaded)
    loaded[name] = content
