"""A road whose commands change nothing, something or much, on a server that wants changes confirmed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from tests.unit.recorded_road import NARROWED, REFUSED, RecordedAudit, RecordedRoad

from obi_mcp.config import Settings
from obi_mcp.enforcer.model import Answer, Call, Progress
from obi_mcp.policy.model import Access, Decision
from obi_mcp.toolsets.base import Services

READ, WRITE, DELETE = "kubectl get pods", "kubectl apply -f -", "kubectl delete pod obi-1"
LEVELS = {READ: Access.READ_ONLY, WRITE: Access.NON_DESTRUCTIVE, DELETE: Access.FULL}
DECISIONS = {command: replace(NARROWED, access=level, checks=()) for command, level in LEVELS.items()}
DECISIONS["kubectl get secrets"] = REFUSED


@dataclass
class Road(RecordedRoad):
    """Knows what was run, not only asked about."""

    decisions: dict[str, Decision] = field(default_factory=lambda: dict(DECISIONS))
    ran: list[Call] = field(default_factory=list)

    async def run(self, call: Call, progress: Progress | None = None) -> Answer:
        self.ran.append(call)
        return await super().run(call, progress)


def settings(confirm: str, **more: Any) -> Settings:
    """Those of a server at ``full`` with that setting of ``confirm``."""
    return Settings(access=Access.FULL, confirm=confirm, **more)


def entries(made: Services) -> list[tuple[str, str | None]]:
    """Command and error of each line of the audit log."""
    assert isinstance(made.audit, RecordedAudit)
    return [(entry.command, entry.error) for entry in made.audit.entries]
