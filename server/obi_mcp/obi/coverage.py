"""Which nodes OBI runs on, and why not on the others: from its DaemonSet, its pods and the nodes, as JSON data.

Source of the scheduling facts: Kubernetes' documentation of DaemonSets ("Taints and tolerations") and of node affinity.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from obi_mcp.obi.bodies import Object, at, is_ready, name_of
from obi_mcp.obi.capabilities import too_old
from obi_mcp.obi.placing import meant_for, not_created, not_placed
from obi_mcp.obi.symptoms import symptom_of_end

State = Literal["healthy", "unhealthy", "uncovered"]

ARCHITECTURES = frozenset({"amd64", "arm64"})
"""What OBI's images are built for. Source: doc."""
_ARCHITECTURE_LABELS = frozenset({"kubernetes.io/arch", "beta.kubernetes.io/arch"})
# Every pod of a DaemonSet gets these from its controller.
_TOLERATED_BY_ALL = frozenset(
    f"node.kubernetes.io/{name}"
    for name in ("not-ready", "unreachable", "disk-pressure", "memory-pressure", "pid-pressure", "unschedulable")
)
_TOLERATED_ON_HOST_NETWORK = "node.kubernetes.io/network-unavailable"
_NOTHING_SAYS = "no pod was placed there, though nothing in the node's taints, labels or kernel says why"
_BLOCKING = frozenset({"NoSchedule", "NoExecute"})


@dataclass(frozen=True, slots=True)
class NodeCoverage:
    """One node. ``why`` is empty for a healthy one; otherwise one sentence, and ``next_step`` says what to do. ``pod``:
    the one that is there, or that is made for this node and not there. ``refused``: it could not even be made."""

    node: str
    state: State
    pod: str | None = None
    why: str = ""
    next_step: str = ""
    refused: bool = False


def cover(
    workload: Object, pods: Sequence[Object], nodes: Sequence[Object], said: Sequence[str] = ()
) -> tuple[NodeCoverage, ...]:
    """One entry per node, by name. ``pods`` are the workload's own; ``said``: what its controller complains of, the
    latest first, which is the reason where nothing else is."""
    by_node: dict[str, Object] = {}
    for pod in pods:
        name = meant_for(pod)
        # While a pod is replaced there are two of them: the one that stays counts.
        if name and (name not in by_node or not at(pod, "metadata", "deletionTimestamp")):
            by_node[name] = pod
    return tuple(
        _of_node(workload, node, by_node.get(name_of(node)), said)
        for node in sorted(nodes, key=name_of)
        if name_of(node)
    )


def unexplained(coverage: Sequence[NodeCoverage]) -> bool:
    """Whether a node is without OBI and nothing that was looked at says why."""
    return any(entry.why == _NOTHING_SAYS for entry in coverage)


def restarts(pod: Object) -> int:
    """How often the pod's containers were started again."""
    return sum(int(status.get("restartCount", 0)) for status in at(pod, "status", "containerStatuses") or ())


def trouble(pod: Object) -> tuple[str, str]:
    """Why a pod is not well, in a sentence, and what to do; empty for one that is."""
    if at(pod, "metadata", "deletionTimestamp"):
        held = ", ".join(at(pod, "metadata", "finalizers") or ())
        if held:
            return f"the pod is being deleted, held by the finalizers {held}", "whoever set them has to take them away"
        return "the pod is being deleted", "wait for its successor"
    for status in at(pod, "status", "containerStatuses") or ():
        waiting = at(status, "state", "waiting", "reason")
        ended = at(status, "state", "terminated") or at(status, "lastState", "terminated") or {}
        reason = str(ended.get("reason") or "")
        if waiting == "CrashLoopBackOff" or (waiting is None and at(status, "state", "terminated")):
            code = ended.get("exitCode")
            why = f"its container {status.get('name')} ends again and again ({reason}, exit code {code})"
            return _ended(why, reason, f"kubectl logs {_named(pod)} --previous --tail=50")
        if waiting:
            why = f"its container {status.get('name')} waits: {waiting}"
            return _ended(why, str(waiting), f"kubectl events --for pod/{_named(pod)}")
    if is_ready(pod):
        return "", ""
    phase = str(at(pod, "status", "phase") or "Unknown")
    said = str(at(pod, "status", "message") or "")
    why = f"the pod is {phase} and not ready" + (f": {said}" if said else "")
    return why, f"kubectl events --for pod/{_named(pod)}"


def _ended(why: str, reason: str, look: str) -> tuple[str, str]:
    symptom = symptom_of_end(reason)
    return (why, look) if symptom is None else (f"{why}: {symptom.cause}", symptom.way_out)


def _named(pod: Object) -> str:
    """As kubectl takes it after a verb that is about pods."""
    namespace = at(pod, "metadata", "namespace")
    return name_of(pod) + (f" -n {namespace}" if namespace else "")


