"""A NIC that was configured before anything else ran, by the ipconfig of an initramfs and the word `ip=`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kit.changes import PROGRAM
from kit.command import run
from kit.handing import BRIDGE, NIC, ip_of

IPCONFIG = "/usr/lib/klibc/bin/ipconfig"
WITH_LINE = ("unshare", "--mount", "--propagation", "private", "sh", "-c", 'mount --bind "$0" /proc/cmdline; exec "$@"')

Tapbridge = Callable[..., dict[str, Any]]


@pytest.fixture
def boot(tmp_path: Path) -> Iterator[Callable[[str], Tapbridge]]:
    """Boots with that word on the command line; what it gives runs the program there."""
    folders = {"TAPBRIDGE_RUN_DIR": str(tmp_path / "run"), "TAPBRIDGE_STATE_DIR": str(tmp_path / "state")}
    line = tmp_path / "cmdline"

    def tapbridge(*words: str, code: int = 0) -> dict[str, Any]:
        done = run(*WITH_LINE, str(line), *PROGRAM, *words, "--json", env=folders, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    def booted(word: str) -> Tapbridge:
        line.write_text(f"root=/dev/vda1 ro {word} quiet\n")
        value = word.removeprefix("ip=")
        told = ("-d", value) if ":" in value else ("-c", value, "-d", "eth0")  # as initramfs-tools says it
        run(IPCONFIG, "-t", "10", *told, timeout_s=20)
        return tapbridge

    yield booted
    Path("/run/net-eth0.conf").unlink(missing_ok=True)


@pytest.mark.parametrize("word", ["ip=:::::eth0:dhcp", "ip=dhcp"])
def test_what_was_lent_goes_along_and_is_told(served: Any, boot: Callable[[str], Tapbridge], word: str) -> None:
    tapbridge = boot(word)
    address, mark = ip_of(NIC), len(served.log())
    assert address is not None
    up = tapbridge("up", "--yes")
    (told,) = (finding for finding in up["findings"] if finding["code"] == "lease-not-renewed")
    assert (told["severity"], told["evidence"]) == ("warning", [f"/proc/cmdline: {word}"])
    assert (ip_of(BRIDGE), ip_of(NIC)) == (address, None)
    (bridge,) = tapbridge("status")["bridges"]
    assert (bridge["owner"], bridge["lease"]) == (None, None)
    tapbridge("save", "--yes", code=3)
    down = tapbridge("down", "--yes")
    assert ip_of(NIC) == address
    assert "lease-not-renewed" not in {finding["code"] for finding in down["findings"]}
    assert not re.search("DHCP[A-Z]", served.log()[mark:]), "nobody asks for it"


def test_what_is_static_goes_along(lan: Any, boot: Callable[[str], Tapbridge]) -> None:
    tapbridge = boot("ip=192.0.2.7::192.0.2.1:255.255.255.0:host:eth0:off")
    route = run("ip", "-j", "route", "show", "default").stdout
    up = tapbridge("up", "--yes")
    assert (ip_of(BRIDGE), ip_of(NIC)) == ("192.0.2.7", None)
    assert [finding["code"] for finding in up["findings"] if finding["severity"] == "warning"] == []
    tapbridge("down", "--yes")
    assert (ip_of(NIC), run("ip", "-j", "route", "show", "default").stdout) == ("192.0.2.7", route)
