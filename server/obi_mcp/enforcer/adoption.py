"""What a new workload would take over: Kubernetes gives it everything that its selector matches and nobody controls.

A DaemonSet adopts pods, and replaces or deletes those that are not of its template; a Deployment adopts replica sets.
So a foreign object that carries OBI's labels would be changed by a document that names it nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from obi_mcp.enforcer.case import Case
from obi_mcp.enforcer.members import selector_text
from obi_mcp.policy.model import Document

_TAKES = {"DaemonSet": "pods", "Deployment": "replicasets"}


async def adopted(case: Case, document: Document, namespace: str | None) -> str | None:
    """Why a workload that does not exist yet may not be made as it is: what it would adopt is not OBI's. None: it may.

    Raises: ClusterUnreachable, ProgramFailed.
    """
    plural = _TAKES.get(document.kind)
    entry = case.resources.find(plural) if plural else None
    spec = document.body.get("spec")
    selector = selector_text(spec.get("selector") or {}) if isinstance(spec, Mapping) else ""
    if entry is None or not selector:
        return None
    for body in await case.cluster.list(entry.resource, namespace, selector):
        if _controlled(body) or (await case.members.prove(body, entry.resource, None, write=True)).ours:
            continue
        return (
            f"{document.kind} {document.name} would take over what is not OBI's: its selector matches "
            f"{entry.resource.plural} in the namespace that no controller owns"
        )
    return None


def _controlled(body: Mapping[str, Any]) -> bool:
    return any(owner.get("controller") for owner in (body.get("metadata") or {}).get("ownerReferences") or ())
