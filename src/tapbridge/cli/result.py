"""What a command returns, and the one place that prints it.

Data goes to stdout, everything else to stderr; with --json there is exactly one JSON document on stdout, whatever
the exit code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

from tapbridge.model.errors import Exit, TapbridgeError
from tapbridge.model.noun import dataclass, field
from tapbridge.model.verdict import Finding, Severity

SCHEMA = 1
_OUTCOMES = {
    Exit.FAILED: "failed",
    Exit.USAGE: "refused",
    Exit.REFUSED: "refused",
    Exit.FORBIDDEN: "refused",
    Exit.STUCK: "stuck",
}
_WORDS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The end of a command: its exit code, its JSON document (without `schema`), and its text for a human."""

    exit: int = Exit.DONE
    document: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""
    findings: tuple[Finding, ...] = ()

    @property
    def reports(self) -> bool:
        """Whether the text tells how a change went, and is not itself what was asked for."""
        return self.document.get("outcome") not in (None, "planned")


def as_before(told: tuple[str, ...]) -> str:
    """How the host is after a way back; `told` are the sentences beside it that say what is not as it was."""
    return "the host is as before" + (", but for what is named here" if told else "")


def finding_json(finding: Finding) -> dict[str, Any]:
    """A finding as the contract's JSON."""
    return {
        "code": finding.code,
        "severity": finding.severity.value,
        "subject": finding.subject,
        "message": finding.message,
        "expected": finding.expected,
        "actual": finding.actual,
        "evidence": list(finding.evidence),
        "fix": finding.fix,
    }


def result_of(error: TapbridgeError) -> Result:
    """An error as a result: its finding, its exit code, nothing on stdout but JSON."""
    finding = Finding(
        code=error.code, severity=Severity.ERROR, subject=error.subject, message=error.message, fix=error.hint
    )
    return Result(exit=error.exit, document={"outcome": _OUTCOMES[error.exit], "steps": []}, findings=(finding,))


def escape(text: str) -> str:
    """A text that may hold a stranger's name, safe for a terminal: control characters as \\xNN."""
    return "".join(char if char.isprintable() or char == "\n" else f"\\x{ord(char):02x}" for char in text)


def finding_text(finding: Finding) -> str:
    """A finding as the user reads it: what is wrong, then what to do."""
    lines = [f"{_WORDS[finding.severity]}: {finding.message}"]
    lines += [f"  {line}" for line in finding.evidence]
    if finding.fix:
        lines += ["", f"hint: {finding.fix}"] if finding.severity is Severity.ERROR else [f"  hint: {finding.fix}"]
    return escape("\n".join(lines))


def print_result(result: Result, *, as_json: bool, quiet: bool, stdout: IO[str], stderr: IO[str]) -> None:
    """Print a result, once. BrokenPipeError is the caller's."""
    if as_json:
        import json

        document = {"schema": SCHEMA, **result.document}
        document["findings"] = [finding_json(finding) for finding in result.findings]
        print(json.dumps(document), file=stdout)  # ASCII: a stranger's name may hold anything
    elif result.text and not (quiet and result.reports):
        print(result.text, file=stdout)
    for finding in result.findings:
        if finding.severity is Severity.ERROR or not quiet:
            print(finding_text(finding), file=stderr)
