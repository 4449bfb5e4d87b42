"""Proofs of writes: documents, changes of one object, and roll-backs of a rollout; each judged before and after."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from obi_mcp.command.model import Command, Flag
from obi_mcp.enforcer.adoption import adopted
from obi_mcp.enforcer.afterwards import as_judged
from obi_mcp.enforcer.case import Case, Difference, Proved, absent, failed, passed
from obi_mcp.enforcer.failures import raise_for_failure
from obi_mcp.enforcer.first import make_namespaces, missing_namespaces
from obi_mcp.enforcer.held import Checked, write_held
from obi_mcp.enforcer.members import selector_text
from obi_mcp.enforcer.pinning import Written, pin_change, pin_documents, refuse_other_state
from obi_mcp.errors import InvalidDocument, ProgramFailed
from obi_mcp.policy.documents import canonical, documents_of
from obi_mcp.policy.held import Held
from obi_mcp.policy.manifest import Judgement, Need, judge_before, judge_change
from obi_mcp.policy.model import Access, ChangeSpec, Check, Document, DocumentsSpec, Output, Place, UndoSpec, Violation
from obi_mcp.policy.pins import Pin
from obi_mcp.policy.resource import ResourceEntry

REVISION = "deployment.kubernetes.io/revision"
_ANOTHER = "what is there was made otherwise: change it in place, or take another name"
_DROPPED = frozenset({"dry-run", "output", "show-managed-fields", "template", "allow-missing-template-keys"})


async def prove_documents(case: Case, check: Check, spec: DocumentsSpec) -> Proved:
    """Each object absent or OBI's before, and good as the API server would store it.

    Raises: ClusterUnreachable, ProgramFailed.
    """
    documents = case.decision.documents
    befores = await asyncio.gather(*(_before(case, document) for document in documents))
    if spec.verb == "delete":
        return await _removed(case, check, documents, befores)
    for document, before in zip(documents, befores, strict=True):
        judgement = judge_before(before, _entry(case, document).resource, scope=case.scope)
        if refusal := refusal_of(check, judgement, document) or refuse_other_state(check, document, before):
            return refusal
    command = replace_verb(case, spec.verb)
    missing = missing_namespaces(documents, befores)
    if missing:
        alone = await dry_run(case, command, canonical(missing))
        proved = await judge_written(case, check, missing, [None] * len(missing), alone)
        refused = (await make_namespaces(case, check, missing)) if proved.result.passed else proved
        if refused is not None:
            return refused
        if spec.verb == "create":
            # They exist now: creating them again would fail.
            pairs = [pair for pair in zip(documents, befores, strict=True) if pair[0] not in missing]
            documents, befores = tuple(pair[0] for pair in pairs), [pair[1] for pair in pairs]
        else:
            befores = await asyncio.gather(*(_before(case, document) for document in documents))
    afters, unseen = await _dry_runs(case, command, documents, befores)
    if _identities(case, afters) != _identities(case, documents):
        return Proved(
            failed(check, "the API server would write other objects than the ones submitted", "submit them one by one")
        )
    proved = await judge_written(case, check, documents, befores, afters)
    if missing and spec.verb == "create":
        return replace(proved, stdin=canonical(documents))
    stored = {_key(case, document): document for document in afters}
    written = [
        Written(_entry(case, document).resource, document, before, stored[_key(case, document)])
        for document, before in zip(documents, befores, strict=True)
    ]
    return _looked_at(case, pin_documents(case, proved, written), unseen)


async def _dry_runs(
    case: Case, command: Command, documents: Sequence[Document], befores: Sequence[Mapping[str, Any] | None]
) -> tuple[tuple[Document, ...], tuple[Document, ...]]:
    """The documents as the API server would store them, and those of them that it could not say it of.

    Who is no cluster administrator may bind only a role that is there, so that the API server can look whether he holds
    what it grants: a binding whose role comes with the same batch has no dry run. It has no defaults either, so it is
    judged as it is written, and looked at again when it stands there.
    """
    try:
        return await dry_run(case, command, canonical(documents)), ()
    except ProgramFailed as error:
        unseen = _of_new_roles(documents, befores)
        seen = [document for document in documents if document not in unseen]
        if not unseen or not seen or "(NotFound)" not in error.message:
            raise
    return (*await dry_run(case, command, canonical(seen)), *unseen), unseen


def _of_new_roles(documents: Sequence[Document], befores: Sequence[Mapping[str, Any] | None]) -> tuple[Document, ...]:
    """Bindings that are new, of roles that are new in the same batch."""
    new = [document for document, before in zip(documents, befores, strict=True) if before is None]
    roles = {(one.kind, one.namespace, one.name) for one in new if one.kind in {"Role", "ClusterRole"}}
    return tuple(one for one in new if one.kind in {"RoleBinding", "ClusterRoleBinding"} and _role_of(one) in roles)


def _role_of(binding: Document) -> tuple[str, str | None, str]:
    role = binding.body["roleRef"]  # INVARIANT: the static manifest check wants it
    kind = str(role["kind"])
    return kind, binding.namespace if kind == "Role" else None, str(role["name"])


def _looked_at(case: Case, proved: Proved, unseen: Sequence[Document]) -> Proved:
    """The proof, with a look at what had no dry run when it stands there."""
    before = proved.afterwards
    if not unseen or not proved.result.passed or case.head.flag("dry-run"):
        return proved

    async def look() -> Difference | None:
        found = await before() if before is not None else None
        return found or await as_judged(case, unseen, [None] * len(unseen))

    return replace(proved, afterwards=look)


async def _removed(
    case: Case, check: Check, documents: Sequence[Document], befores: Sequence[Mapping[str, Any] | None]
) -> Proved:
    targets: list[Checked] = []
    for document, before in zip(documents, befores, strict=True):
        resource = _entry(case, document).resource
        if before is None or not (await case.members.prove(before, resource, None, write=True)).ours:
            return Proved(absent(check))
        where = document.namespace if resource.namespaced else None
        targets.append(Checked(Held(resource, where, document.name), before))
    proved = Proved(passed(check))
    if case.head.flag("dry-run"):
        return proved
    return replace(proved, perform=lambda _: write_held(case, targets))


async def prove_change(case: Case, check: Check, spec: ChangeSpec) -> Proved:
    """patch, set, label, annotate, scale: OBI's before, and good after the same command's server-side dry run."""
    before = await case.cluster.get(spec.resource, spec.namespace, spec.name)
    if before is None or not (await case.members.prove(before, spec.resource, None, write=True)).ours:
        return Proved(absent(check))
    # kubectl set prints nothing where there is nothing to change: then the object stays as it is.
    afters = await dry_run(case, replace_verb(case, ""), None) or (Document(0, before),)
    if len(afters) != 1 or afters[0].name != spec.name or afters[0].kind != spec.resource.kind:
        return Proved(failed(check, "the dry run gave another object than the one named", "name one object"))
    proved = await judge_written(case, check, (Document(0, before),), (before,), afters)
    head = case.head
    if head.path != ("scale",):
        return pin_change(case, proved, spec.resource, before, afters[0].body)
    if head.flag("dry-run"):
        return proved
    pin = Pin.of(before)
    flags = tuple(flag for flag in head.flags if flag.name != "resource-version")
    command = replace(head, flags=(*flags, Flag("resource-version", (pin.version,))))
    return replace(proved, heads=(command.argv(),), pinned=frozenset({pin.uid}))


async def prove_undo(case: Case, check: Check, spec: UndoSpec) -> Proved:
    """``rollout undo``: the revision's template, put into the live object by the server itself, passes the check."""
    before = await case.cluster.get(spec.resource, spec.namespace, spec.name)
    if before is None or not (await case.members.prove(before, spec.resource, None, write=True)).ours:
        return Proved(absent(check))
    templates = await _revisions(case, before, spec)
    number = spec.revision or (sorted(templates)[-2] if len(templates) > 1 else 0)
    if number not in templates:
        known = ", ".join(str(revision) for revision in sorted(templates))
        return Proved(failed(check, f"there is no revision {spec.revision or 'before this one'}", f"it has: {known}"))
    if before["spec"].get("paused"):
        return Proved(failed(check, f"{spec.name} is paused", "resume it first: kubectl rollout resume"))
    body = json.loads(json.dumps(before))
    body["spec"]["template"] = templates[number]
    after = Document(0, body)
    proved = await judge_written(case, check, (after,), (before,), (after,))
    return pin_change(case, proved, spec.resource, before, body)


