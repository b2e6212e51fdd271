"""`up` and `down` on the real kernel: what was planned happens, and the way back is exact."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from kit.command import run
from kit.lan import host_on_lan, ping
from tapbridge.cli.main import main
from tapbridge.core.adopt import adopt
from tapbridge.core.compare import comparable, differences
from tapbridge.core.release import release
from tapbridge.core.verify import verify
from tapbridge.linux.boot import boot_id
from tapbridge.linux.host import LinuxHost
from tapbridge.model.errors import HostError
from tapbridge.model.intent import Adopt, Release
from tapbridge.model.journal import Began
from tapbridge.model.plan import Plan
from tapbridge.model.state import State
from tapbridge.model.step import Step
from tapbridge.model.values import IfName
from tapbridge.model.verdict import Verdict
from tapbridge.transact.journal import Journal
from tapbridge.transact.transaction import Report, apply

NIC = IfName("eth0")
both_names = pytest.mark.parametrize("take_name", [False, True], ids=["br0", "take-name"])


class FailingHost(LinuxHost):
    """The real kernel, which refuses the batch of a certain number after having done what it says."""

    def __init__(self, fail_at: int, error: type[Exception] | None = None) -> None:
        super().__init__()
        self._batches, self._fail_at, self._error = 0, fail_at, error

    def perform(self, sequence: Sequence[Step]) -> None:
        """Carry the steps out, then fail once if it is this batch's turn."""
        super().perform(sequence)
        self._batches += 1
        if self._batches == self._fail_at:
            if self._error is not None:
                raise self._error("the test said no")
            raise HostError("the test said no", index=len(sequence) - 1, errno=5)


def _everywhere(*states: State) -> tuple[str, ...]:
    return tuple({link.name for state in states for link in state.links})


def _apply(plan: Plan, host: LinuxHost, folder: Path, intent: Adopt) -> Report:
    began = Began(
        id="1",
        command="up",
        boot_id=boot_id(),
        netns=host.cookie(),
        before=plan.before,
        after=plan.after,
        touched=plan.touched,
    )

    def check(state: State) -> Verdict:
        return verify(intent, state)

    return apply(plan, began, host, Journal(folder), (lambda _: Verdict(), check, check))


@both_names
def test_the_kernel_does_what_the_model_foretells(take_name: bool, tmp_path: Path) -> None:
    with host_on_lan(rich=True), LinuxHost() as host:
        before = host.observe()
        intent = Adopt(nic=NIC, take_name=take_name)
        up = adopt(intent, before)
        assert _apply(up, host, tmp_path, intent).outcome == "done"
        found = host.observe()
        assert differences(up.after, found, _everywhere(before, found, up.after)) == ()
        down = release(Release(bridge=NIC if take_name else intent.bridge), found)
        host.perform(down.steps)
        end = host.observe()
        assert differences(down.after, end, _everywhere(before, end)) == ()
        assert comparable(end) == comparable(before)


@both_names
def test_a_host_is_reached_under_the_bridge_and_after_it(take_name: bool, capsys: pytest.CaptureFixture[str]) -> None:
    addresses = ("192.0.2.2", "192.0.2.4", "2001:db8::2", "2001:db8::99")
    with host_on_lan(rich=True) as lan:
        assert main(["up", *(["--take-name"] if take_name else [])]) == 0
        assert all(ping(lan, address) for address in addresses)
        assert main(["up", *(["--take-name"] if take_name else [])]) == 0
        assert "nothing to do" in capsys.readouterr().out
        assert main(["down"]) == 0
        assert all(ping(lan, address) for address in addresses)
        assert main(["down"]) == 0


@both_names
def test_a_change_that_fails_at_any_batch_is_taken_back(take_name: bool, tmp_path: Path) -> None:
    failed = 0
    while True:
        failed += 1
        with host_on_lan(rich=True), FailingHost(failed) as host:
            before = host.observe()
            intent = Adopt(nic=NIC, take_name=take_name)
            report = _apply(adopt(intent, before), host, tmp_path, intent)
            if report.outcome == "done":
                break
            assert report.outcome == "rolled-back", report
            end = host.observe()
            assert differences(before, end, _everywhere(before, end)) == ()
            assert not (tmp_path / "journal").exists()
    assert failed > 8


def test_an_error_of_our_own_in_the_middle_leaves_the_host_as_it_was(tmp_path: Path) -> None:
    with host_on_lan(rich=True), FailingHost(8, ArithmeticError) as host:
        before = host.observe()
        intent = Adopt(nic=NIC)
        with pytest.raises(ArithmeticError):
            _apply(adopt(intent, before), host, tmp_path, intent)
        end = host.observe()
        assert differences(before, end, _everywhere(before, end)) == ()
        assert not (tmp_path / "journal").exists()


@both_names
def test_the_script_does_the_same_with_iproute2_alone(
    take_name: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "up.sh"
    with host_on_lan(rich=True), LinuxHost() as host:
        before = host.observe()
        assert main(["up", "--script", *(["--take-name"] if take_name else [])]) == 0
        script.write_text(capsys.readouterr().out)
        run("shellcheck", script)
        run("sh", script)
        found = host.observe()
        wanted = adopt(Adopt(nic=NIC, take_name=take_name), before).after
        assert differences(wanted, found, _everywhere(before, found, wanted)) == ()
        run("sh", script, "--undo")
        end = host.observe()
        assert differences(before, end, _everywhere(before, end)) == ()


def test_a_dry_run_and_a_script_change_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with host_on_lan(), LinuxHost() as host:
        before = host.observe()
        for words in (["up", "--dry-run"], ["up", "--script"], ["up", "--dry-run", "--json"]):
            assert main(words) == 0
            assert "br0" in capsys.readouterr().out
        assert comparable(host.observe()) == comparable(before)
