"""What a check has to say: findings, and the verdict that they add up to."""

from __future__ import annotations

from enum import StrEnum

from tapbridge.model.noun import dataclass


class Severity(StrEnum):
    """How much a finding matters. An error refuses or fails; a warning asks; info only tells."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was found. `code` is kebab-case and stable; `fix` is a command or a sentence."""

    code: str
    severity: Severity
    subject: str
    message: str
    expected: str | None = None
    actual: str | None = None
    evidence: tuple[str, ...] = ()
    fix: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The findings of one examination."""

    findings: tuple[Finding, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing was found that is an error."""
        return all(finding.severity is not Severity.ERROR for finding in self.findings)