async def _before(case: Case, document: Document) -> Mapping[str, Any] | None:
    entry = _entry(case, document)
    namespace = document.namespace if entry.resource.namespaced else None
    return await case.cluster.get(entry.resource, namespace, document.name)


def _entry(case: Case, document: Document) -> ResourceEntry:
    entry = case.resources.for_object(document.api_version, document.kind)
    if entry is None:  # INVARIANT: the static manifest check knows every kind it lets through
        raise ProgramFailed(f"the kind {document.api_version} {document.kind} is not in the table of kinds")
    return entry


async def judge_written(
    case: Case,
    check: Check,
    documents: Sequence[Document],
    befores: Sequence[Mapping[str, Any] | None],
    afters: Sequence[Document],
) -> Proved:
    """Each object as the API server would store it, the change from what is there, and what it leans on."""
    stored = {_key(case, document): document for document in afters}
    applied = case.decision.pipeline is not None and case.decision.pipeline.head.path in {("apply",), ("diff",)}
    raised: Access | None = None
    for document, before in zip(documents, befores, strict=True):
        after = stored[_key(case, document)]
        if before is None and (reason := await adopted(case, after, after.namespace)):
            at = Place(document=document.index, path="spec.selector")
            return Proved(failed(check, reason, "add a label to the selector that only this workload's pods have", at))
        judgement = case.policy.grounds.manifest.judge_stored(
            after, scope=case.scope, batch=tuple(afters), before=before
        )
        judgement += judge_change(before, after, scope=case.scope, applied=document.body if applied else None)
        if refusal := refusal_of(check, judgement, document):
            return refusal
        for need in judgement.needs:
            if reason := await unmet(case, need):
                at = Place(document=document.index, path=need.path)
                return Proved(failed(check, reason, f"put the {need.kind} into the same batch", at))
        raised = max((level for level in (raised, judgement.raised) if level is not None), default=None)
    return Proved(passed(check, "judged as the API server would store it", raised=raised))


