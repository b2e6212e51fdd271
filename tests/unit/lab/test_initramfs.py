"""The guest's file system, read back by cpio's own rules."""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path

import pytest

from tapbridge.lab.guest import Kernel, build_initramfs, encode_cpio, guest_argv, load_kernel
from tapbridge.model.errors import Refused


def decode_cpio(archive: bytes) -> dict[str, tuple[int, bytes]]:
    """Name → (mode, content) of an archive of format newc."""
    found: dict[str, tuple[int, bytes]] = {}
    at = 0
    while True:
        assert archive[at : at + 6] == b"070701"
        numbers = [int(archive[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        size, length = numbers[6], numbers[11]
        name = archive[at + 110 : at + 110 + length - 1].decode()
        start = (at + 110 + length + 3) // 4 * 4
        if name == "TRAILER!!!":
            return found
        found[name] = (numbers[1], archive[start : start + size])
        at = (start + size + 3) // 4 * 4


@pytest.mark.parametrize("size", range(6))
def test_entries_are_aligned_whatever_their_size(size: int) -> None:
    archive = encode_cpio(1, "x" * size + "y", b"z" * size, 0o100644) + encode_cpio(0, "TRAILER!!!", b"", 0)
    assert decode_cpio(archive) == {"x" * size + "y": (0o100644, b"z" * size)}


def test_modules_are_loaded_behind_those_that_they_need(tmp_path: Path) -> None:
    def module(name: str, *needs: str, compressed: bool = False) -> None:
        content = b"\x7fELF..\0license=GPL\0depends=" + ",".join(needs).encode() + b"\0name=" + name.encode() + b"\0"
        suffix = ".ko.xz" if compressed else ".ko"
        (tmp_path / f"{name}{suffix}").write_bytes(lzma.compress(content) if compressed else content)

    with pytest.raises(Refused, match="no kernel"):
        load_kernel(tmp_path)
    (tmp_path / "vmlinuz").touch()
    module("virtio_net", "virtio_ring", "net-failover", compressed=True)
    module("virtio_ring", "virtio")
    module("net_failover", "failover")
    module("failover")
    module("virtio")
    module("virtio_balloon", "virtio")
    names = [name for name, _ in load_kernel(tmp_path).modules]
    assert sorted(names) == ["failover", "net_failover", "virtio", "virtio_net", "virtio_ring"]
    assert names.index("virtio") < names.index("virtio_ring") < names.index("virtio_net") == 4
    assert names.index("failover") < names.index("net_failover")
    assert dict(load_kernel(tmp_path).modules)["virtio_net"].startswith(b"\x7fELF")


def test_the_archive_has_an_init_that_loads_what_is_in_it(tmp_path: Path) -> None:
    busybox = tmp_path / "busybox"
    busybox.write_bytes(b"\x7fELF busybox")
    kernel = Kernel(image=tmp_path / "vmlinuz", modules=(("virtio", b"1"), ("virtio_net", b"2")))
    files = decode_cpio(gzip.decompress(build_initramfs(kernel, busybox)))
    assert files["init"][0] == 0o100755
    assert files["init"][1].startswith(b"#!/bin/busybox sh\n")
    assert files["modules/order"][1] == b"virtio\nvirtio_net\n"
    assert files["modules/virtio_net"] == (0o100644, b"2")
    assert files["bin/busybox"] == (0o100755, b"\x7fELF busybox")
    assert build_initramfs(kernel, busybox) == build_initramfs(kernel, busybox)
    assert "tapbridge.limit=9" in guest_argv(kernel, tmp_path, limit_s=9)[-1]
