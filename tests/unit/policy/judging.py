"""The manifest check on one document, as its tests ask it."""

from __future__ import annotations

from typing import Any

from tests.unit.policy.manifest_cases import good, manifest_policy

from obi_mcp.policy.manifest import Mode
from obi_mcp.policy.model import Document, Violation
from obi_mcp.policy.scope import Scope

SCOPE = Scope()


def judged(body: dict[str, Any], scope: Scope = SCOPE, mode: Mode = Mode.SUBMITTED) -> tuple[Violation, ...]:
    """The violations of one object, in a batch with the complete set."""
    document = Document(0, body)
    batch = (document, *(other for other in good("complete") if other.kind != document.kind))
    return manifest_policy().judge(document, scope=scope, batch=batch, mode=mode).violations


def found(violations: tuple[Violation, ...]) -> list[tuple[str, str]]:
    """Rule and path of each, in their order."""
    return [(violation.rule, violation.path) for violation in violations]
