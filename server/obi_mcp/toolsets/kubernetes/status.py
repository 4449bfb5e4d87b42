"""``obi_k8s_status``: what runs where, how it is, and which nodes are without OBI."""

from __future__ import annotations

from typing import Any

from obi_mcp.errors import InvalidArgument
from obi_mcp.toolsets.base import Services, ToolCall, ToolResult, ToolSpec
from obi_mcp.toolsets.kubernetes.place import PLACE, Place
from obi_mcp.toolsets.kubernetes.schema import arguments, result
from obi_mcp.toolsets.kubernetes.survey import Survey, Workload, pod_row, survey

NAME = "obi_k8s_status"
DEFAULT_LIMIT = 50
MAX_LIMIT = 1_000


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
    seen = await survey(services, place)
    structured: dict[str, Any] = {
        "nodes": seen.nodes,
        "workloads": [workload_row(workload) for workload in seen.workloads],
    }
    rows = [{"namespace": w.namespace, **pod_row(pod)} for w in seen.workloads for pod in w.pods]
    rows.sort(key=lambda row: (row["ready"] and "why" not in row, row["namespace"], row["name"]))
    structured["pods"] = rows[start : start + limit]
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


def _start(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not cursor.isascii() or not cursor.isdigit():
        raise InvalidArgument(f"{cursor!r} is no cursor", "give next_cursor of the page before, or leave it out")
    return int(cursor)


def _text(seen: Survey, structured: dict[str, Any]) -> str:
    if not seen.workloads:
        return f"no DaemonSet of OBI's was found ({seen.nodes} nodes); obi_k8s_generate_daemonset writes one"
    lines = []
    for row in structured["workloads"]:
        lines.append(
            f"{row['namespace']}/{row['name']} {row['image']}: {row['covered']}/{seen.nodes} nodes covered, "
            f"{row['healthy']} healthy, {row['ready']}/{row['desired']} pods ready"
        )
        lines += [f"  without OBI: {entry['node']}: {entry['why']}" for entry in row["uncovered"][:20]]
    for pod in structured["pods"][:20]:
        lines.append(
            f"  {pod['name']} on {pod['node']}: {'ready' if pod['ready'] else 'not ready'}, "
            f"{pod['restarts']} restarts, {pod['version']}" + (f": {pod['why']}" if "why" in pod else "")
        )
    if len(structured["pods"]) > 20 or "next_cursor" in structured:
        lines.append("  … more pods in structuredContent.pods")
    return "\n".join(lines)