def _of_node(workload: Object, node: Object, pod: Object | None, said: Sequence[str]) -> NodeCoverage:
    name = name_of(node)
    if pod is None:
        away = _kept_away(workload, node) or _unfit(node)
        if away is None and said:
            return NodeCoverage(name, "uncovered", None, *not_created(said[0]), refused=True)
        return NodeCoverage(name, "uncovered", None, *(away or _not_there_yet(node)))
    if (placed := not_placed(pod)) is not None:
        return NodeCoverage(name, "uncovered", name_of(pod), f"its pod {name_of(pod)} is {placed[0]}", placed[1])
    why, step = trouble(pod)
    if why and not is_ready(node):
        # What the pod's own status says is from before the node was lost.
        why, step = _node_down(node)
    return NodeCoverage(name, "unhealthy" if why else "healthy", name_of(pod), why, step)


def _kept_away(workload: Object, node: Object) -> tuple[str, str] | None:
    """What of the workload or the node keeps a pod from being placed there, and what to do."""
    pod = at(workload, "spec", "template", "spec") or {}
    labels = at(node, "metadata", "labels") or {}
    for key, value in (pod.get("nodeSelector") or {}).items():
        if labels.get(key) != value and key in _ARCHITECTURE_LABELS:
            why = f"the architecture {labels.get(key)} is not the one that the node selector wants ({key}={value})"
            return why, "leave it so where the image is not built for it, or change spec.nodeSelector"
        if labels.get(key) != value and key == "kubernetes.io/hostname":
            return f"the node selector wants the node {value}", "change spec.nodeSelector"
        if labels.get(key) != value:
            return (
                f"the node selector wants {key}={value}, the node has {labels.get(key)!r}",
                "change spec.nodeSelector",
            )
    required = at(pod, "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = required.get("nodeSelectorTerms") or ()
    if terms and not any(_term_fits(term, labels, name_of(node)) for term in terms):
        return "the node does not fit the required node affinity", "change spec.affinity.nodeAffinity"
    for taint in at(node, "spec", "taints") or ():
        if taint.get("effect") in _BLOCKING and not _tolerated(taint, pod):
            shown = f"{taint.get('key')}{'=' + taint['value'] if taint.get('value') else ''}:{taint.get('effect')}"
            return f"the taint {shown} is not tolerated", f"add a toleration for {taint.get('key')}"
    return None


def _unfit(node: Object) -> tuple[str, str] | None:
    """What keeps OBI from running there though nothing keeps the pod from being placed."""
    info = at(node, "status", "nodeInfo") or {}
    architecture = str(info.get("architecture", ""))
    if architecture and architecture not in ARCHITECTURES:
        return f"the architecture {architecture} has no image of OBI", "leave it out by a node selector"
    release = str(info.get("kernelVersion", ""))
    if too_old(release):
        return f"the kernel {release} is older than 5.8", "use a newer node image"
    if not is_ready(node):
        return _node_down(node)
    return None


def _not_there_yet(node: Object) -> tuple[str, str]:
    """A pod is due, and nothing says why there is none."""
    if at(node, "spec", "unschedulable"):
        # Source: Kubernetes' documentation of DaemonSets: their pods tolerate node.kubernetes.io/unschedulable.
        return "no pod is there yet; that the node is cordoned does not keep it away", "wait, and look again"
    return _NOTHING_SAYS, "read the DaemonSet's events: kubectl events --for daemonset/NAME"


def _node_down(node: Object) -> tuple[str, str]:
    conditions = at(node, "status", "conditions") or ()
    reason = next((str(one.get("reason") or "") for one in conditions if one.get("type") == "Ready"), "")
    why = "the node is not ready" + (f" ({reason})" if reason else "")
    return why, "look at the node; OBI follows when it is back"


def _tolerated(taint: Object, pod: Object) -> bool:
    key = taint.get("key")
    if key in _TOLERATED_BY_ALL or (key == _TOLERATED_ON_HOST_NETWORK and pod.get("hostNetwork")):
        return True
    return any(_tolerates(toleration, taint) for toleration in pod.get("tolerations") or ())


def _tolerates(toleration: Object, taint: Object) -> bool:
    if toleration.get("effect") not in {None, "", taint.get("effect")}:
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return toleration.get("key") in {None, "", taint.get("key")}
    return toleration.get("key") == taint.get("key") and toleration.get("value", "") == taint.get("value", "")


def _term_fits(term: Object, labels: Mapping[str, str], name: str) -> bool:
    expressions = term.get("matchExpressions") or ()
    fields = term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    return all(_fits(entry, labels.get(entry.get("key", ""))) for entry in expressions) and all(
        entry.get("key") == "metadata.name" and _fits(entry, name) for entry in fields
    )


def _fits(entry: Object, value: str | None) -> bool:
    values: Iterable[str] = entry.get("values") or ()
    match entry.get("operator"):
        case "In":
            return value in set(values)
        case "NotIn":
            return value not in set(values)
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" as operator:
            wanted = next(iter(values), "")
            if value is None or not value.isdigit() or not wanted.isdigit():
                return False
            return int(value) > int(wanted) if operator == "Gt" else int(value) < int(wanted)
    return False
