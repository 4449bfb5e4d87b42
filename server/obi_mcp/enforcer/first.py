"""A first deployment: a batch that brings its own Namespace cannot be dry-run in it before it exists.

So the Namespace is judged and made first, then the rest is dry-run and judged; if that refuses, the Namespace that was
just made is removed again while it is empty.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from obi_mcp.enforcer.case import Case, Proved, failed
from obi_mcp.enforcer.failures import raise_for_failure
from obi_mcp.errors import ClusterUnreachable, ProgramFailed
from obi_mcp.policy.model import Access, Check, Document

_EVERY_NAMESPACE_HAS = frozenset({("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default")})


def missing_namespaces(documents: Sequence[Document], befores: Sequence[object | None]) -> tuple[Document, ...]:
    """Namespaces of the batch that do not exist, and that something else of the batch goes into."""
    used = {document.namespace for document in documents if document.kind != "Namespace"}
    pairs = zip(documents, befores, strict=True)
    return tuple(doc for doc, before in pairs if doc.kind == "Namespace" and before is None and doc.name in used)


async def make_namespaces(case: Case, check: Check, missing: Sequence[Document]) -> Proved | None:
    """Make them, and note how to take them back; a refusal where the call itself is a read. Raises: ProgramFailed."""
    names = tuple(document.name for document in missing)
    if case.decision.access is Access.READ_ONLY:
        return Proved(
            failed(
                check,
                f"the namespace {names[0]} does not exist yet, so the API server cannot make a dry run of what goes "
                "into it",
                "apply the Namespace alone first, or apply the whole batch: its Namespace is then made first",
            )
        )
    case.begin()
    completed = await case.run_own(case.policy.approve_namespaces(case.decision, access=case.access))
    raise_for_failure(completed, case.head)
    if completed.exit_code != 0:
        said = completed.stderr.decode("utf-8", "replace").strip()[:600]
        raise ProgramFailed(f"the namespace {names[0]} could not be made: {said}")
    case.undo.append(lambda: _take_back(case, names))
    return None


async def _take_back(case: Case, names: Sequence[str]) -> None:
    with suppress(ProgramFailed, ClusterUnreachable):  # the caller is told why the rest was refused, which matters more
        await remove_empty(case, names)


async def remove_empty(case: Case, names: Sequence[str]) -> tuple[str, ...]:
    """Removes those Namespaces in which nothing stands but what every namespace gets; gives their names.

    Raises: ProgramFailed where the API server refuses, ClusterUnreachable.
    """
    empty = [name for name in names if await _is_empty(case, name)]
    if not empty:
        return ()
    completed = await case.run_own(case.policy.approve_removal(case.decision, empty))
    raise_for_failure(completed, case.head)
    if completed.exit_code:
        said = completed.stderr.decode("utf-8", "replace").strip()[:600]
        raise ProgramFailed(f"the namespace {empty[0]} could not be removed again: {said}")
    return tuple(empty)


async def _is_empty(case: Case, namespace: str) -> bool:
    resources = [
        entry.resource for entry in case.resources.entries if entry.resource.namespaced and entry.reading != "never"
    ]
    kinds = [resource for resource in resources if resource.kind not in {"Event", "PodMetrics"}]
    found = await asyncio.gather(*(_names(case, kind.plural, namespace) for kind in kinds))
    return not {name for names in found for name in names} - _EVERY_NAMESPACE_HAS


async def _names(case: Case, plural: str, namespace: str) -> list[tuple[str, str]]:
    entry = case.resources.find(plural)
    if entry is None:
        return []
    try:
        bodies = await case.cluster.list(entry.resource, namespace, "")
    except ProgramFailed:
        return []  # a kind whose CRD this cluster does not have
    return [(entry.resource.kind, str((body.get("metadata") or {}).get("name", ""))) for body in bodies]
