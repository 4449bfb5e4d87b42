"""``obi_k8s_preflight``: can OBI run here, and may this server put it there."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from obi_mcp.errors import Denied, NotFound, ObiMcpError, ProgramFailed
from obi_mcp.obi.bodies import Object
from obi_mcp.obi.bounds import Wanted, limit_findings, quota_findings
from obi_mcp.obi.findings import Finding, Severity, findings_text, worst_first
from obi_mcp.obi.preflight import namespace_finding, node_findings, rights_findings
from obi_mcp.toolsets.base import Services, ToolCall, ToolResult, ToolSpec
from obi_mcp.toolsets.kubernetes.generate import INSTALL, requested_install
from obi_mcp.toolsets.kubernetes.objects import list_of
from obi_mcp.toolsets.kubernetes.place import PLACE, Place
from obi_mcp.toolsets.kubernetes.plan import Step, dry_run
from obi_mcp.toolsets.kubernetes.schema import arguments, result
from obi_mcp.toolsets.kubernetes.survey import Survey, Workload, survey

if TYPE_CHECKING:
    from obi_mcp.obi.manifests.install import Install

NAME = "obi_k8s_preflight"
RIGHTS = (
    ("create daemonsets.apps", True),
    ("create configmaps", True),
    ("create serviceaccounts", True),
    ("create clusterroles.rbac.authorization.k8s.io", False),
    ("create clusterrolebindings.rbac.authorization.k8s.io", False),
)
"""What a deployment writes, and whether in a namespace."""
_ASKED = ("features", "name", "prometheus_port")


def spec() -> ToolSpec:
    """The tool."""
    return ToolSpec(
        name=NAME,
        title="Can OBI run in this cluster",
        description=(
            "Looks at kernels, platform, taints, Pod Security, quotas, rights, and OBI or Beyla that is there, and "
            "tries the deployment by a dry run. Use it before a deployment, obi_k8s_verify_deployment after it."
        ),
        input_schema=arguments({**PLACE, **{argument: INSTALL[argument] for argument in _ASKED}}),
        output_schema=result("ready", "boolean", findings={"type": "array"}),
        run=run,
    )


async def run(services: Services, call: ToolCall) -> ToolResult:
    """All findings; ready unless one is an error."""
    place = Place.of(NAME, call)
    install = requested_install(services, {key: value for key, value in call.arguments.items() if key != "context"})
    namespace = install.namespace
    nodes, (space, exists), rights, (seen, limited) = await asyncio.gather(
        services.enforcer.read(place.call("kubectl get nodes -o json")),
        _namespace(services, place, namespace),
        _rights(services, place, namespace),
        _there(services, place, namespace),
    )
    findings = [*node_findings(nodes.objects, install.features), space, *rights, *_existing(seen, install), *limited]
    if namespace not in services.settings.scope.namespaces:
        what = f"{namespace} is not in scope.namespaces, so this server writes nothing there"
        step = f"use one of {', '.join(services.settings.scope.namespaces)}, or have it added to scope.namespaces"
        findings.append(Finding("scope", Severity.ERROR, what, "", step))
    elif exists:
        findings += await _bounds(services, place, install, len(nodes.objects) - _pods_there(seen, namespace))
        if not any(finding.severity is Severity.ERROR for finding in rights):
            findings += await _tried(services, place, install)
    ordered = worst_first(findings)
    ready = not any(finding.severity is Severity.ERROR for finding in ordered)
    structured: dict[str, Any] = {"ready": ready, "findings": [finding.as_json() for finding in ordered]}
    headline = f"OBI can run here: {len(nodes.objects)} nodes" if ready else "OBI cannot run here as things are"
    return ToolResult(structured, "\n".join([headline, *findings_text(ordered)]), exit_code=0 if ready else 1)


async def _namespace(services: Services, place: Place, namespace: str) -> tuple[Finding, bool]:
    """What is to be said of it, and whether it exists."""
    try:
        reading = await services.enforcer.read(place.call(f"kubectl get namespace {namespace} -o json"))
    except NotFound:
        return namespace_finding(namespace, None), False
    body = next(iter(reading.objects), None)
    return namespace_finding(namespace, body), body is not None


async def _rights(services: Services, place: Place, namespace: str) -> list[Finding]:
    async def may(right: str, namespaced: bool) -> bool:
        where = f" -n {namespace}" if namespaced else ""
        answer = await services.enforcer.run(place.call(f"kubectl auth can-i {right}{where}"))
        return answer.stdout.strip().startswith("yes")

    answers = await asyncio.gather(*(may(right, namespaced) for right, namespaced in RIGHTS))
    return rights_findings(namespace, {right: may for (right, _), may in zip(RIGHTS, answers, strict=True)})


async def _there(services: Services, place: Place, namespace: str) -> tuple[Survey | ObiMcpError, list[Finding]]:
    """In all namespaces, or in this one where the account may not look further, which is said."""
    limited: list[Finding] = []
    for where in (None, namespace):
        try:
            return await survey(services, replace(place, namespace=where)), limited
        except ProgramFailed as error:
            seen, what = error, f"whether OBI runs in other namespaces than {namespace} was not seen"
            limited = [Finding("elsewhere", Severity.INFO, what, error.message, error.hint or "")]
        except ObiMcpError as error:
            return error, []
    return seen, []


def _existing(seen: Survey | ObiMcpError, install: Install) -> list[Finding]:
    """OBI or Beyla that runs already: two of them on a node see everything twice, or want one port."""
    if isinstance(seen, ObiMcpError):
        return [Finding("existing", Severity.WARNING, "what OBI is there already was not read", seen.message)]
    found = []
    for workload in seen.workloads:
        which = f"{workload.namespace}/{workload.name}"
        what = f"{which} runs already on {len(workload.pods)} nodes"
        step = "change that one, or remove it first: two agents on a node report everything twice"
        found.append(Finding("existing", Severity.WARNING, what, workload.image, step))
        other = (workload.namespace, workload.name) != (install.namespace, install.name)
        if other and install.host_network and install.prometheus_port in _ports_of_nodes(workload):
            what = f"the port {install.prometheus_port} of the nodes is taken by {which}"
            step = "give another prometheus_port, or remove that one first"
            found.append(Finding("port", Severity.ERROR, what, workload.image, step))
    return found


def _ports_of_nodes(workload: Workload) -> set[int]:
    """The ports that its pods take of their nodes."""
    pod: Object = workload.body["spec"]["template"]["spec"]
    name = "containerPort" if pod.get("hostNetwork") else "hostPort"
    return {
        int(port[name])
        for container in pod.get("containers") or ()
        for port in container.get("ports") or ()
        if name in port
    }


def _pods_there(seen: Survey | ObiMcpError, namespace: str) -> int:
    """Pods of OBI's that the namespace's quotas count already."""
    if isinstance(seen, ObiMcpError):
        return 0
    return sum(len(workload.pods) for workload in seen.workloads if workload.namespace == namespace)


async def _bounds(services: Services, place: Place, install: Install, pods: int) -> list[Finding]:
    """What quotas and limit ranges of the namespace say to so many more pods."""
    from obi_mcp.obi.manifests.objects import resources_of

    resources = resources_of(install)
    wanted = Wanted(max(pods, 0), resources.requests, resources.limits)
    where = f"-n {install.namespace} -o json"
    try:
        quotas, ranges = await asyncio.gather(
            services.enforcer.read(place.call(f"kubectl get resourcequotas {where}")),
            services.enforcer.read(place.call(f"kubectl get limitranges {where}")),
        )
    except (Denied, ProgramFailed) as error:
        what = f"the quotas and limit ranges of {install.namespace} were not read"
        return [Finding("quota", Severity.INFO, what, error.message, error.hint or "")]
    return [*quota_findings(quotas.objects, wanted), *limit_findings(ranges.objects, wanted)]


async def _tried(services: Services, place: Place, install: Install) -> list[Finding]:
    """What policy, API server and admission say to the objects: names that are taken, fields that cannot change."""
    from obi_mcp.obi.manifests.json_form import body_of
    from obi_mcp.obi.manifests.objects import installed_objects

    bodies = [body_of(thing) for thing in installed_objects(install) if thing.kind != "Namespace"]
    try:
        await dry_run(services, place, Step("kubectl apply -f -", (), list_of(bodies)))
    except ObiMcpError as error:
        what = f"a deployment {install.name} in {install.namespace} would be refused"
        return [Finding("dry-run", Severity.ERROR, what, error.message, error.hint or "")]
    return [Finding("dry-run", Severity.INFO, f"the API server takes the {len(bodies)} objects of a deployment")]
