"""Why a pod that was made for a node is not on it yet: what the scheduler says, in its words for that one node.

Source of fact: the messages of kube-scheduler's plugins (NodeResourcesFit, NodePorts, TaintToleration, NodeAffinity,
NodeUnschedulable, VolumeBinding) in a pod's condition PodScheduled; a DaemonSet's controller binds each pod to its node
by a required affinity on ``metadata.name``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from obi_mcp.obi.bodies import Object, at, name_of

_COUNTED = re.compile(r"\d+ (?:node\(s\) )?(.+)")
# What the scheduler says after the reasons: of resource claims (from 1.34 on), and of who else might make room.
_NOT_THE_REASON = re.compile(r"[.,] (?:no new claims|still not schedulable|preemption:)")
# What is said of every node but the one that the pod is made for.
_OF_OTHERS = re.compile(r"NodeAffinity|node affinity|node selector", re.IGNORECASE)
_STEPS = (
    ("Insufficient", "make room on the node, or lower the resource requests of OBI's container"),
    ("Too many pods", "make room on the node: it runs as many pods as it may"),
    ("free ports", "another pod uses that port of the node: change OBI's port, or take the other one away"),
    ("taint", "add a toleration for it"),
    ("unschedulable", "the node is cordoned: kubectl uncordon, by whoever cordoned it"),
)
_CREATIONS = (
    ("exceeded quota", "have the namespace's quota raised, or lower the resource requests of OBI's container"),
    ("PodSecurity", "label the namespace pod-security.kubernetes.io/enforce=privileged, or use one that is"),
    ("serviceaccount", "create the service account that the DaemonSet names"),
    ("failed calling webhook", "an admission webhook of the cluster does not answer: ask whoever runs it"),
    ("denied request", "an admission policy of the cluster refuses the pod: ask whoever runs it for an exception"),
    ("denied the request", "an admission webhook of the cluster refuses the pod: ask whoever runs it for an exception"),
    ("maximum", "the namespace's limit range does not let such a pod in: see its limits"),
    ("minimum", "the namespace's limit range does not let such a pod in: see its limits"),
)


def meant_for(pod: Object) -> str:
    """The node that a DaemonSet's pod is made for, also while it is on none; empty where nothing says."""
    if name := at(pod, "spec", "nodeName"):
        return str(name)
    affinity = at(pod, "spec", "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
    for term in at(affinity, "nodeSelectorTerms") or ():
        for field in term.get("matchFields") or ():
            values: Sequence[str] = field.get("values") or ()
            if field.get("key") == "metadata.name" and field.get("operator") == "In" and len(values) == 1:
                return str(values[0])
    return ""


def not_placed(pod: Object) -> tuple[str, str] | None:
    """Why the scheduler leaves the pod where it is, and what to do; None for one that it has placed."""
    if at(pod, "spec", "nodeName"):
        return None
    for condition in at(pod, "status", "conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            said = _of_this_node(str(condition.get("message") or condition.get("reason") or ""))
            where = f"{name_of(pod)} -n {at(pod, 'metadata', 'namespace')}"
            step = _step(said, _STEPS) or f"read the pod's events: kubectl events --for pod/{where}"
            return f"not scheduled: {said}", step
    return "not scheduled yet", "wait, or look whether the cluster's scheduler runs"


def not_created(said: str) -> tuple[str, str]:
    """Why the controller could not make a pod, from its event's message, and what to do."""
    words = re.sub(
        r'^(?:\(combined from similar events\): )?Error creating: (?:pods? "[^"]*" is forbidden: )?', "", said.strip()
    )
    return f"no pod could be made: {words}", _step(said, _CREATIONS) or "do what the message asks for"


def _of_this_node(message: str) -> str:
    """``0/4 nodes are available: 1 Insufficient cpu, 3 node(s) didn't match …. preemption: …``: the first part."""
    _, found, rest = message.partition(" nodes are available: ")
    if not found:
        return message
    parts = re.split(r",\s+(?=\d+ )", _NOT_THE_REASON.split(rest, maxsplit=1)[0].rstrip(". "))
    counted = [match.group(1) for match in map(_COUNTED.fullmatch, parts) if match]
    own = [part for part in counted if not _OF_OTHERS.search(part)] or counted
    return ", ".join(own) or message


def _step(said: str, steps: tuple[tuple[str, str], ...]) -> str:
    return next((step for word, step in steps if word in said), "")
