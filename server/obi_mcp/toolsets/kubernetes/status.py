"""``obi_k8s_status``: what runs where, how it is, and which nodes are without OBI."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

from obi_mcp.errors import Denied, InvalidArgument, ObiMcpError, ProgramFailed
from obi_mcp.obi.bodies import Object, name_of
from obi_mcp.obi.log_lines import parse_line
from obi_mcp.obi.usage import Usage
from obi_mcp.toolsets.base import Services, ToolCall, ToolResult, ToolSpec
from obi_mcp.toolsets.kubernetes.place import PLACE, Place
from obi_mcp.toolsets.kubernetes.schema import arguments, result
from obi_mcp.toolsets.kubernetes.survey import Survey, Workload, pod_row, survey

NAME = "obi_k8s_status"
DEFAULT_LIMIT = 50
MAX_LIMIT = 1_000
MAX_ERRORS = 5
"""Pods whose last error is looked for in their logs."""
TAIL = 100
MAX_LINE = 500
NAMED_AT_MOST = 5
_QUOTA = ("hard", "used")


def spec() -> ToolSpec:
    """The tool."""
    return ToolSpec(
        name=NAME,
        title="Status of OBI in a cluster",
        description=(
            "Shows OBI's DaemonSets: rollout, pods by node, restarts, versions, nodes without OBI and why. "
            "For a verdict use obi_k8s_verify_deployment."
        ),
        input_schema=arguments(
            {
                **PLACE,
                "limit": {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
                "cursor": {"type": "string", "maxLength": 12, "description": "next_cursor of the last page."},
            }
        ),
        output_schema=result("workloads", "array"),
        run=run,
    )


async def run(services: Services, call: ToolCall) -> ToolResult:
    """Reads and shows; pods that are not well come first."""
    place = Place.of(NAME, call)
    limit, start = call.arguments.get("limit", DEFAULT_LIMIT), _start(call.arguments.get("cursor"))
    seen = await survey(services, place, usage=True, caches=True)
    structured: dict[str, Any] = {
        "nodes": seen.nodes,
        "workloads": [
            {**workload_row(workload), "usage": seen.usage.of(map(name_of, workload.pods))}
            for workload in seen.workloads
        ],
    }
    if seen.caches:
        structured["k8s_caches"] = [cache.as_json() for cache in seen.caches]
    if quotas := await _quotas(services, place, seen):
        structured["quotas"] = quotas
    rows = [_row(workload, pod, seen.usage) for workload in seen.workloads for pod in workload.pods]
    rows.sort(key=lambda row: (row["ready"] and "why" not in row, row["namespace"], row["name"]))
    structured["pods"] = shown = rows[start : start + limit]
    await _last_errors(services, place, shown)
    if start + limit < len(rows):
        structured["next_cursor"] = str(start + limit)
    if seen.skipped:
        structured["skipped"] = seen.skipped
    return ToolResult(structured, _text(seen, structured))


def workload_row(workload: Workload) -> dict[str, Any]:
    """One DaemonSet as the tools show it."""
    states = [entry.state for entry in workload.coverage]
    status = workload.body.get("status") or {}
    return {
        "name": workload.name,
        "namespace": workload.namespace,
        "image": workload.image,
        "desired": workload.desired,
        "ready": workload.ready,
        "updated": int(status.get("updatedNumberScheduled", 0)),
        "versions": workload.versions(),
        "covered": len(states) - states.count("uncovered"),
        "healthy": states.count("healthy"),
        "uncovered": [
            {"node": entry.node, "why": entry.why, "next_step": entry.next_step}
            for entry in workload.coverage
            if entry.state == "uncovered"
        ],
    }


def _row(workload: Workload, pod: Object, usage: Usage) -> dict[str, Any]:
    used = usage.pods.get(name_of(pod))
    return {"namespace": workload.namespace, **pod_row(pod), **({"usage": used.as_json()} if used else {})}


async def _last_errors(services: Services, place: Place, rows: list[dict[str, Any]]) -> None:
    """Puts the last line of an error beside the first pods that are not well or were started again."""
    ailing = [row for row in rows if "why" in row or row["restarts"]][:MAX_ERRORS]

    async def look(row: dict[str, Any]) -> None:
        previous = " --previous" if row["restarts"] else ""
        command = f"kubectl logs {row['name']} -n {row['namespace']} --tail={TAIL}{previous}"
        try:
            reading = await services.enforcer.read_logs(place.call(command))
        except ObiMcpError:
            return  # what is wrong with the pod is said beside it
        records = [parse_line(line) for log in reading.logs for line in log.text.splitlines()]
        errors = [record.text for record in records if record.kind == "log" and record.level == "ERROR"]
        if errors:
            row["last_error"] = errors[-1][:MAX_LINE]

    await asyncio.gather(*(look(row) for row in ailing))


async def _quotas(services: Services, place: Place, seen: Survey) -> list[dict[str, Any]]:
    """The quotas of the namespaces with OBI in them, where the policy and the account's rights let them be read."""
    scope = services.settings.scope
    readable = {*scope.namespaces, *scope.instrumented_namespaces}
    found = []
    for namespace in sorted({workload.namespace for workload in seen.workloads} & readable):
        try:
            reading = await services.enforcer.read(place.call(f"kubectl get resourcequotas -n {namespace} -o json"))
        except (Denied, ProgramFailed):
            continue  # an account of before may not; everything else of the status is worth having
        for quota in reading.objects:
            status = quota.get("status") or {}
            found.append({"name": name_of(quota), "namespace": namespace, **{k: status.get(k, {}) for k in _QUOTA}})
    return found


