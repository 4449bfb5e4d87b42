"""The one write into somebody else's Deployment: OBI's container beside theirs, and nothing else changed."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

from obi_mcp.policy.manifest.change import comparable, judge_change
from obi_mcp.policy.manifest.findings import Inspection, Judgement, Mode
from obi_mcp.policy.manifest.pods import fits_together
from obi_mcp.policy.manifest.walk import walk

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from obi_mcp.policy.manifest.closed_schema import Node
    from obi_mcp.policy.manifest.judge import ManifestPolicy
    from obi_mcp.policy.model import Document
    from obi_mcp.policy.scope import Scope

_POD = "spec.template.spec"


def judge_sidecar(
    policy: ManifestPolicy,
    before: Mapping[str, Any],
    after: Document,
    *,
    scope: Scope,
    applied: Mapping[str, Any] | None = None,
    stays: bool = True,
) -> Judgement:
    """Whether ``after`` is ``before`` with exactly one container of OBI's, its volumes and a shared process namespace.

    ``before`` is the live Deployment, ``after`` what the server-side dry run gives. In a namespace of
    ``instrumented_namespaces`` only. ``stays`` False: the container is taken away, and does nobody any harm.
    """
    inspection = policy.inspection(after, scope=scope, batch=(after,), mode=Mode.STORED)
    if after.kind != "Deployment" or after.api_version != "apps/v1":
        inspection.violate("sidecar", f"a {after.kind} takes no sidecar of OBI's", "kind", "name a Deployment")
    elif after.namespace not in scope.instrumented_namespaces:
        hint = "have it added to scope.instrumented_namespaces"
        inspection.violate("namespace", f"OBI instruments nothing in {after.namespace}", "metadata.namespace", hint)
    else:
        _compare(policy, before, after.body, inspection)
        if stays and inspection.failures == 0:
            _harmless(before, after.body, after.namespace in scope.namespaces, inspection)
    return inspection.judgement() + judge_change(before, after, scope=scope, applied=applied)


def _compare(
    policy: ManifestPolicy, before: Mapping[str, Any], after: Mapping[str, Any], inspection: Inspection
) -> None:
    # Copies: what is allowed to differ is taken out of both before they are compared.
    was, becomes = deepcopy(comparable(before)), deepcopy(comparable(after))
    pod_was, pod = _pod(was), _pod(becomes)
    if pod_was is None or pod is None:
        inspection.violate("sidecar", "one of the two has no pod template", _POD)
        return
    containers = _added(pod_was, pod, "containers", inspection)
    volumes = _added(pod_was, pod, "volumes", inspection)
    if len(containers) != 1:
        inspection.violate("sidecar", f"{len(containers)} containers are added; exactly one is", f"{_POD}.containers")
    pod_was.pop("shareProcessNamespace", None)
    if pod.pop("shareProcessNamespace", None) is not True:
        where = f"{_POD}.shareProcessNamespace"
        inspection.violate("sidecar", "OBI sees the others only in a shared process namespace", where, "set it to true")
    if was != becomes:
        inspection.violate(
            "sidecar", "more than OBI's container and volumes would change", "spec", "leave the rest alone"
        )
    _judge_added(policy, containers, volumes, inspection, host_network=pod.get("hostNetwork") is True)


def _added(
    was: dict[str, Any], becomes: dict[str, Any], field: str, inspection: Inspection
) -> dict[int, dict[str, Any]]:
    """What ``becomes`` has in the list that ``was`` has not, by position; taken out of ``becomes``."""
    before, after = was.get(field) or [], becomes.get(field) or []
    if not isinstance(before, list) or not isinstance(after, list):
        inspection.violate("type", f"{field} is not a list", f"{_POD}.{field}")
        return {}
    names = {entry.get("name") for entry in before if isinstance(entry, dict)}
    added = {
        position: entry
        for position, entry in enumerate(after)
        if isinstance(entry, dict) and entry.get("name") not in names
    }
    kept = [entry for position, entry in enumerate(after) if position not in added]
    was[field], becomes[field] = before, kept
    return added


def _judge_added(
    policy: ManifestPolicy,
    containers: Mapping[int, dict[str, Any]],
    volumes: Mapping[int, dict[str, Any]],
    inspection: Inspection,
    *,
    host_network: bool,
) -> None:
    """The added parts pass as if they stood in a DaemonSet of OBI's."""
    pod_node = _agent_pod(policy)
    for field, entries in (("containers", containers), ("volumes", volumes)):
        node = (pod_node.fields or {})[field].item
        for position, entry in entries.items():
            if node is not None:
                walk(entry, node, f"{_POD}.{field}[{position}]", inspection, policy.predicates)
    if inspection.failures == 0:
        of = next(check.of for check in pod_node.checks if check.name == "pod")
        for position, container in containers.items():
            path = f"{_POD}.containers[{position}]"
            fits_together(
                container, {v["name"]: v for v in volumes.values()}, of, path, inspection, host_network=host_network
            )


def _harmless(before: Mapping[str, Any], after: Mapping[str, Any], ours: bool, inspection: Inspection) -> None:
    """The container takes no port of theirs, by number or by name, and reads no Secret that is not OBI's.

    It stands before theirs in the list, and the first port of a name is the one to which a Service leads.
    """
    theirs, pod = _pod(before) or {}, _pod(after) or {}
    others = [*(theirs.get("containers") or []), *(theirs.get("initContainers") or [])]
    ports = [port for other in others for port in other.get("ports") or []]
    taken = {str(port[key]) for port in ports for key in ("name", "containerPort", "hostPort") if port.get(key)}
    known = {container.get("name") for container in others}
    for position, container in enumerate(pod.get("containers") or []):
        if container.get("name") in known:
            continue
        at = f"{_POD}.containers[{position}]"
        for port in sorted(taken & set(_opened(container))):
            inspection.violate("port", f"the port {port} is one of theirs", f"{at}.ports", "give OBI another one")
        if not ours and any((entry.get("valueFrom") or {}).get("secretKeyRef") for entry in container.get("env") or []):
            inspection.violate("secret", "a Secret there is theirs, not OBI's", f"{at}.env", "leave it out")


def _opened(container: Mapping[str, Any]) -> Iterator[str]:
    """Names and numbers of the ports on which OBI's container would listen."""
    for port in container.get("ports") or []:
        yield from (str(port[key]) for key in ("name", "containerPort") if port.get(key))
    for entry in container.get("env") or []:
        name = str(entry.get("name"))
        if name.endswith("_PORT") and not name.endswith(("_OPEN_PORT", "_OTLP_GRPC_PORT")):
            yield str(entry.get("value", "")).strip().lstrip("+0")


def _agent_pod(policy: ManifestPolicy) -> Node:
    node = policy.kinds["DaemonSet"].root
    for field in ("spec", "template", "spec"):
        node = (node.fields or {})[field]
    return node


def _pod(body: Mapping[str, Any]) -> dict[str, Any] | None:
    spec = body.get("spec")
    template = spec.get("template") if isinstance(spec, dict) else None
    pod = template.get("spec") if isinstance(template, dict) else None
    return pod if isinstance(pod, dict) else None
