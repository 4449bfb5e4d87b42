"""Before and after: the object as it is must be absent or OBI's, and what says whose it is stays as it was."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from obi_mcp.policy.manifest.findings import Judgement, shown
from obi_mcp.policy.membership import RELEASE_NAME, RELEASE_NAMESPACE, object_is_obi
from obi_mcp.policy.model import Access, Violation
from obi_mcp.policy.selector import scope_selectors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from obi_mcp.policy.model import Document, Resource
    from obi_mcp.policy.scope import Scope

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_HELM_ANNOTATIONS = (
    RELEASE_NAME,
    RELEASE_NAMESPACE,
    "helm.sh/hook",
    "helm.sh/hook-weight",
    "helm.sh/hook-delete-policy",
)
_HELM_LABELS = ("app.kubernetes.io/managed-by", "app.kubernetes.io/instance")
# What the API server changes by itself whenever an object is written.
_VOLATILE = frozenset({"managedFields", "resourceVersion", "generation", "selfLink", "creationTimestamp", "uid"})


def judge_before(before: Mapping[str, Any] | None, resource: Resource, *, scope: Scope) -> Judgement:
    """Whether the object as it is may be written: it does not exist, or it is OBI's.

    A namespace in scope passes here, and :func:`judge_change` lets nothing of it change.
    """
    if before is None:
        return Judgement()
    if resource.kind == "Namespace":
        named = _metadata(before).get("name") in scope.namespaces
        return Judgement() if named else _violation("not-obi", "the namespace is not in scope", "metadata.name")
    proof = object_is_obi(before, resource, scope, write=True)
    if proof.proven:
        return Judgement()
    return _violation("not-obi", f"the {resource.kind} that is there now is not OBI's: {proof.why}", "metadata")


def judge_change(
    before: Mapping[str, Any] | None,
    after: Document,
    *,
    scope: Scope,
    applied: Mapping[str, Any] | None = None,
) -> Judgement:
    """Whether a write leaves alone what says whose the object is, and the level that it turns out to need.

    ``before`` is the live object, or None; ``after`` what the server-side dry run gives; ``applied`` the submitted
    document where kubectl records it (``apply``).
    """
    violations = [*_bookkeeping(before or {}, after.body), *_last_applied(before, after, applied)]
    warnings: list[Violation] = []
    if before is not None:
        violations.extend(_identity(before, after.body))
        violations.extend(_labels(before, after.body, scope))
        if after.kind == "Namespace":
            violations.extend(_namespace(before, after.body))
        if _annotation(before, LAST_APPLIED) and not _annotation(after.body, LAST_APPLIED):
            path = f"metadata.annotations[{LAST_APPLIED}]"
            hint = "use apply instead of replace"
            warnings.append(Violation("manifest.bookkeeping", "kubectl forgets what was applied last", path, hint))
    raised = Access.FULL if before is not None and leaves_nothing(before, after.body) else None
    placed = tuple(Violation(v.rule, v.reason, v.path, v.hint, after.index) for v in violations)
    return Judgement(placed, tuple(warnings), raised=raised)


def comparable(body: Mapping[str, Any]) -> dict[str, Any]:
    """The object without what the API server changes by itself, for a comparison of two states."""
    kept = {key: value for key, value in body.items() if key not in {"status", "metadata"}}
    metadata = {key: value for key, value in _metadata(body).items() if key not in _VOLATILE}
    annotations = {
        key: value
        for key, value in _map(metadata, "annotations").items()
        if key not in {LAST_APPLIED, "deprecated.daemonset.template.generation", "deployment.kubernetes.io/revision"}
    }
    return {**kept, "metadata": {**metadata, "annotations": annotations}}


def _identity(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Violation]:
    """Another uid is another object: it was replaced between the two looks."""
    for key in ("apiVersion", "kind"):
        if before.get(key) is not None and before[key] != after.get(key):
            yield _found("identity", f"{key} was {shown(before[key])} and would be {shown(after.get(key))}", key)
    for key in ("name", "namespace", "uid"):
        was, becomes = _metadata(before).get(key), _metadata(after).get(key)
        if was is not None and was != becomes:
            yield _found("identity", f"{key} was {shown(was)} and would be {shown(becomes)}", f"metadata.{key}")


def _bookkeeping(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Violation]:
    for key in ("ownerReferences", "finalizers"):
        if (_metadata(before).get(key) or []) != (_metadata(after).get(key) or []):
            yield _found("bookkeeping", f"{key} would change", f"metadata.{key}", f"leave {key} alone")
    if (before.get("secrets") or []) != (after.get("secrets") or []):
        yield _found("bookkeeping", "the secrets of the account would change", "secrets", "leave secrets alone")
    for key in _HELM_ANNOTATIONS:
        if _annotation(before, key) != _annotation(after, key):
            path = f"metadata.annotations[{key}]"
            yield _found("bookkeeping", f"the annotation {key} would change", path, "helm's annotations are helm's")


def _last_applied(
    before: Mapping[str, Any] | None, after: Document, applied: Mapping[str, Any] | None
) -> Iterator[Violation]:
    """kubectl deletes what is in this annotation and not in the next document, so it says what was sent, no more."""
    becomes = _annotation(after.body, LAST_APPLIED)
    if not becomes or becomes == _annotation(before or {}, LAST_APPLIED):
        return
    recorded = _read(becomes)
    sent = _as_recorded(applied, after.namespace) if applied is not None else None
    if not isinstance(recorded, dict) or _as_recorded(recorded, None) != sent:
        path = f"metadata.annotations[{LAST_APPLIED}]"
        yield _found(
            "bookkeeping", "what kubectl would record as applied is not what was sent", path, "leave it to kubectl"
        )


def _labels(before: Mapping[str, Any], after: Mapping[str, Any], scope: Scope) -> Iterator[Violation]:
    """Scope labels may be added to what is OBI's, never changed or taken away."""
    keys = {key for selector in scope_selectors(scope.selectors) for key in selector.constraints}
    if _annotation(before, RELEASE_NAME):
        keys.update(_HELM_LABELS)
    was, becomes = _map(_metadata(before), "labels"), _map(_metadata(after), "labels")
    for key in sorted(keys & was.keys()):
        if was[key] != becomes.get(key):
            reason = f"the label {key} was {shown(was[key])} and would be {shown(becomes.get(key))}"
            yield _found("scope-label", reason, f"metadata.labels[{key}]", f"keep {key}: {was[key]}")