async def unmet(case: Case, need: Need) -> str | None:
    """Why what an object leans on is not there, not OBI's, or allows more than OBI may have; None if it is well."""
    entry = case.resources.for_object(need.api_version, need.kind)
    body = await case.cluster.get(entry.resource, need.namespace, need.name) if entry else None
    if entry is None or body is None:
        return f"{need.kind} {need.name} is neither in the batch nor in the cluster"
    if not (await case.members.prove(body, entry.resource, None)).ours:
        return f"{need.kind} {need.name} is not OBI's"
    live = Document(need.document or 0, body)
    # By an annotation an account has rights in a cloud: whose pods get them is not settled by its having been there.
    before = None if need.kind == "ServiceAccount" else body
    judgement = case.policy.grounds.manifest.judge_stored(live, scope=case.scope, batch=(live,), before=before)
    if judgement.violations:
        first = judgement.violations[0]
        return f"{need.kind} {need.name} as it is would not pass: {first.path}: {first.reason}"
    return None


def refusal_of(check: Check, judgement: Judgement, document: Document) -> Proved | None:
    """The failed check that a judgement of this document is; None for one that passes."""
    if not judgement.violations:
        return None
    first: Violation = judgement.violations[0]
    path = f"{document.prefix}.{first.path}" if document.prefix else first.path
    more = f" (and {len(judgement.violations) - 1} more)" if len(judgement.violations) > 1 else ""
    return Proved(failed(check, first.reason + more, first.hint, Place(document=document.index, path=path)))


