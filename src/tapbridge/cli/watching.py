"""`ps --watch`: what is printed again and again, in place on a terminal, until somebody ends it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tapbridge.cli.result import Result, finding_text, print_result
from tapbridge.draw.text import in_place
from tapbridge.model.noun import replace

if TYPE_CHECKING:
    from tapbridge.cli.world import World


class Screen:
    """Where one result is shown after the other: over its predecessor on a terminal, else below it, as a document a
    line or as columns with a blank line between. A finding is told when it is new."""

    def __init__(self, world: World, *, as_json: bool, quiet: bool) -> None:
        self._as_json = as_json
        self._quiet = quiet
        self._in_place = not as_json and sys.stdout.isatty() and world.environ.get("TERM") != "dumb"
        self._lines = 0
        self._told: list[str] = []

    def show(self, result: Result) -> None:
        """Show it, and what it is about. BrokenPipeError is the caller's."""
        if self._in_place:
            self._print(self._over(result), quiet=True)
            return
        first, self._lines = self._lines == 0, 1
        before, self._told = self._told, [finding.message for finding in result.findings]
        new = tuple(finding for finding in result.findings if finding.message not in before)
        if not self._as_json:
            result = replace(result, text=("" if first else "\n") + result.text, findings=new)
        self._print(result, quiet=self._quiet or not new)

    def _over(self, result: Result) -> Result:
        """The result on top of the one that stands there, its findings below it."""
        import shutil

        findings = () if self._quiet else result.findings
        said = "\n".join((result.text, *map(finding_text, findings)))
        text, self._lines = in_place(said, above=self._lines, rows=shutil.get_terminal_size().lines)
        return replace(result, text=text, findings=())

    def _print(self, result: Result, *, quiet: bool) -> None:
        print_result(result, as_json=self._as_json, quiet=quiet, stdout=sys.stdout, stderr=sys.stderr)
        sys.stdout.flush()
