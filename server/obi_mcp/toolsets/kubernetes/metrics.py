"""``obi_k8s_aggregate_metrics``: every OBI pod's metrics, scraped through the API server and merged."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from obi_mcp.enforcer.scraping import Scraped, Sink, Wanted
from obi_mcp.errors import InvalidArgument
from obi_mcp.obi.metric_merge import Before, Family, PodMetrics, add_pod, gauge_spread, outliers
from obi_mcp.toolsets.base import Services, ToolCall, ToolResult, ToolSpec
from obi_mcp.toolsets.kubernetes.place import PLACE, Place
from obi_mcp.toolsets.kubernetes.schema import arguments, result
from obi_mcp.toolsets.kubernetes.verify import metrics_port

NAME = "obi_k8s_aggregate_metrics"
DEFAULT_LIMIT = 50
MAX_LIMIT = 500
TIMEOUT_S = 60.0
"""For one round over all pods."""
MAX_WINDOW_S = 60
_TOLD_EVERY = 16


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
                "window_s": {"type": "integer", "minimum": 1, "maximum": MAX_WINDOW_S, "description": "Increase over."},
                "limit": {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
            }
        ),
        output_schema=result("metrics", "array", outliers={"type": "array"}),
        run=run,
    )


async def run(services: Services, call: ToolCall) -> ToolResult:
    """One round over all pods, or two for what was added between them; a dead pod costs its own line and nothing
    else."""
    window_s = call.arguments.get("window_s")
    if window_s is None:
        return _shown(await _round(services, call), call.arguments, {})
    first = await _round(services, call, before=Before(), remembers=True)
    await asyncio.sleep(window_s)
    second = await _round(services, call, before=first.before)
    span = {"from": _utc(first.at), "to": _utc(second.at), "seconds": round((second.at - first.at).total_seconds(), 1)}
    return _shown(second, call.arguments, span)


@dataclass(slots=True)
class _Round:
    """One look at all pods: the nodes of those that were read, and what is wrong with the others."""

    at: datetime
    before: Before | None
    nodes: dict[str, str] = field(default_factory=dict)
    unread: list[dict[str, str]] = field(default_factory=list)
    families: dict[str, Family] = field(default_factory=dict)


async def _round(
    services: Services, call: ToolCall, *, before: Before | None = None, remembers: bool = False
) -> _Round:
    found, prefixes = _Round(datetime.now(UTC), before), tuple(call.arguments.get("metrics", ()))
    reading: dict[str, PodMetrics] = {}
    asked = 0

    def sink(pod: str) -> Sink:
        known = before.of(pod) if before is not None and not remembers else None
        reading[pod] = PodMetrics(pod, prefixes, before=known, remembers=remembers)
        return reading[pod].feed

    async def done(scraped: Scraped) -> None:
        nonlocal asked
        asked += 1
        _take(found, scraped, reading.pop(scraped.pod, None), remembers=remembers)
        if call.progress and asked % _TOLD_EVERY == 0:
            await call.progress(asked, None, "pods scraped")

    wanted, place = Wanted("metrics", metrics_port, sink, done), Place.of(NAME, call)
    for selector in services.settings.scope.selectors:
        command = f"kubectl get pods {place.where} -l '{selector}' -o json"
        scraping = await services.enforcer.scrape(place.call(command, timeout_s=TIMEOUT_S), wanted)
        if scraping.pods:
            break
    return found


def _take(found: _Round, scraped: Scraped, pod: PodMetrics | None, *, remembers: bool) -> None:
    """All that one pod served, or nothing of it."""
    problem = scraped.problem
    if problem is None and not remembers and found.before is not None and found.before.of(scraped.pod) is None:
        problem = "it was not read at the start of the window"
    if problem is None and pod is not None:
        try:
            families = pod.finish()
        except ValueError:
            problem = "what it serves ends in the middle of a line"
        else:
            found.nodes[scraped.pod] = scraped.node
            if remembers and found.before is not None:
                _remember(found.before, scraped.pod, pod)
            add_pod(found.families, families)
    if problem is not None:
        found.unread.append({"pod": scraped.pod, "problem": problem})


def _remember(before: Before, name: str, pod: PodMetrics) -> None:
    try:
        before.remember(name, pod.seen)
    except ValueError as error:
        raise InvalidArgument(str(error), "for example metrics: [http_server], or a namespace") from None


def _shown(found: _Round, given: Mapping[str, Any], span: dict[str, Any]) -> ToolResult:
    limit, nodes = given.get("limit", DEFAULT_LIMIT), found.nodes
    families = [found.families[name] for name in sorted(found.families)]
    rows = [
        _row(family, nodes if given.get("per_node") else None, span.get("seconds", 0.0)) for family in families[:limit]
    ]
    far = outliers(families)
    structured: dict[str, Any] = {
        "pods": len(nodes),
        "metrics": rows,
        "outliers": [
            {
                "metric": entry.metric,
                "pod": entry.pod,
                "node": nodes[entry.pod],
                "value": entry.value,
                "median": entry.median,
                "deviations": round(entry.deviations, 1),
            }
            for entry in far[:limit]
        ],
        "unread": found.unread[:limit],
    }
    if span:
        structured["window"] = span
    left_out = {"metrics": len(families), "outliers": len(far), "unread": len(found.unread)}
    if more := {name: count - limit for name, count in left_out.items() if count > limit}:
        structured["left_out"] = more
    return ToolResult(structured, "\n".join(_text(structured, len(found.unread))))


def _text(structured: Mapping[str, Any], unread: int) -> list[str]:
    pods, metrics = structured["pods"], len(structured["metrics"])
    said = f"{pods} of {pods + unread} pods scraped, {metrics} metric{'' if metrics == 1 else 's'}"
    if window := structured.get("window"):
        said += f", increase from {window['from']} to {window['to']}"
    lines = [said, *(f"not read: {one['pod']}: {one['problem'][:200]}" for one in structured["unread"][:5])]
    lines += [_line(row) for row in structured["metrics"]]
    if pods and not metrics:
        lines.append("no metric that was asked for is served: leave metrics out to see all")
    lines += [
        f"out of line: {row['metric']} of {row['pod']}: {row['value']:g} (median {row['median']:g})"
        for row in structured["outliers"]
    ]
    return lines


def _utc(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _row(family: Family, nodes: Mapping[str, str] | None, seconds: float) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": family.name,
        "type": family.kind,
        "pods": len(family.by_pod),
        "series": family.series,
    }
    if family.kind == "histogram":
        row |= {"count": family.count, "sum": family.sum}
        row |= {f"p{round(q * 100)}": family.quantile(q) for q in (0.5, 0.95, 0.99)}
        if len(family.layouts) > 1:
            row["layouts"] = len(family.layouts)
    elif family.kind == "gauge" and family.by_pod:
        row |= gauge_spread(family)
    elif family.kind == "summary":
        row |= {"count": family.count, "sum": family.sum}
    else:
        row["total"] = family.total
        if seconds:
            row["per_second"] = family.total / seconds
    if nodes is not None:
        row["per_node"] = {nodes[pod]: value for pod, value in sorted(family.by_pod.items())}
    return row


def _line(row: dict[str, Any]) -> str:
    if "p50" in row:
        shown = " ".join(f"{name}={row[name]:g}" for name in ("p50", "p95", "p99") if row[name] is not None)
        return f"{row['name']} count={row['count']:.15g} {shown}"
    if row["type"] == "summary":
        return f"{row['name']} count={row['count']:.15g} sum={row['sum']:.15g}"
    if "median" in row:
        return f"{row['name']} min={row['min']:.15g} median={row['median']:.15g} max={row['max']:.15g}"
    return f"{row['name']} total={row.get('total', 0.0):.15g}"
