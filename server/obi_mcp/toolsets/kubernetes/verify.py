"""``obi_k8s_verify_deployment``: a verdict, each finding with evidence and the next step."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from obi_mcp.errors import NotFound, ObiMcpError
from obi_mcp.obi.bodies import Object, is_ready, name_of
from obi_mcp.obi.coverage import NodeCoverage, restarts, trouble
from obi_mcp.obi.crashes import OFTEN, crash_of
from obi_mcp.obi.findings import Finding, Severity, findings_text, worst_first
from obi_mcp.obi.symptoms import symptoms_in
from obi_mcp.obi.usage import near_limits, quantity, usage_of
from obi_mcp.toolsets.base import Services, ToolCall, ToolResult, ToolSpec
from obi_mcp.toolsets.kubernetes.last_lines import TAIL, log_lines, why_ended
from obi_mcp.toolsets.kubernetes.own_config import mounted_config
from obi_mcp.toolsets.kubernetes.place import PLACE, Place
from obi_mcp.toolsets.kubernetes.schema import arguments, result
from obi_mcp.toolsets.kubernetes.survey import Cache, Survey, Workload, complaints, measured_pods, survey

NAME = "obi_k8s_verify_deployment"
SAMPLE = 5
"""Pods whose log and metrics are looked into: on a thousand nodes the same thing is wrong on many."""
MAX_REASONS = 30
"""Why nodes are without OBI: more of them would be the nodes one by one."""
MEASURED_AT_MOST = 200
"""Pods up to which all are measured against their limits."""
SMALLEST_LIMIT_MIB = 512
# What a Go program serves of itself; a blind OBI serves nothing else.
_NOT_OBIS = ("promhttp_", "go_", "process_")
_NAMED_AT_MOST = 5


def spec() -> ToolSpec:
    """The tool."""
    return ToolSpec(
        name=NAME,
        title="Verify OBI in a cluster",
        description=(
            "Says whether OBI runs on every node and telemetry comes out, or what is wrong, with evidence and the next "
            "step."
        ),
        input_schema=arguments(PLACE),
        output_schema=result("verdict", "string", healthy={"type": "boolean"}, findings={"type": "array"}),
        run=run,
    )


async def run(services: Services, call: ToolCall) -> ToolResult:
    """The verdict over everything of OBI's in the place."""
    place = Place.of(NAME, call)
    seen = await survey(services, place, caches=True)
    findings = [finding for cache in seen.caches for finding in _cache(cache)]
    if not seen.workloads:
        what = f"no DaemonSet of OBI's is in {place.namespace or 'any namespace'}"
        findings.append(Finding("absent", Severity.ERROR, what, "", "obi_k8s_deploy plans one; or name its namespace"))
    for number, workload in enumerate(seen.workloads):
        if call.progress:
            await call.progress(number, len(seen.workloads), f"looking at {workload.namespace}/{workload.name}")
        findings += _rollout(workload) + _nodes(workload.coverage) + _pods(workload)
        findings += await _inside(services, place, workload, seen.selector)
    ordered = worst_first(findings)
    healthy = not any(finding.severity is Severity.ERROR for finding in ordered)
    verdict = _verdict(seen)
    structured: dict[str, Any] = {
        "verdict": verdict,
        "healthy": healthy,
        "findings": [finding.as_json() for finding in ordered],
    }
    return ToolResult(structured, "\n".join([verdict, *findings_text(ordered)]), exit_code=0 if healthy else 1)


def _verdict(seen: Survey) -> str:
    if not seen.workloads:
        return f"0/{seen.nodes} nodes covered"
    parts = []
    for workload in seen.workloads:
        states = [entry.state for entry in workload.coverage]
        covered, healthy = len(states) - states.count("uncovered"), states.count("healthy")
        name = f"{workload.namespace}/{workload.name}: " if len(seen.workloads) > 1 else ""
        parts.append(f"{name}{covered}/{seen.nodes} nodes covered, {healthy} healthy")
    return "; ".join(parts)