def _key(case: Case, document: Document) -> tuple[str, str, str]:
    entry = _entry(case, document)
    return (entry.resource.argument, (document.namespace or "") if entry.resource.namespaced else "", document.name)


def _identities(case: Case, documents: Sequence[Document]) -> list[tuple[str, str, str]]:
    return sorted(_key(case, document) for document in documents)


def replace_verb(case: Case, verb: str) -> Command:
    """The decided head as its own server-side dry run; ``diff`` is dry-run as the apply it stands for."""
    head = case.head
    flags = tuple(flag for flag in head.flags if flag.name not in _DROPPED)
    path = ("apply",) if verb == "diff" else head.path
    return replace(head, path=path, flags=(*flags, Flag("dry-run", ("server",)), Flag("output", ("json",))))


async def dry_run(case: Case, head: Command, stdin: bytes | None) -> tuple[Document, ...]:
    """What the API server would make of the command, by a server-side dry run on the same road.

    Raises: ProgramFailed with its words; ClusterUnreachable.
    """
    approved = case.policy.derive(case.decision, head.argv(), stdin=stdin, output=Output(head="raw"))
    completed = await case.run_own(approved)
    raise_for_failure(completed, head)
    if completed.exit_code != 0:
        why = said(completed.stderr)
        way = _ANOTHER if "field is immutable" in why else "mend what the API server names"
        raise ProgramFailed(f"the server-side dry run was refused: {why}", f"{way}; nothing was written")
    try:
        return tuple(documents_of(_objects(completed.stdout)))
    except (ValueError, InvalidDocument) as error:
        raise ProgramFailed(f"the server-side dry run printed what cannot be read: {error}") from error


def said(stderr: bytes) -> str:
    """Why, without the warnings that kubectl prints before it: they are long, and no reason."""
    lines = stderr.decode(errors="replace").strip().splitlines()
    reasons = [line for line in lines if not line.startswith("Warning: ")]
    return "\n".join(reasons or lines)[:600]


def _objects(text: bytes) -> list[Any]:
    """Objects of kubectl's JSON output: one object, a List, or several values one after another."""
    # kubectl label says on its output, before the object, which labels there are not.
    lines = text.decode().strip().splitlines(keepends=True)
    said = next((at for at, line in enumerate(lines) if line.startswith("{")), len(lines))
    decoder, rest, found = json.JSONDecoder(), "".join(lines[said:]), []
    while rest:
        value, end = decoder.raw_decode(rest)
        if isinstance(value, dict) and value.get("kind") == "List" and isinstance(value.get("items"), list):
            found.extend(value["items"])
        else:
            found.append(value)
        rest = rest[end:].lstrip()
    return found


async def _revisions(case: Case, live: Mapping[str, Any], spec: UndoSpec) -> dict[int, Any]:
    """Pod templates by revision: a DaemonSet's controller revisions or a Deployment's replica sets, by owner uid."""
    plural = "replicasets" if spec.resource.kind == "Deployment" else "controllerrevisions"
    entry = case.resources.find(plural)
    if entry is None:  # INVARIANT: the table ships with both
        raise ProgramFailed(f"{plural} are not in the table of kinds")
    selector = selector_text((live.get("spec") or {}).get("selector") or {})
    uid = (live.get("metadata") or {}).get("uid")
    templates: dict[int, Any] = {}
    for body in await case.cluster.list(entry.resource, spec.namespace, selector):
        metadata = body.get("metadata") or {}
        if not any(owner.get("uid") == uid for owner in metadata.get("ownerReferences") or ()):
            continue
        if plural == "replicasets":
            number = int((metadata.get("annotations") or {}).get(REVISION, "0"))
            template = (body.get("spec") or {}).get("template")
        else:
            number = int(body.get("revision") or 0)
            template = (((body.get("data") or {}).get("spec")) or {}).get("template")
        if isinstance(template, dict):
            cleaned = {key: value for key, value in template.items() if key != "$patch"}
            labels = (cleaned.get("metadata") or {}).get("labels") or {}
            labels.pop("pod-template-hash", None)
            templates[number] = cleaned
    return templates
