"""``obi_helm_status`` and ``obi_helm_history``: how a release stands, and how it came to be."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from obi_mcp.errors import NotFound
from obi_mcp.toolsets.base import Schema, Services, ToolCall, ToolResult, ToolSpec
from obi_mcp.toolsets.helm.release import RELEASE, WORKLOADS, place_of, release_of, run, state_named, stored, target_of
from obi_mcp.toolsets.kubernetes.objects import Target, look_up
from obi_mcp.toolsets.kubernetes.place import Place
from obi_mcp.toolsets.kubernetes.rollout import count_of
from obi_mcp.toolsets.kubernetes.schema import arguments, result

STATUS = "obi_helm_status"
HISTORY = "obi_helm_history"
MAX_HISTORY = 256


def status_spec() -> ToolSpec:
    """The tool for one release."""
    return ToolSpec(
        name=STATUS,
        title="OBI's release",
        description=(
            "Chart, revision and state of a helm release, each object of it with whether it is there and ready, and "
            "the way out of a failed or pending change. For pods and nodes use obi_k8s_status."
        ),
        input_schema=arguments(dict(RELEASE)),
        output_schema=result("status", "string", resources={"type": "array"}),
        run=_status,
    )


def history_spec() -> ToolSpec:
    """The tool for its revisions."""
    own: dict[str, Schema] = {
        **RELEASE,
        "limit": {"type": "integer", "minimum": 1, "maximum": MAX_HISTORY, "default": 10},
    }
    return ToolSpec(
        name=HISTORY,
        title="Revisions of OBI's release",
        description="The revisions of a helm release, the newest first. obi_helm_rollback goes back to one.",
        input_schema=arguments(own),
        output_schema=result("revisions", "array"),
        run=_history,
    )


async def _status(services: Services, call: ToolCall) -> ToolResult:
    place, release = place_of(STATUS, services, call), release_of(call)
    now = await stored(services, place, release)
    if now is None:
        raise NotFound(f"release {release}", place.namespace, "helm list -A lists OBI's releases")
    found, state = now.release, state_named(now.release.status)
    targets = [target_of(item.document, found) for item in found.objects]
    resources = list(await asyncio.gather(*(_resource(services, place, target) for target in targets)))
    structured: dict[str, Any] = {
        "release": found.name,
        "namespace": found.namespace,
        "chart": found.chart,
        "chart_version": found.version,
        "app_version": now.metadata.get("appVersion"),
        "revision": found.revision,
        "status": found.status,
        "deployed_at": now.metadata.get("deployedAt"),
        "ready": all(row["ready"] for row in resources),
        "resources": resources,
        "hooks": [{"hook": item.label, "events": list(item.events)} for item in found.hooks],
    }
    lines = [f"{found.name} in {found.namespace}: {found.chart} {found.version}, revision {found.revision}"]
    if state.means:
        structured |= {"explanation": state.means, "next_step": state.way_out}
        lines += [f"{found.status}: {state.means}", f"next: {state.way_out}"]
    else:
        lines.append(found.status)
    lines += [f"{row['object']}: {row['state']}" for row in resources]
    return ToolResult(structured, "\n".join(lines))


async def _resource(services: Services, place: Place, target: Target) -> dict[str, Any]:
    body = await look_up(services, place, target)
    if body is None:
        return {"object": str(target), "ready": False, "state": "not there"}
    if target.kind not in WORKLOADS:
        return {"object": str(target), "ready": True, "state": "there"}
    count = count_of(body, daemons=target.kind == "DaemonSet")
    state = f"{count.ready} of {count.wanted} pods ready, {count.updated} of the newest template"
    return {"object": str(target), "ready": count.done, "state": state}


async def _history(services: Services, call: ToolCall) -> ToolResult:
    place, release = place_of(HISTORY, services, call), release_of(call)
    limit = call.arguments.get("limit", 10)
    answer = await run(services, place, f"helm history {release} -n {place.namespace} --max {limit} -o json")
    rows = [_row(row) for row in reversed(json.loads(answer.stdout))]
    lines = [
        f"{row['revision']}  {row['status']}  {row['chart']}  {row['updated']}  {row['description']}" for row in rows
    ]
    return ToolResult({"revisions": rows}, "\n".join(lines))


def _row(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "revision": int(row["revision"]),
        "status": str(row["status"]),
        "chart": str(row["chart"]),
        "app_version": str(row.get("app_version", "")),
        "updated": str(row.get("updated", "")),
        "description": str(row.get("description", "")),
    }