def _rollout(workload: Workload) -> list[Finding]:
    status, metadata = workload.body.get("status") or {}, workload.body["metadata"]
    name = f"{workload.namespace}/{workload.name}"
    if int(status.get("observedGeneration", 0)) < int(metadata.get("generation", 0)):
        what = f"the last change of {name} has not been taken up yet"
        return [Finding("generation", Severity.WARNING, what, "", "wait, and verify again")]
    updated = int(status.get("updatedNumberScheduled", 0))
    if updated < workload.desired:
        what = f"{updated} of {workload.desired} pods of {name} have its last change"
        if (workload.body["spec"].get("updateStrategy") or {}).get("type") == "OnDelete":
            step = "its update strategy is OnDelete: delete the pods one by one, and they come back with the change"
            return [Finding("rollout", Severity.WARNING, what, "updateStrategy: OnDelete", step)]
        step = f"kubectl rollout status ds/{workload.name} -n {workload.namespace} --timeout=60s"
        return [Finding("rollout", Severity.WARNING, what, "", step)]
    return []


def _cache(cache: Cache) -> list[Finding]:
    if cache.ready >= cache.desired:
        return []
    what = f"{cache.ready} of {cache.desired} pods of the k8s-cache {cache.namespace}/{cache.name} are ready"
    severity = Severity.WARNING if cache.ready else Severity.ERROR
    what += ": without it agents know no names of pods"
    step = cache.next_step or f"kubectl describe deployment {cache.name} -n {cache.namespace}"
    return [Finding("cache", severity, what, cache.why, step)]


def _nodes(coverage: tuple[NodeCoverage, ...]) -> list[Finding]:
    """Nodes in the same trouble are one finding."""
    groups: dict[tuple[str, str, bool], list[NodeCoverage]] = defaultdict(list)
    for entry in coverage:
        if entry.state != "healthy":
            # The name of a node's own pod must not make a group of its own.
            why = entry.why.replace(f"its pod {entry.pod} is", "its pod is") if entry.pod else entry.why
            groups[entry.state, why, entry.pod is None].append(entry)
    found = []
    for (state, why, podless), entries in groups.items():
        named = ", ".join(entry.node for entry in entries[:_NAMED_AT_MOST])
        named += f" and {len(entries) - _NAMED_AT_MOST} more" if len(entries) > _NAMED_AT_MOST else ""
        # A taint or a selector that keeps OBI away may be meant; a pod that cannot be made or is not well never is.
        meant = state == "uncovered" and podless and not entries[0].refused
        said = "no OBI" if state == "uncovered" else "an OBI that is not well"
        which = "1 node has" if len(entries) == 1 else f"{len(entries)} nodes have"
        severity = Severity.WARNING if meant else Severity.ERROR
        found.append(Finding(state, severity, f"{which} {said}: {why}", named, entries[0].next_step))
    if len(found) <= MAX_REASONS:
        return found
    rest = f"{len(found) - MAX_REASONS} more reasons for nodes without OBI, or with one that is not well"
    worst = worst_first(found)
    return [*worst[:MAX_REASONS], Finding("more", worst[0].severity, rest, "", "obi_k8s_status has each node")]


def _pods(workload: Workload) -> list[Finding]:
    found = []
    often = sorted(((restarts(pod), name_of(pod)) for pod in workload.pods), reverse=True)
    often = [(count, name) for count, name in often if count > OFTEN]
    if often:
        shown = ", ".join(f"{name} ({count})" for count, name in often[:_NAMED_AT_MOST])
        step = f"kubectl logs {often[0][1]} -n {workload.namespace} --previous --tail=50"
        found.append(Finding("restarts", Severity.WARNING, f"{len(often)} pods restarted often", shown, step))
    for pod in workload.pods:
        if "deletionTimestamp" in pod["metadata"] and pod["metadata"].get("finalizers"):
            why, step = trouble(pod)
            found.append(Finding("terminating", Severity.WARNING, f"{name_of(pod)}: {why}", "", step))
    versions = workload.versions()
    if len(versions) > 1:
        shown = ", ".join(f"{count} × {version}" for version, count in versions.items())
        what = f"{len(versions)} versions run at once"
        found.append(Finding("versions", Severity.WARNING, what, shown, "wait for the rollout, or look why it stopped"))
    return found + _limits(workload)


