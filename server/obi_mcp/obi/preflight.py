"""Whether OBI can run on the nodes of a cluster, from what Kubernetes tells of them: findings with evidence.

Sources: the kernels and capabilities that OBI documents, the Pod Security Standards, and the labels by which managed
platforms mark their nodes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from obi_mcp.obi.bodies import Object, at, name_of
from obi_mcp.obi.capabilities import Feature, kernel_of, needed, too_old
from obi_mcp.obi.coverage import ARCHITECTURES
from obi_mcp.obi.findings import Finding, Severity

# From these on context propagation needs tracefs; source: OBI's source and public issues.
_NEEDS_TRACEFS = ((6, 6, 128), (6, 12, 75), (6, 18, 14))
_PLATFORMS = (
    ("eks.amazonaws.com/", "Amazon EKS", "perf_event_paranoid is 3 there: probes need SYS_ADMIN"),
    ("cloud.google.com/gke-autopilot", "GKE Autopilot", "privileged pods and host paths need an allow-listed workload"),
    ("cloud.google.com/gke-", "GKE", "on Container-Optimized OS OBI v0.5 and v0.6 cannot load the log enricher"),
    ("kubernetes.azure.com/", "AKS", "perf_event_paranoid is 3 there: probes need SYS_ADMIN"),
    ("node.openshift.io/", "OpenShift", "OBI's service account needs a SecurityContextConstraint that allows it"),
    ("bottlerocket.aws/", "Bottlerocket", "the kernel may be locked down: Go context propagation stays off"),
    ("eks.amazonaws.com/compute-type", "EKS Fargate", "there are no DaemonSets on Fargate"),
)
_POD_SECURITY = "pod-security.kubernetes.io/enforce"
_NAMED = 5


def node_findings(nodes: Sequence[Object], features: Sequence[Feature]) -> list[Finding]:
    """What the nodes themselves say: kernels, architectures, operating systems, platforms, taints."""
    return [*_kernels(nodes, features), *_architectures(nodes), *_platforms(nodes), *_taints(nodes)]


def namespace_finding(namespace: str, body: Object | None) -> Finding:
    """Whether the namespace lets a pod in that sees the whole node."""
    if body is None:
        return Finding(
            "namespace",
            Severity.INFO,
            f"the namespace {namespace} does not exist yet",
            "",
            "obi_k8s_generate_daemonset writes it, with the labels that Pod Security wants",
        )
    level = str(at(body, "metadata", "labels", _POD_SECURITY) or "")
    if level in {"baseline", "restricted"}:
        return Finding(
            "pod-security",
            Severity.ERROR,
            f"the namespace {namespace} enforces the Pod Security level {level}, which refuses hostPID and host paths",
            f"{_POD_SECURITY}={level}",
            f"label it {_POD_SECURITY}=privileged, or use a namespace of OBI's own",
        )
    return Finding(
        "pod-security", Severity.INFO, f"the namespace {namespace} lets OBI's pods in", level or "no level set"
    )


def rights_findings(namespace: str, rights: Mapping[str, bool]) -> list[Finding]:
    """What the server's account may not do of what a deployment needs; ``rights``: ``create daemonsets.apps`` → may."""
    missing = [right for right, may in rights.items() if not may]
    if not missing:
        return [Finding("rights", Severity.INFO, "this server's account may deploy OBI", ", ".join(rights))]
    what = f"this server's account lacks {len(missing)} rights that a deployment needs"
    step = f"obi-mcp rbac --access non-destructive --namespace {namespace} writes them"
    return [Finding("rights", Severity.ERROR, what, ", ".join(missing), step)]


def _kernels(nodes: Sequence[Object], features: Sequence[Feature]) -> Iterable[Finding]:
    versions: dict[str, list[str]] = defaultdict(list)
    for node in nodes:
        versions[str(_info(node).get("kernelVersion", "unknown"))].append(name_of(node))
    propagating = {Feature.CONTEXT_PROPAGATION, Feature.GO_CONTEXT_PROPAGATION} & set(features)
    for version, names in sorted(versions.items()):
        number = kernel_of(version)
        if number is None:
            yield Finding("kernel", Severity.WARNING, f"the kernel of {_shown(names)} is not known", version)
            continue
        if too_old(version):
            what = f"the kernel {version} of {_shown(names)} is older than 5.8"
            yield Finding("kernel", Severity.ERROR, what, version, "use a newer node image")
            continue
        capabilities = needed(features, kernel=number[:2]).capabilities
        what = f"the kernel {version} of {_shown(names)} runs OBI with {', '.join(capabilities)}"
        yield Finding("kernel", Severity.INFO, what, version)
        if propagating and any(number[:2] == first[:2] and number >= first for first in _NEEDS_TRACEFS):
            what = f"context propagation on the kernel {version} needs /sys/kernel/tracing in the pod"
            yield Finding("tracefs", Severity.INFO, what, version, "generated manifests mount it")


def _architectures(nodes: Sequence[Object]) -> Iterable[Finding]:
    others: dict[str, list[str]] = defaultdict(list)
    for node in nodes:
        info = _info(node)
        system, architecture = str(info.get("operatingSystem", "linux")), str(info.get("architecture", ""))
        if system != "linux" or (architecture and architecture not in ARCHITECTURES):
            others[f"{system}/{architecture}"].append(name_of(node))
    for kind, names in sorted(others.items()):
        what = f"{_shown(names)} are {kind}, for which there is no OBI"
        yield Finding("architecture", Severity.WARNING, what, kind, "they stay without OBI; a node selector says so")


def _platforms(nodes: Sequence[Object]) -> Iterable[Finding]:
    seen: dict[str, Finding] = {}
    for node in nodes:
        labels = at(node, "metadata", "labels") or {}
        for prefix, platform, consequence in _PLATFORMS:
            if platform not in seen and any(key.startswith(prefix) for key in labels):
                key = next(key for key in labels if key.startswith(prefix))
                severity = Severity.ERROR if "Fargate" in platform and labels[key] == "fargate" else Severity.INFO
                if "Fargate" not in platform or severity is Severity.ERROR:
                    seen[platform] = Finding("platform", severity, f"{platform}: {consequence}", f"{key}={labels[key]}")
    return seen.values()


def _taints(nodes: Sequence[Object]) -> Iterable[Finding]:
    tainted: dict[str, list[str]] = defaultdict(list)
    for node in nodes:
        for taint in at(node, "spec", "taints") or ():
            key, effect = str(taint.get("key")), str(taint.get("effect"))
            if effect in {"NoSchedule", "NoExecute"} and not key.startswith("node.kubernetes.io/"):
                tainted[f"{key}:{effect}"].append(name_of(node))
    for taint, names in sorted(tainted.items()):
        what = f"{_shown(names)} have the taint {taint}"
        step = (
            "they stay without OBI unless the DaemonSet tolerates it (the production preset tolerates control planes)"
        )
        yield Finding("taint", Severity.WARNING, what, taint, step)


def _info(node: Object) -> Object:
    info: Object = at(node, "status", "nodeInfo") or {}
    return info


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
