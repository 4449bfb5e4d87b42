"""What remains of objects that anybody may see: cluster facts, and the status of the workloads that OBI instruments.

Projection keeps what is listed and drops the rest, so a field that Kubernetes adds one day does not leak. Never kept:
annotations, managed fields, environment, commands and arguments, volumes, probes, image lists of nodes, and the last
words of a container that ended (they may be its log).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_METADATA = "metadata.{name,namespace,uid,labels,creationTimestamp,deletionTimestamp,generation,resourceVersion}"
_COMMON = ("apiVersion", "kind", _METADATA, "metadata.ownerReferences")
_CONTAINER = "{containers,initContainers,ephemeralContainers}.{name,image,resources,ports}"
_ENDED = "{exitCode,reason,signal,startedAt,finishedAt}"
_STATUSES = "status.{containerStatuses,initContainerStatuses,ephemeralContainerStatuses}"
_WORKLOAD = (
    "status",
    "spec.replicas",
    "spec.selector",
    f"spec.template.spec.{_CONTAINER}",
    "spec.template.spec.shareProcessNamespace",
)

FACTS: dict[str, tuple[str, ...]] = {
    "Node": ("spec.{unschedulable,taints}", "status.{capacity,allocatable,conditions,addresses,nodeInfo,phase}"),
    "Namespace": ("status.phase",),
    "PriorityClass": ("value", "globalDefault", "preemptionPolicy", "description"),
}
STATUSES: dict[str, tuple[str, ...]] = {
    "Pod": (
        "spec.{nodeName,hostNetwork,hostPID,hostIPC,shareProcessNamespace,restartPolicy,priorityClassName}",
        f"spec.{_CONTAINER}",
        "status.{phase,reason,message,conditions,qosClass,startTime,hostIP,hostIPs,podIP,podIPs,observedGeneration}",
        f"{_STATUSES}.{{name,image,imageID,containerID,ready,started,restartCount}}",
        f"{_STATUSES}.{{state,lastState}}.{{running,waiting}}",
        f"{_STATUSES}.{{state,lastState}}.terminated.{_ENDED}",
    ),
    "Deployment": _WORKLOAD,
    "ReplicaSet": _WORKLOAD,
    "StatefulSet": _WORKLOAD,
    "HorizontalPodAutoscaler": ("status", "spec.{minReplicas,maxReplicas,scaleTargetRef,metrics}"),
    "ResourceQuota": ("status", "spec.{hard,scopes,scopeSelector}"),
    "LimitRange": ("spec.limits",),
    "Event": (
        "{type,reason,message,count,action,eventTime,firstTimestamp,lastTimestamp,involvedObject}",
        "{source,reportingComponent,reportingInstance,series}",
    ),
}


class _Keep(dict[str, "_Keep"]):
    """What is kept of an object: per field, what is kept of it in turn; empty keeps all of it."""


def project_fact(obj: Mapping[str, Any], kind: str | None = None) -> dict[str, Any]:
    """What is harmless of a node, namespace or priority class, as new JSON data.

    ``kind`` is for objects that do not say theirs. Of any other kind only its name and the like remain. A List is
    projected item by item.
    """
    return _project(obj, kind, "fact")


def project_status(obj: Mapping[str, Any], kind: str | None = None) -> dict[str, Any]:
    """What is harmless of a workload that OBI instruments, or of an event, quota or limit range, as new JSON data.

    See ``project_fact`` for ``kind`` and lists.
    """
    return _project(obj, kind, "status")


PROJECTIONS: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "fact": project_fact,
    "status": project_status,
}
"""By the word that a decision's output has for it."""


def _project(obj: Mapping[str, Any], kind: str | None, purpose: str) -> dict[str, Any]:
    items = obj.get("items")
    name = obj.get("kind", kind)
    if isinstance(items, list) and (name is None or str(name).endswith("List")):
        inner = kind if kind and not kind.endswith("List") else str(name or "").removesuffix("List") or None
        kept = [_project(item, inner, purpose) for item in items if isinstance(item, dict)]
        return {**{key: obj[key] for key in ("apiVersion", "kind") if key in obj}, "items": kept}
    done = _kept(obj, _keep(str(name), purpose))
    return done if isinstance(done, dict) else {}


def _kept(value: Any, keep: _Keep) -> Any:
    """The kept part of a value. Where fields are kept of something that has none, nothing remains."""
    if not keep:
        return value
    if isinstance(value, list):
        return [_kept(item, keep) for item in value if isinstance(item, dict)]
    return {
        key: _kept(part, keep[key])
        for key, part in value.items()
        if key in keep and (not keep[key] or isinstance(part, (dict, list)))
    }


@lru_cache(maxsize=32)
def _keep(kind: str, purpose: str) -> _Keep:
    tree = _Keep()
    table: Mapping[str, Sequence[str]] = FACTS if purpose == "fact" else STATUSES
    for path in (*_COMMON, *table.get(kind, ())):
        for plain in _expanded(path):
            node = tree
            for name in plain.split("."):
                node = node.setdefault(name, _Keep())
    return tree


def _expanded(path: str) -> list[str]:
    """``a.{b,c}`` is ``a.b`` and ``a.c``."""
    before, brace, rest = path.partition("{")
    if not brace:
        return [path]
    inside, _, after = rest.partition("}")
    return [done for choice in inside.split(",") for done in _expanded(before + choice + after)]
