"""What we believe of QEMU is what the QEMU of this machine does."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest

from kit.command import run
from tapbridge.model.errors import Refused
from tapbridge.model.values import Mac
from tapbridge.qemu.argv import BARE, VALUED, parse_command
from tapbridge.qemu.machine import Model, choose_model, machine_of, virtio_of
from tapbridge.qemu.nics import Nic, UserMode, nic_words

QEMU = "qemu-system-x86_64"
MAC = Mac("52:54:00:ab:cd:ef")

pytestmark = pytest.mark.skipif(shutil.which(QEMU) is None, reason=f"there is no {QEMU}")


def test_qemu_takes_a_word_where_we_believe_it_and_none_elsewhere() -> None:
    known = {name: (f"-{name}", "-is-a-value") for name in VALUED} | {name: (f"-{name}",) for name in BARE}
    end = "-there-is-no-such-option"
    while known:
        # QEMU looks at all words before it acts on any; this never gets past the looking
        words = [word for pair in known.values() for word in pair]
        said = run(QEMU, *words, end, check=False).stderr
        found = re.search(r": (-.+): invalid option", said)
        assert found, said
        if found[1] == end:
            break
        assert found[1].removeprefix("-") in known, f"{found[1]} was taken for an option"
        del known[found[1].removeprefix("-")]
    assert len(known) > 100  # Debian 13 has 117


def test_every_option_that_qemu_tells_of_is_known() -> None:
    told = re.findall(r"^--?([A-Za-z0-9_-]+)", run(QEMU, "-help").stdout, re.MULTILINE)
    assert len(told) > 100
    assert set(told) <= VALUED | BARE


def network_of(*words: str, qemu: str = QEMU) -> str:
    """What QEMU's monitor says of the network of a guest that is never started."""
    orders = (
        {"execute": "qmp_capabilities"},
        {"execute": "human-monitor-command", "arguments": {"command-line": "info network"}},
        {"execute": "quit"},
    )
    done = subprocess.run(
        [qemu, "-accel", "tcg", "-m", "32", "-display", "none", "-S", "-qmp", "stdio", *words],
        input="".join(json.dumps(order) for order in orders),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    texts = [answer["return"] for answer in answers if isinstance(answer.get("return"), str)]
    assert texts, done.stdout + done.stderr
    return str(texts[0])


@pytest.mark.parametrize("model", [None, "old", "ne2k"])
@pytest.mark.parametrize(
    ("qemu", "machine"),
    [
        *((QEMU, machine) for machine in ("pc", "q35", "isapc", "microvm", "microvm,pcie=on")),
        ("qemu-system-arm", "virt"),
        ("qemu-system-aarch64", "virt"),
        ("qemu-system-riscv64", "virt"),
        ("qemu-system-m68k", "virt"),
        ("qemu-system-s390x", "s390-ccw-virtio"),
    ],
)
def test_the_machine_takes_the_card_that_we_choose(qemu: str, machine: str, model: str | None) -> None:
    if shutil.which(qemu) is None:
        pytest.skip(f"there is no {qemu}")
    place = machine_of(parse_command([qemu, "-M", machine]))
    if model is not None and not (virtio_of(place) or "ne2k_isa").endswith(("-pci", "_isa")):
        with pytest.raises(Refused, match="no bus for a card as old"):
            choose_model(place, model)
        return
    chosen = choose_model(place, model)
    words = nic_words(Nic(id="tapbridge0", backend=UserMode(), model=chosen, mac=MAC))
    said = network_of("-M", machine, *words, qemu=qemu)
    assert re.search(rf"tapbridge0-nic: .*model={chosen.name},macaddr={MAC}", said)


@pytest.mark.parametrize("extra", [(), ("-nic", "none"), ("-net", "none"), ("-nodefaults",)])
def test_qemu_makes_no_nic_beside_ours(extra: tuple[str, ...]) -> None:
    assert "macaddr=52:54:00:12:34:56" in network_of()
    words = nic_words(Nic(id="tapbridge0", backend=UserMode(), model=Model("virtio-net-pci"), mac=MAC, host_mtu=1400))
    assert re.findall(r"macaddr=(\S+)", network_of(*extra, *words)) == [MAC]


def test_the_card_on_a_board_gets_our_address() -> None:
    words = nic_words(Nic(id="tapbridge0", backend=UserMode(), model=Model("board"), mac=MAC))
    assert f"model=e1000,macaddr={MAC}" in network_of("-M", "pc", *words)