def _start(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not cursor.isascii() or not cursor.isdigit():
        raise InvalidArgument(f"{cursor!r} is no cursor", "give next_cursor of the page before, or leave it out")
    return int(cursor)


def _text(seen: Survey, structured: dict[str, Any]) -> str:
    if not seen.workloads:
        return f"no DaemonSet of OBI's was found ({seen.nodes} nodes); obi_k8s_deploy plans one"
    lines = []
    for row in structured["workloads"]:
        lines.append(
            f"{row['namespace']}/{row['name']} {row['image']}: {row['covered']}/{seen.nodes} nodes covered, "
            f"{row['healthy']} healthy, {row['ready']}/{row['desired']} pods ready"
        )
        lines += _without(row["uncovered"])
        lines.append(f"  usage: {_usage_text(row['usage'])}")
    for cache in structured.get("k8s_caches", ()):
        lines.append(f"k8s-cache {cache['namespace']}/{cache['name']}: {cache['ready']}/{cache['desired']} pods ready")
    for pod in structured["pods"][:20]:
        lines.append(
            f"  {pod['name']} on {pod['node']}: {'ready' if pod['ready'] else 'not ready'}, "
            f"{pod['restarts']} restarts, {pod['version']}" + (f": {pod['why']}" if "why" in pod else "")
        )
    if len(structured["pods"]) > 20 or "next_cursor" in structured:
        lines.append("  … more pods in structuredContent.pods")
    return "\n".join(lines)


def _without(uncovered: list[dict[str, str]]) -> list[str]:
    """A line for each reason, with the first of its nodes."""
    nodes: dict[str, list[str]] = defaultdict(list)
    for entry in uncovered:
        nodes[entry["why"]].append(entry["node"])
    lines = []
    for why, names in nodes.items():
        more = f" and {len(names) - NAMED_AT_MOST} more" if len(names) > NAMED_AT_MOST else ""
        lines.append(f"  without OBI: {', '.join(names[:NAMED_AT_MOST])}{more}: {why}")
    return lines[:20]


def _usage_text(used: dict[str, Any]) -> str:
    if "unknown" in used:
        return f"unknown: {used['unknown']}"
    cpu, memory = used["cpu_m"], used["memory_mib"]
    return (
        f"processor {cpu['median']:g}m (most {cpu['max']:g}m), memory {memory['median']:g} MiB "
        f"(most {memory['max']:g} MiB)"
    )
