"""What is looked at again when a write has run that could carry no precondition: is it the object that was judged?"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from obi_mcp.enforcer.case import Case, Difference
from obi_mcp.enforcer.members import Found
from obi_mcp.policy.model import Document, Resource


async def same_objects(case: Case, resource: Resource, found: Sequence[Found]) -> Difference | None:
    """Whether these objects are still the ones that were checked. Raises: ClusterUnreachable, ProgramFailed."""
    for checked in found:
        live = await case.cluster.get(resource, checked.namespace, checked.name)
        if text := _replaced(resource.kind, checked.body, live):
            return Difference(text)
        if live is not None and not (await case.members.prove(live, resource, None, write=True)).ours:
            return Difference(f"{resource.kind} {checked.name} was changed in between, and is not OBI's any more")
    return None


async def nothing_else_was_shown(case: Case, resource: Resource, found: Sequence[Found]) -> Difference | None:
    """Whether no other object bears the name of one that was read as text: what was printed may be of that one.

    One that is gone by now was there when it was read. Raises: ClusterUnreachable, ProgramFailed.
    """
    lives = await asyncio.gather(*(case.cluster.get(resource, entry.namespace, entry.name) for entry in found))
    for entry, live in zip(found, lives, strict=True):
        if live is not None and (text := _replaced(resource.kind, entry.body, live)):
            return Difference(text)
    return None


async def still_there(case: Case, standing: Sequence[tuple[Resource, Mapping[str, Any]]]) -> Difference | None:
    """Whether these live objects are still the same ones. Raises: ClusterUnreachable, ProgramFailed."""
    for resource, before in standing:
        metadata = before.get("metadata") or {}
        live = await case.cluster.get(resource, metadata.get("namespace"), str(metadata.get("name", "")))
        if text := _replaced(resource.kind, before, live):
            return Difference(text)
    return None


async def as_judged(
    case: Case, documents: Sequence[Document], befores: Sequence[Mapping[str, Any] | None]
) -> Difference | None:
    """Whether what stands there after documents were applied is what was checked, and would pass again.

    Raises: ClusterUnreachable, ProgramFailed.
    """
    for document, before in zip(documents, befores, strict=True):
        entry = case.resources.for_object(document.api_version, document.kind)
        if entry is None:  # INVARIANT: the static manifest check knows every kind it lets through
            continue
        resource = entry.resource
        live = await case.cluster.get(resource, document.namespace if resource.namespaced else None, document.name)
        if before is not None and (text := _replaced(resource.kind, before, live)):
            return Difference(text)
        if live is None:
            continue
        stored = Document(document.index, live)
        judged = case.policy.grounds.manifest.judge_stored(
            stored, scope=case.scope, batch=(*documents, stored), before=before
        )
        if judged.violations:
            first = judged.violations[0]
            return Difference(f"{resource.kind} {document.name} would not pass: {first.path}: {first.reason}")
    return None


def _replaced(kind: str, before: Mapping[str, Any], live: Mapping[str, Any] | None) -> str | None:
    was = before.get("metadata") or {}
    if live is None:
        return f"{kind} {was.get('name')} is gone: it was deleted by somebody else in between"
    if was.get("uid") == (live.get("metadata") or {}).get("uid"):
        return None
    return (
        f"{kind} {was.get('name')} is another object than the one that was checked: it was deleted and made again by "
        "somebody else in between, and the command may have reached the new one"
    )