def _limits(workload: Workload) -> list[Finding]:
    container: Object = (workload.body["spec"]["template"]["spec"].get("containers") or ({},))[0]
    limit = str(((container.get("resources") or {}).get("limits") or {}).get("memory", ""))
    if not limit:
        what = f"{workload.namespace}/{workload.name} has no memory limit"
        return [Finding("limits", Severity.INFO, what, "", "set resources.limits.memory to about 2Gi")]
    if (quantity(limit) or 0.0) < SMALLEST_LIMIT_MIB * 2**20:
        what = f"the memory limit {limit} is small: BPF maps alone take about 340 MiB at the start"
        return [Finding("limits", Severity.WARNING, what, "", "request 512Mi and set the limit to about 2Gi")]
    return []


async def _inside(services: Services, place: Place, workload: Workload, selector: str) -> list[Finding]:
    """What a few pods say and serve: those that are not well, or were not, first."""
    staying = [pod for pod in workload.pods if "deletionTimestamp" not in pod["metadata"]]
    sample = sorted(staying, key=lambda pod: (is_ready(pod), crash_of(pod) is None))[:SAMPLE]
    asked = [_log(services, place, workload, pod) for pod in sample]
    asked += [_metrics(services, place, workload, pod) for pod in sample if is_ready(pod)]
    asked.append(_usage(services, place, workload, selector))
    asked += [_kept(services, place, workload, pod) for pod in sample if _is_kept(pod)]
    asked.append(_config(services, place, workload))
    found: dict[str, list[Finding]] = defaultdict(list)
    for findings in await asyncio.gather(*asked):
        for finding in findings:
            found[finding.id].append(finding)
    return [_of_several(same, len(sample)) for same in found.values()]


async def _usage(services: Services, place: Place, workload: Workload, selector: str) -> list[Finding]:
    """Of all pods, or of some where there are many: whose each measurement is has to be shown, and it is the limits
    that are looked at here; obi_k8s_status has all of them."""
    pods = workload.pods if len(workload.pods) <= MEASURED_AT_MOST else workload.pods[:SAMPLE]
    if not pods:
        return []
    which = " ".join(map(name_of, pods)) if len(pods) < len(workload.pods) else f"-l '{selector}'"
    measured = await measured_pods(services, place, f"{which} -n {workload.namespace} -o json")
    return near_limits(usage_of(measured, pods)) if isinstance(measured, tuple) else []


def _is_kept(pod: Object) -> bool:
    """On its node and not ready, though no container of it has ended."""
    placed = bool((pod.get("spec") or {}).get("nodeName"))
    return placed and not is_ready(pod) and crash_of(pod) is None and "deletionTimestamp" not in pod["metadata"]


async def _kept(services: Services, place: Place, workload: Workload, pod: Object) -> list[Finding]:
    """What the kubelet complains of: a volume, an image, the network, a probe."""
    said = await complaints(services, place, "Pod", name_of(pod), workload.namespace)
    if not said:
        return []
    if (pod.get("status") or {}).get("phase") == "Running":
        what = f"{name_of(pod)} runs, and its node does not find it ready"
        step = "is prometheus_export.port in its configuration the port of its probe? obi_k8s_config reads it"
        return [Finding("probe", Severity.ERROR, what, said[0], step)]
    step = f"kubectl events --for pod/{name_of(pod)} -n {workload.namespace}"
    return [Finding("pending", Severity.ERROR, f"{name_of(pod)} cannot be started on its node", said[0], step)]