def _namespace(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Violation]:
    if comparable(before) != comparable(after):
        yield _found("namespace", "a namespace that exists is not changed", "metadata", "leave the namespace out")


def leaves_nothing(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether the change can leave no pods: no replicas, or a DaemonSet that asks more of its nodes than before."""
    was, becomes = _map(before, "spec"), _map(after, "spec")
    if after.get("kind") == "DaemonSet":
        return _asks_more(_pod(was), _pod(becomes))
    return becomes.get("replicas") == 0 and was.get("replicas") != 0


def _asks_more(was: Mapping[str, Any], becomes: Mapping[str, Any]) -> bool:
    """False only where every node whose labels and taints fitted before fits still."""
    # Every node that OBI runs on has the label.
    had = {"kubernetes.io/os": "linux", **_map(was, "nodeSelector")}
    if any(had.get(key) != value for key, value in _map(becomes, "nodeSelector").items()):
        return True
    tolerated = becomes.get("tolerations") or []
    if any(toleration not in tolerated for toleration in was.get("tolerations") or []):
        return True
    affinity = _required(becomes)
    return bool(affinity) and affinity != _required(was)


def _required(pod: Mapping[str, Any]) -> list[Any]:
    """What scheduling demands of a node, beyond the node selector."""
    key = "requiredDuringSchedulingIgnoredDuringExecution"
    affinity = _map(pod, "affinity")
    kinds = ("nodeAffinity", "podAffinity", "podAntiAffinity")
    demands = [_map(affinity, kind).get(key) for kind in kinds]
    return demands if any(demands) else []


def _pod(spec: Mapping[str, Any]) -> dict[str, Any]:
    return _map(_map(spec, "template"), "spec")


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _as_recorded(applied: Mapping[str, Any], namespace: str | None) -> dict[str, Any]:
    """The document as it is recorded: with its namespace; and with annotations even where there are none, as kubectl
    does, or without, as the API server does for a server-side apply."""
    metadata = {**_metadata(applied)}
    if not metadata.get("annotations"):
        metadata.pop("annotations", None)
    if namespace is not None:
        metadata["namespace"] = namespace
    return {**applied, "metadata": metadata}


def _annotation(body: Mapping[str, Any], key: str) -> str | None:
    value = _map(_metadata(body), "annotations").get(key)
    return value if isinstance(value, str) else None


def _metadata(body: Mapping[str, Any]) -> dict[str, Any]:
    return _map(body, "metadata")


def _map(parent: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = parent.get(key)
    return value if isinstance(value, dict) else {}


def _found(rule: str, reason: str, path: str, hint: str | None = None) -> Violation:
    return Violation(f"manifest.{rule}", reason, path, hint)


def _violation(rule: str, reason: str, path: str) -> Judgement:
    return Judgement((_found(rule, reason, path),))
