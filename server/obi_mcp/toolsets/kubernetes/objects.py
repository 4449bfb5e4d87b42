"""Objects as they are read, as somebody would write them, and whether two states of one are the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from obi_mcp.errors import NotFound
from obi_mcp.obi.bodies import Object
from obi_mcp.policy.held import RESTARTED
from obi_mcp.toolsets.base import Services
from obi_mcp.toolsets.kubernetes.place import Place

REDACTED = "[redacted]"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
WORKLOADS = frozenset({"DaemonSet", "Deployment"})
_BOOKKEEPING = ("managedFields", "resourceVersion", "uid", "generation", "creationTimestamp", "selfLink")
_WRITTEN_BY_OTHERS = (LAST_APPLIED, "deprecated.daemonset.template.generation", "deployment.kubernetes.io/revision")
_ADDRESSES = ("clusterIP", "clusterIPs")


@dataclass(frozen=True, slots=True)
class Target:
    """One object. ``namespace`` None: it is in none."""

    kind: str
    name: str
    namespace: str | None

    @classmethod
    def of(cls, body: Object) -> Target:
        metadata = body["metadata"]
        return cls(str(body["kind"]), str(metadata["name"]), metadata.get("namespace"))

    def __str__(self) -> str:
        return f"{self.kind} {f'{self.namespace}/' if self.namespace else ''}{self.name}"

    @property
    def words(self) -> str:
        """As kubectl takes it."""
        return f"{self.kind.lower()} {self.name}" + (f" -n {self.namespace}" if self.namespace else "")


async def look_up(services: Services, place: Place, target: Target) -> Object | None:
    """The object as it is, or None where there is none (or it is not OBI's: then writing it is refused)."""
    kind = "ns" if target.kind == "Namespace" else target.kind.lower()
    where = f" -n {target.namespace}" if target.namespace else ""
    try:
        reading = await services.enforcer.read(place.call(f"kubectl get {kind} {target.name}{where} -o json"))
    except NotFound:
        return None
    return next(iter(reading.objects), None)


def state_of(body: Object | None) -> str:
    """What tells whether the object is still the one that was looked at: not its status, which changes by itself."""
    if body is None:
        return "absent"
    metadata = body["metadata"]
    version = metadata.get("generation") or metadata.get("resourceVersion")
    said = json.dumps(normalized(body), sort_keys=True)
    return f"{metadata.get('uid')}/{version}/{hashlib.sha256(said.encode()).hexdigest()[:12]}"


def normalized(body: Object) -> dict[str, Any]:
    """The object as somebody would write it: without status and what the cluster keeps books of."""
    metadata = {key: value for key, value in body["metadata"].items() if key not in _BOOKKEEPING}
    annotations = {
        key: value for key, value in (metadata.pop("annotations", None) or {}).items() if key not in _WRITTEN_BY_OTHERS
    }
    if annotations:
        metadata["annotations"] = annotations
    return {**{key: value for key, value in body.items() if key != "status"}, "metadata": metadata}


def applied_last(body: Object) -> dict[str, Any] | None:
    """The document that kubectl noted as applied last, or None."""
    noted = (body["metadata"].get("annotations") or {}).get(LAST_APPLIED)
    document: dict[str, Any] | None = json.loads(noted) if noted else None
    return document


def as_document(body: Object) -> dict[str, Any]:
    """A live object as a document that makes it: without what the cluster added."""
    document = normalized(body)
    spec = {**(document.get("spec") or {})}
    pod = (spec.get("template") or {}).get("spec")
    if isinstance(pod, dict) and "serviceAccount" in pod:  # the old spelling, which only the API server writes
        spec["template"] = {**spec["template"], "spec": {k: v for k, v in pod.items() if k != "serviceAccount"}}
    if document["kind"] == "Service":
        spec = {key: value for key, value in spec.items() if key not in _ADDRESSES}  # the API server gives them
    return {**document, "spec": spec} if spec else document


def holds_a_secret(body: Object) -> bool:
    """Whether redaction took something out of the object: such a document would write the marker, not the secret."""
    return REDACTED in json.dumps(body)


def is_going(body: Object) -> bool:
    """Whether the object is being removed."""
    return "deletionTimestamp" in body["metadata"] or (body.get("status") or {}).get("phase") == "Terminating"


def same(one: Object | None, other: Object | None) -> bool:
    """Whether two states say the same, to the annotation of what was applied last. Not whether it is the same object:
    of a Service that was made again the address is another one."""
    if one is None or other is None:
        return one is other
    return _comparable(one) == _comparable(other) and same_note(one, other)


def same_note(one: Object, other: Object) -> bool:
    """Whether the two note the same as applied last. kubectl adds annotations where the document had none."""
    notes = [applied_last(body) for body in (one, other)]
    for note in notes:
        if note is not None and not note["metadata"].get("annotations"):
            note["metadata"].pop("annotations", None)
    return notes[0] == notes[1]


def same_object(one: Object, other: Object) -> bool:
    """Whether the two are states of one object."""
    return bool(one["metadata"].get("uid") == other["metadata"].get("uid"))


def as_planned(live: Object, before: Object | None, after: Object) -> bool:
    """Whether ``live`` is what a plan made of ``before``: what the dry run gave (which has a time of its own for a
    restart), or, where there was no dry run, what was to be written and the defaults of the API server."""
    if before is None:
        dry_run = "uid" in after["metadata"]
        return _comparable(live) == _comparable(after) if dry_run else covers(live, after)
    if not same_object(live, before):
        return False
    mine, planned = _restarted(live), _restarted(after)
    if planned is None or planned == _restarted(before):
        return _comparable(live) == _comparable(after)
    return mine not in (None, _restarted(before)) and _comparable(live, mine) == _comparable(after, planned)


def covers(live: Any, document: Any) -> bool:
    """Whether everything that the document says is so."""
    if isinstance(document, Mapping):
        return isinstance(live, Mapping) and all(key in live and covers(live[key], document[key]) for key in document)
    if isinstance(document, list):
        same_length = isinstance(live, list) and len(live) == len(document)
        return same_length and all(covers(one, other) for one, other in zip(live, document, strict=True))
    return bool(live == document)


def restarted(body: Object, mark: str) -> dict[str, Any]:
    """The workload as ``rollout restart`` makes it."""
    made: dict[str, Any] = json.loads(json.dumps(body))
    made["spec"]["template"].setdefault("metadata", {}).setdefault("annotations", {})[RESTARTED] = mark
    return made


def list_of(bodies: Sequence[Object]) -> str:
    """Objects as one document on standard input."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(bodies)})


def _restarted(body: Object) -> str | None:
    metadata = ((body.get("spec") or {}).get("template") or {}).get("metadata") or {}
    return (metadata.get("annotations") or {}).get(RESTARTED)


def settable(body: Object) -> dict[str, Any]:
    """What somebody can set of an object that is there: not a Service's addresses."""
    parts = normalized(body)
    if parts.get("kind") == "Service":
        parts["spec"] = {key: value for key, value in (parts.get("spec") or {}).items() if key not in _ADDRESSES}
    return parts


def _comparable(body: Object, restart: str | None = None) -> str:
    """As text in one order, with that time of a restart as any other."""
    text = json.dumps(settable(body), sort_keys=True)
    return text.replace(json.dumps(restart), '"restarted"') if restart else text
