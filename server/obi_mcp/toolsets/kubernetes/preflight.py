"""``obi_k8s_preflight``: can OBI run here, and may this server put it there."""

from __future__ import annotations

import asyncio
from typing import Any

from obi_mcp.errors import NotFound, ObiMcpError
from obi_mcp.obi.findings import Finding, Severity, findings_text, worst_first
from obi_mcp.obi.preflight import namespace_finding, node_findings, rights_findings
from obi_mcp.toolsets.base import Services, ToolCall, ToolResult, ToolSpec
from obi_mcp.toolsets.kubernetes.generate import FEATURES, requested_features
from obi_mcp.toolsets.kubernetes.place import PLACE, Place
from obi_mcp.toolsets.kubernetes.schema import arguments, result
from obi_mcp.toolsets.kubernetes.survey import survey

NAME = "obi_k8s_preflight"
RIGHTS = (
    ("create daemonsets.apps", True),
    ("create configmaps", True),
    ("create serviceaccounts", True),
    ("create clusterroles.rbac.authorization.k8s.io", False),
    ("create clusterrolebindings.rbac.authorization.k8s.io", False),
)
"""What a deployment writes, and whether in a namespace."""


def spec() -> ToolSpec:
    """The tool."""
    return ToolSpec(
        name=NAME,
        title="Can OBI run in this cluster",
        description=(
            "Looks at kernels, platform, taints, Pod Security, this server's rights, and OBI or Beyla that is there. "
            "Use it before a deployment, obi_k8s_verify_deployment after it."
        ),
        input_schema=arguments({**PLACE, "features": FEATURES}),
        output_schema=result("ready", "boolean", findings={"type": "array"}),
        run=run,
    )


async def run(services: Services, call: ToolCall) -> ToolResult:
    """All findings; ready unless one is an error."""
    place = Place.of(NAME, call)
    namespace = place.namespace or services.settings.scope.default_namespace
    features = requested_features(call.arguments)
    nodes, space, rights, there = await asyncio.gather(
        services.enforcer.read(place.call("kubectl get nodes -o json")),
        _namespace(services, place, namespace),
        _rights(services, place, namespace),
        _there(services, place),
    )
    findings = [*node_findings(nodes.objects, features), space, *rights, *there]
    if namespace not in services.settings.scope.namespaces:
        what = f"{namespace} is not in scope.namespaces, so this server writes nothing there"
        step = f"use one of {', '.join(services.settings.scope.namespaces)}, or have it added to scope.namespaces"
        findings.append(Finding("scope", Severity.ERROR, what, "", step))
    ordered = worst_first(findings)
    ready = not any(finding.severity is Severity.ERROR for finding in ordered)
    structured: dict[str, Any] = {"ready": ready, "findings": [finding.as_json() for finding in ordered]}
    headline = f"OBI can run here: {len(nodes.objects)} nodes" if ready else "OBI cannot run here as things are"
    return ToolResult(structured, "\n".join([headline, *findings_text(ordered)]), exit_code=0 if ready else 1)


async def _namespace(services: Services, place: Place, namespace: str) -> Finding:
    try:
        reading = await services.enforcer.read(place.call(f"kubectl get namespace {namespace} -o json"))
    except NotFound:
        return namespace_finding(namespace, None)
    return namespace_finding(namespace, next(iter(reading.objects), None))


async def _rights(services: Services, place: Place, namespace: str) -> list[Finding]:
    async def may(right: str, namespaced: bool) -> bool:
        where = f" -n {namespace}" if namespaced else ""
        answer = await services.enforcer.run(place.call(f"kubectl auth can-i {right}{where}"))
        return answer.stdout.strip().startswith("yes")

    answers = await asyncio.gather(*(may(right, namespaced) for right, namespaced in RIGHTS))
    return rights_findings(namespace, {right: may for (right, _), may in zip(RIGHTS, answers, strict=True)})


async def _there(services: Services, place: Place) -> list[Finding]:
    """OBI or Beyla that runs already: two of them on a node see everything twice."""
    try:
        seen = await survey(services, Place(place.tool, place.caller, place.context, None))
    except ObiMcpError as error:
        return [Finding("existing", Severity.WARNING, "what OBI is there already was not read", error.message)]
    return [
        Finding(
            "existing",
            Severity.WARNING,
            f"{workload.namespace}/{workload.name} runs already on {len(workload.pods)} nodes",
            workload.image,
            "change that one, or remove it first: two agents on a node report everything twice",
        )
        for workload in seen.workloads
    ]
