"""The one change of somebody else's Deployment: OBI's container is put beside theirs, or taken away again.

Only as a strategic merge patch of a closed form, only where ``instrumented_namespaces`` names the namespace. What it
holds is judged from its text here, and once more by the server's dry run of the real Deployment, which must be what it
was but for OBI's container, its volumes and the shared process namespace.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from obi_mcp.policy.confine import namespace_of
from obi_mcp.policy.model import Access, Check, Document, SidecarSpec
from obi_mcp.policy.output import check_output

if TYPE_CHECKING:
    from obi_mcp.policy.draft import Draft
    from obi_mcp.policy.targets import Target

_POD = ("spec", "template", "spec")
_PARTS = frozenset({"containers", "volumes", "shareProcessNamespace"})
_WHY_ADDED = "the Deployment is somebody else's: it has to stay what it is, but for OBI's container beside theirs"
_WHY_REMOVED = "the Deployment is somebody else's: only what OBI's container brought is taken away"
HINT = "patch with what obi_k8s_generate_sidecar writes: one container of OBI's and a shared process namespace"


def about_sidecar(draft: Draft, target: Target) -> bool:
    """Whether the command patches a Deployment where OBI instruments, and is not installed or has that very form."""
    if draft.command.path != ("patch",) or target.resource.kind != "Deployment":
        return False
    namespace = draft.command.value("namespace", draft.grounds.scope.default_namespace)
    if namespace not in draft.grounds.instrumented:
        return False
    return namespace not in draft.grounds.namespaces or _form(draft.command.value("patch")) is not None


def judge_sidecar_patch(draft: Draft, target: Target, patch: object) -> None:
    """Lists the check of the live Deployment. Raises: Denied for a patch of another form, or one that does not pass."""
    namespace = namespace_of(draft)
    if namespace is None:
        raise draft.deny("a Deployment is changed in one namespace", at=draft.command.flag("all-namespaces"))
    given = draft.command.flag("patch")
    if draft.command.value("type", "strategic") != "strategic":
        raise draft.deny(
            "a sidecar is added by a strategic merge patch, which adds to lists",
            at=draft.command.flag("type"),
            hint=draft.rule.hint,
        )
    pod = _pod(patch)
    if pod is None or (removes := _removes(pod)) is None:
        raise draft.deny(
            f"a Deployment in {namespace} is somebody else's: it may only get OBI's container beside its own, in a "
            "shared process namespace, or lose it again",
            at=given,
            hint=HINT,
        )
    if not removes:
        _judge_text(draft, target, namespace, pod)
    # What is printed is somebody else's object.
    check_output(draft, (target.resource,), project="status")
    why = _WHY_REMOVED if removes else _WHY_ADDED
    spec = SidecarSpec(target.resource, target.name or "", namespace, removes)
    # Only the check knows whether this server has added the container, and may take it back.
    full = Access.FULL if removes else None
    draft.checks.append(Check("dry-run", target.label, namespace, why, spec, raises_to=full))


def _judge_text(draft: Draft, target: Target, namespace: str, pod: dict[str, Any]) -> None:
    """What the patch adds, judged beside a container of nobody's."""
    from obi_mcp.policy.manifest.sidecar import judge_sidecar

    theirs = {"name": "theirs-" + str(pod["containers"][0].get("name", ""))[:40], "image": "theirs"}
    before = _deployment(target, namespace, {"containers": [theirs]})
    after = _deployment(target, namespace, {**pod, "containers": [theirs, *pod["containers"]]})
    manifest = draft.grounds.manifest
    for violation in judge_sidecar(manifest, before, Document(0, after), scope=draft.grounds.scope).violations:
        raise draft.deny(
            f"{violation.path}: {violation.reason}", at=draft.command.flag("patch"), hint=violation.hint or HINT
        )


def _deployment(target: Target, namespace: str, pod: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": target.name, "namespace": namespace},
        "spec": {"template": {"spec": pod}},
    }


def _form(text: str) -> bool | None:
    """Whether a patch removes OBI's container, None where it is of no form of a sidecar's."""
    try:
        pod = _pod(json.loads(text))
    except ValueError:
        return None
    return _removes(pod) if pod is not None else None


def _pod(patch: object) -> dict[str, Any] | None:
    """What the patch changes of the pods, None where it changes anything else."""
    for key in _POD:
        if not isinstance(patch, dict) or set(patch) != {key}:
            return None
        patch = patch[key]
    return patch if isinstance(patch, dict) and set(patch) <= _PARTS else None


def _removes(pod: dict[str, Any]) -> bool | None:
    """True for a patch that takes away, False for one that adds, None for any other."""
    containers, volumes = pod.get("containers"), pod.get("volumes", [])
    if not isinstance(containers, list) or len(containers) != 1 or not isinstance(volumes, list):
        return None
    entries = [*containers, *volumes]
    if not all(isinstance(entry, dict) and isinstance(entry.get("name"), str) for entry in entries):
        return None
    shared = pod.get("shareProcessNamespace", "kept")
    if all(set(entry) == {"name", "$patch"} and entry["$patch"] == "delete" for entry in entries):
        return True if shared in (None, "kept") else None
    if shared is not True or any(_directs(entry) for entry in entries):
        return None
    return False


def _directs(value: object) -> bool:
    """Whether a directive of the strategic merge stands anywhere in the value."""
    if isinstance(value, dict):
        return any(str(key).startswith("$") or _directs(inner) for key, inner in value.items())
    return isinstance(value, list) and any(map(_directs, value))
