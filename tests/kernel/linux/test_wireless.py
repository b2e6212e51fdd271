"""Who keeps a wireless station in its network, found by its control socket; and a kernel that has no wireless cards."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

from tapbridge.linux.four_address import has_four_addresses
from tapbridge.linux.supplicant import find_supplicant, join_anew
from tapbridge.model.values import IfName

WLAN = IfName("wlan0")


@contextmanager
def supplicant(path: Path, pong: bytes = b"PONG\n") -> Iterator[list[bytes]]:
    """A control socket that answers; what it was told."""
    told: list[bytes] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as control:
        control.bind(str(path))

        def answer() -> None:
            while True:
                command, client = control.recvfrom(100)
                if command == b"":
                    return
                told.append(command)
                control.sendto(pong if command == b"PING" else b"OK\n", client)

        thread = Thread(target=answer)
        thread.start()
        try:
            yield told
        finally:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
                end.sendto(b"", str(path))
            thread.join()


def test_the_supplicant_of_a_link_is_found_and_told_to_join_its_network_anew(tmp_path: Path) -> None:
    assert (find_supplicant(WLAN), join_anew(WLAN)) == (None, False)
    with supplicant(tmp_path / "wlan0") as told, supplicant(tmp_path / "p2p-dev-wlan0") as other:
        assert find_supplicant(WLAN) == str(tmp_path / "wlan0")
        assert join_anew(WLAN)
        assert told == [b"PING", b"PING", b"REATTACH"]
        assert other == []
    assert find_supplicant(WLAN) is None


def test_whoever_answers_otherwise_or_is_not_root_s_is_no_supplicant(tmp_path: Path) -> None:
    with supplicant(tmp_path / "wlan0", pong=b"FAIL\n"):
        assert find_supplicant(WLAN) is None
    (tmp_path / "wlan0").unlink()
    with supplicant(tmp_path / "wlan0") as told:
        os.chown(tmp_path / "wlan0", 65534, 65534)
        assert find_supplicant(WLAN) is None
        assert told == []


def test_a_link_that_is_no_station_has_not_four_addresses() -> None:
    assert not has_four_addresses(1)
