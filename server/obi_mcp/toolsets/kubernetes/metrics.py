"""``obi_k8s_aggregate_metrics``: every OBI pod's metrics, scraped through the API server and merged."""

from __future__ import annotations

import asyncio
from typing import Any

from obi_mcp.errors import ObiMcpError
from obi_mcp.obi.coverage import name_of
from obi_mcp.obi.metric_merge import Family, add_pod, gauge_spread, outliers
from obi_mcp.toolsets.base import Services, ToolCall, ToolResult, ToolSpec
from obi_mcp.toolsets.kubernetes.place import PLACE, Place
from obi_mcp.toolsets.kubernetes.schema import arguments, result
from obi_mcp.toolsets.kubernetes.survey import Object
from obi_mcp.toolsets.kubernetes.verify import metrics_port

NAME = "obi_k8s_aggregate_metrics"
DEFAULT_LIMIT = 50
MAX_LIMIT = 500
IN_FLIGHT = 16
MAX_PODS = 5_000
# What a Go program serves of itself: left out unless it is asked for.
_ITS_OWN = ("go_", "process_", "promhttp_")


def spec() -> ToolSpec:
    """The tool."""
    return ToolSpec(
        name=NAME,
        title="Metrics of all OBI pods",
        description=(
            "Scrapes every OBI pod and merges: totals, histograms by bucket, per node, outliers. For one pod's text "
            "use obi_kubectl `kubectl get --raw …/proxy/metrics`."
        ),
        input_schema=arguments(
            {
                **PLACE,
                "metrics": {"type": "array", "items": {"type": "string"}, "description": "Prefixes."},
                "per_node": {"type": "boolean", "default": False},
                "limit": {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
            }
        ),
        output_schema=result("metrics", "array", outliers={"type": "array"}),
        run=run,
    )


async def run(services: Services, call: ToolCall) -> ToolResult:
    """Scrapes with a bounded number in flight; a dead pod costs its own line and nothing else."""
    given, place = call.arguments, Place.of(NAME, call)
    pods = await _pods(services, place)
    gate, done = asyncio.Semaphore(IN_FLIGHT), 0

    async def scrape(pod: Object) -> tuple[Object, str | None, str]:
        nonlocal done
        async with gate:
            text, problem = await _scrape(services, place, pod)
        done += 1
        if call.progress and done % IN_FLIGHT == 0:
            await call.progress(done, len(pods), "pods scraped")
        return pod, text, problem

    scraped = await asyncio.gather(*(scrape(pod) for pod in pods))
    nodes = {name_of(pod): str(pod["spec"].get("nodeName", "")) for pod, text, _ in scraped if text is not None}
    texts = {name_of(pod): text for pod, text, _ in scraped if text is not None}
    unread = [{"pod": name_of(pod), "problem": problem} for pod, text, problem in scraped if text is None]
    families = await asyncio.to_thread(_merged, texts, given.get("metrics", []), unread)
    return _shown(families, nodes, unread, given)


def _merged(texts: dict[str, str], wanted: list[str], unread: list[dict[str, str]]) -> list[Family]:
    """Off the event loop: a thousand pods are a few hundred thousand lines."""
    found: dict[str, Family] = {}
    for pod, text in texts.items():
        try:
            add_pod(found, pod, text, tuple(wanted))
        except ValueError as error:
            unread.append({"pod": pod, "problem": str(error)})
    return [found[name] for name in sorted(found) if wanted or not name.startswith(_ITS_OWN)]


def _shown(families: list[Family], nodes: dict[str, str], unread: list[dict[str, str]], given: Any) -> ToolResult:
    limit = given.get("limit", DEFAULT_LIMIT)
    rows = [_row(family, nodes if given.get("per_node") else None) for family in families[:limit]]
    found = [
        {
            "metric": entry.metric,
            "pod": entry.pod,
            "node": nodes[entry.pod],
            "value": entry.value,
            "median": entry.median,
        }
        for entry in outliers(families)
    ]
    structured: dict[str, Any] = {"pods": len(nodes), "metrics": rows, "outliers": found[:limit], "unread": unread}
    if len(families) > limit:
        structured["left_out"] = len(families) - limit
    lines = [f"{len(nodes)} of {len(nodes) + len(unread)} pods scraped, {len(families)} metrics"]
    lines += [f"not read: {entry['pod']}: {entry['problem'][:200]}" for entry in unread[:5]]
    lines += [_line(row) for row in rows]
    lines += [
        f"out of line: {row['metric']} of {row['pod']}: {row['value']:g} (median {row['median']:g})" for row in found
    ]
    return ToolResult(structured, "\n".join(lines))


def _row(family: Family, nodes: dict[str, str] | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": family.name,
        "type": family.kind,
        "pods": len(family.by_pod),
        "series": family.series,
    }
    if family.kind == "histogram":
        row |= {"count": family.count, "sum": family.sum}
        row |= {f"p{round(q * 100)}": family.quantile(q) for q in (0.5, 0.95, 0.99)}
    elif family.kind == "gauge" and family.by_pod:
        row |= gauge_spread(family)
    else:
        row["total"] = family.total
    if nodes is not None:
        row["per_node"] = {nodes[pod]: value for pod, value in sorted(family.by_pod.items())}
    return row


def _line(row: dict[str, Any]) -> str:
    if "p50" in row:
        shown = " ".join(f"{name}={row[name]:g}" for name in ("p50", "p95", "p99") if row[name] is not None)
        return f"{row['name']} count={row['count']:g} {shown}"
    if "median" in row:
        return f"{row['name']} min={row['min']:g} median={row['median']:g} max={row['max']:g}"
    return f"{row['name']} total={row.get('total', 0.0):g}"


async def _pods(services: Services, place: Place) -> list[Object]:
    for selector in services.settings.scope.selectors:
        reading = await services.enforcer.read(place.call(f"kubectl get pods {place.where} -l '{selector}' -o json"))
        if reading.objects:
            return list(reading.objects[:MAX_PODS])
    return []


async def _scrape(services: Services, place: Place, pod: Object) -> tuple[str | None, str]:
    port = metrics_port(pod)
    if port is None:
        return None, "it declares no port"
    path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{name_of(pod)}:{port}/proxy/metrics"
    limit = services.settings.limits.max_max_bytes
    try:
        answer = await services.enforcer.run(place.call(f"kubectl get --raw {path}", max_bytes=limit))
    except ObiMcpError as error:
        return None, error.message
    if answer.truncated:
        return None, f"it serves more than {limit} bytes"
    return answer.stdout, ""
