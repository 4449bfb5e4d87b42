"""A finding: something that is so, how it is known, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

_SHOWN = 300


class Severity(IntEnum):
    """How bad it is. Only errors make a verdict bad."""

    INFO = 0
    WARNING = 1
    ERROR = 2

    @property
    def label(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Finding:
    """``what`` is one sentence; ``evidence`` what was seen (untrusted text); ``next_step`` what to do."""

    id: str
    severity: Severity
    what: str
    evidence: str = ""
    next_step: str = ""

    def as_json(self) -> dict[str, str]:
        """Without what is empty."""
        parts = {
            "id": self.id,
            "severity": self.severity.label,
            "what": self.what,
            "evidence": self.evidence,
            "next_step": self.next_step,
        }
        return {name: text for name, text in parts.items() if text}


def worst_first(findings: list[Finding]) -> list[Finding]:
    """Errors, then warnings, then the rest; each in the order in which it was found."""
    return sorted(findings, key=lambda finding: -finding.severity)


def findings_text(findings: list[Finding]) -> list[str]:
    """Each as a line or two."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.severity.label}: {finding.what}")
        if finding.evidence:
            lines.append(f"  seen: {shown(finding.evidence)}")
        if finding.next_step:
            lines.append(f"  next: {finding.next_step}")
    return lines


def shown(evidence: str, most: int = _SHOWN) -> str:
    """Of what is long the beginning and the end, where programs say the cause last."""
    return evidence if len(evidence) <= most else f"{evidence[: most // 3]} … {evidence[-2 * most // 3 :]}"
