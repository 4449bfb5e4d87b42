"""``obi_k8s_fleet_status``: the same status over many contexts at once; one that does not answer costs only itself."""

from __future__ import annotations

import asyncio
from typing import Any

from obi_mcp.errors import CallTimeout, InvalidArgument, ObiMcpError
from obi_mcp.toolsets.base import Services, ToolCall, ToolResult, ToolSpec
from obi_mcp.toolsets.kubernetes.place import PLACE, Place
from obi_mcp.toolsets.kubernetes.schema import arguments, result
from obi_mcp.toolsets.kubernetes.status import workload_row
from obi_mcp.toolsets.kubernetes.survey import Workload, survey

NAME = "obi_k8s_fleet_status"
MAX_CONTEXTS = 100
DEFAULT_TIMEOUT_S = 10
MAX_UNCOVERED = 20


def spec() -> ToolSpec:
    """The tool."""
    return ToolSpec(
        name=NAME,
        title="Status of OBI in many clusters",
        description=(
            "Shows OBI's DaemonSets of several contexts at once, unreachable ones with the reason. For one use "
            "obi_k8s_status."
        ),
        input_schema=arguments(
            {
                "contexts": {
                    "type": "array",
                    "items": {"type": "string"},
                    "description": "Default: all allowed.",
                },
                "namespace": PLACE["namespace"],
                "timeout_s": {"type": "integer", "minimum": 1, "maximum": 60, "default": DEFAULT_TIMEOUT_S},
            }
        ),
        output_schema=result("clusters", "array"),
        run=run,
    )


async def run(services: Services, call: ToolCall) -> ToolResult:
    """Every context has its own deadline and its own line."""
    given = call.arguments
    contexts = tuple(dict.fromkeys(given.get("contexts") or services.settings.scope.contexts))
    if not contexts:
        raise InvalidArgument(
            "there is no list of contexts", "give contexts, or have the operator fill scope.contexts in"
        )
    if len(contexts) > MAX_CONTEXTS:
        raise InvalidArgument(f"{len(contexts)} contexts are too many", f"at most {MAX_CONTEXTS} at once")
    timeout_s, done = given.get("timeout_s", DEFAULT_TIMEOUT_S), 0

    async def one(context: Any) -> dict[str, Any]:
        nonlocal done
        row = await _cluster(services, call, str(context), timeout_s)
        done += 1
        if call.progress:
            await call.progress(done, len(contexts), f"{context}: {row.get('problem', 'read')}")
        return row

    rows = await asyncio.gather(*(one(context) for context in contexts))
    lines = [_line(row) for row in rows]
    reached = sum(1 for row in rows if "problem" not in row)
    return ToolResult({"clusters": rows}, "\n".join([f"{reached} of {len(rows)} clusters answered", *lines]))


async def _cluster(services: Services, call: ToolCall, context: str, timeout_s: float) -> dict[str, Any]:
    arguments = {**call.arguments, "context": context}
    try:
        place = Place.of(NAME, ToolCall(arguments, call.caller))
        async with asyncio.timeout(timeout_s):
            seen = await survey(services, place)
    except TimeoutError:
        return {"context": context, "problem": f"no answer within {timeout_s} s", "code": CallTimeout.code}
    except ObiMcpError as error:
        return {"context": context, "problem": error.message, "code": error.code}
    return {
        "context": context,
        "nodes": seen.nodes,
        "workloads": [_row(workload) for workload in seen.workloads],
    }


def _row(workload: Workload) -> dict[str, Any]:
    """As in one cluster, with the first of the nodes without OBI: many clusters of many nodes are too long to read."""
    row = workload_row(workload)
    return {**row, "uncovered": row["uncovered"][:MAX_UNCOVERED]}


def _line(row: dict[str, Any]) -> str:
    if "problem" in row:
        return f"{row['context']}: {row['problem']}"
    found = [
        f"{entry['namespace']}/{entry['name']} {entry['covered']}/{row['nodes']} nodes covered, "
        f"{entry['healthy']} healthy"
        for entry in row["workloads"]
    ]
    return f"{row['context']}: {'; '.join(found) or 'no OBI'}"