async def _config(services: Services, place: Place, workload: Workload) -> list[Finding]:
    """What is wrong with the configuration in its config map: OBI ignores a key that is misspelt, and says nothing."""
    try:
        own = await mounted_config(services, place, workload.body)
    except NotFound as missing:
        return [_no_config(workload, missing)]
    except ObiMcpError as error:
        return [Finding("config", Severity.INFO, f"the configuration of {workload.name} was not read", error.message)]
    if own is None:
        return []
    step = f"obi_k8s_config with name {workload.name} and namespace {workload.namespace} plans the change"
    severities = {"error": Severity.ERROR, "warning": Severity.WARNING}
    return [
        Finding(f"config.{found.rule}", severities[found.severity], f"{own.target}: {found.message}", str(found), step)
        for found in own.findings(workload.body)
    ][:MAX_REASONS]


def _no_config(workload: Workload, missing: NotFound) -> Finding:
    what = f"{workload.namespace}/{workload.name} has no configuration: {missing.hint}"
    return Finding("config", Severity.ERROR, what, "", "obi_k8s_deploy with the deployment's arguments plans it again")


def _of_several(same: list[Finding], looked_at: int) -> Finding:
    """The same thing seen at several pods is one finding."""
    if len(same) == 1 or same[0].id == "metrics.port":
        return same[0]
    worst = max(same, key=lambda finding: finding.severity)
    return replace(worst, what=f"{worst.what} (and {len(same) - 1} more of the {looked_at} pods looked at)")


def _has_run(pod: Object) -> bool:
    states = [status.get("state") or {} for status in (pod.get("status") or {}).get("containerStatuses") or ()]
    return any("running" in state or "terminated" in state for state in states)


async def _log(services: Services, place: Place, workload: Workload, pod: Object) -> list[Finding]:
    crash = crash_of(pod)
    if crash is not None:
        return [await why_ended(services, place, workload.namespace, crash)]
    if not _has_run(pod):
        return []  # it has printed nothing, and why it does not run is said
    try:
        lines = await log_lines(services, place, f"{name_of(pod)} -n {workload.namespace} --tail={TAIL}")
    except ObiMcpError as error:
        return [Finding("log", Severity.INFO, f"the log of {name_of(pod)} was not read", error.message)]
    severity = Severity.WARNING if is_ready(pod) else Severity.ERROR
    return [
        Finding(f"log.{symptom.id}", severity, f"{name_of(pod)}: {symptom.cause}", symptom.evidence, symptom.way_out)
        for symptom in symptoms_in(lines)
    ]


async def _metrics(services: Services, place: Place, workload: Workload, pod: Object) -> list[Finding]:
    port = metrics_port(pod)
    if port is None:
        what = f"{workload.namespace}/{workload.name} declares no port, so its telemetry cannot be seen from here"
        return [Finding("metrics.port", Severity.INFO, what, "", "set prometheus_export.port and declare it as a port")]
    path = f"/api/v1/namespaces/{workload.namespace}/pods/{name_of(pod)}:{port}/proxy/metrics"
    try:
        answer = await services.enforcer.run(place.call(f"kubectl get --raw {path}"))
    except ObiMcpError as error:
        what = f"{name_of(pod)} does not serve its metrics"
        return [Finding("metrics", Severity.ERROR, what, error.message, error.hint or "read its log")]
    names = {line.split("{")[0].split(" ")[0] for line in answer.stdout.splitlines() if line and line[0] != "#"}
    if not any(not metric.startswith(_NOT_OBIS) for metric in names):
        what = f"{name_of(pod)} answers and serves no metric of OBI's: it looks healthy and sees nothing"
        return [
            Finding("metrics.blind", Severity.WARNING, what, ", ".join(sorted(names)[:5]), "read its log: obi_k8s_logs")
        ]
    return []


def metrics_port(pod: Object) -> int | None:
    """The port that its first container calls metrics, else its first TCP port."""
    containers: Sequence[Object] = (pod.get("spec") or {}).get("containers") or ({},)
    ports = [port for port in containers[0].get("ports") or () if port.get("protocol", "TCP") == "TCP"]
    named = [port for port in ports if "metrics" in str(port.get("name", ""))]
    return next((int(port["containerPort"]) for port in [*named, *ports] if "containerPort" in port), None)
