"""Where telemetry goes: v1's exporters as the tracer and meter providers of v2.

v1 takes the protocol from the endpoint where none is set: port 4317 is gRPC, anything else HTTP.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from obi_mcp.obi.source import Source

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]*)?)(h|ms|m|s)")
_MILLISECONDS = {"h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}


def move_pipelines(source: Source) -> None:
    """Traces, metrics and the Prometheus port, with their batches, intervals and sampler."""
    _traces(source)
    _metrics(source)


def _traces(source: Source) -> None:
    _move_sampler(source)
    exporter = _otlp(source, "otel_traces_export")
    if exporter is None:
        return
    batch: dict[str, Any] = {"exporter": exporter}
    for key, name in (("queue_size", "max_queue_size"), ("max_queue_size", "max_queue_size")):
        value = source.take(f"otel_traces_export.{key}")
        if value is not None:
            batch.setdefault(name, value)
    size = source.take("otel_traces_export.batch_max_size")
    if size is not None:
        batch["max_export_batch_size"] = size
    delay = _milliseconds(source, "otel_traces_export.batch_timeout")
    if delay is not None:
        batch["schedule_delay"] = delay
    source.put("tracer_provider.processors", [{"batch": batch}])


def _move_sampler(source: Source) -> None:
    name = source.peek("otel_traces_export.sampler.name")
    argument = source.peek("otel_traces_export.sampler.arg")
    made = _sampler(name, argument)
    if made is not None and source.put("tracer_provider.sampler", made):
        source.take("otel_traces_export.sampler")


def _metrics(source: Source) -> None:
    readers: list[dict[str, Any]] = []
    exporter = _otlp(source, "otel_metrics_export")
    if exporter is not None:
        aggregation = source.take("otel_metrics_export.histogram_aggregation")
        if aggregation is not None:
            next(iter(exporter.values()))["default_histogram_aggregation"] = aggregation
        periodic: dict[str, Any] = {"exporter": exporter}
        interval = _milliseconds(source, "otel_metrics_export.interval")
        if interval is not None:
            periodic["interval"] = interval
        readers.append({"periodic": periodic})
    port = source.peek("prometheus_export.port")
    if port:
        source.take("prometheus_export.port")
        readers.append({"pull": {"exporter": {"prometheus/development": {"port": port}}}})
        if source.peek("prometheus_export.path") == "/metrics":
            source.take("prometheus_export.path")  # what it is without the key, too
    if readers:
        source.put("meter_provider.readers", readers)
    for section in ("otel_metrics_export", "prometheus_export"):
        if source.peek(f"{section}.instrumentations") == ["*"]:
            source.take(f"{section}.instrumentations")  # the default of both


def _otlp(source: Source, section: str) -> dict[str, Any] | None:
    """The exporter of a section, taken from it; None where it has no endpoint, or one that v2 cannot say."""
    endpoint, protocol = source.peek(f"{section}.endpoint"), source.peek(f"{section}.protocol")
    if not isinstance(endpoint, str) or not endpoint:
        return None
    if protocol not in (None, "", "grpc", "http/protobuf", "http/json"):
        source.keep(f"{section}.protocol", f"v2 has no exporter for the protocol {protocol!r}")
        source.keep(f"{section}.endpoint", f"v2 has no exporter for the protocol {protocol!r}")
        return None
    source.take(f"{section}.endpoint")
    source.take(f"{section}.protocol")
    if source.peek(f"{section}.insecure_skip_verify") is False:
        source.take(f"{section}.insecure_skip_verify")
    if protocol == "grpc" or (not protocol and endpoint.rstrip("/").endswith(":4317")):
        return {"otlp_grpc": {"endpoint": endpoint, "tls": {"insecure": endpoint.startswith("http://")}}}
    source.note(
        f"{section}: HTTP exporters in v2 are documented for OBI v0.14.0; validate with the version that you run"
    )
    return {"otlp_http": {"endpoint": endpoint, "encoding": "json" if protocol == "http/json" else "protobuf"}}


def _milliseconds(source: Source, key: str) -> int | None:
    """A duration in milliseconds, taken; None where there is none, or it is a variable."""
    value = source.peek(key)
    parts = _DURATION.findall(value) if isinstance(value, str) else []
    if not parts or "".join(number + unit for number, unit in parts) != value:
        return None
    source.take(key)
    return int(sum(float(number) * _MILLISECONDS[unit] for number, unit in parts))


def _sampler(name: Any, argument: Any) -> dict[str, Any] | None:
    simple: dict[str, dict[str, Any]] = {"always_on": {"always_on": {}}, "always_off": {"always_off": {}}}
    try:
        simple["traceidratio"] = {"trace_id_ratio_based": {"ratio": float(argument)}}
    except (TypeError, ValueError):
        pass
    if isinstance(name, str) and name.startswith("parentbased_"):
        root = simple.get(name.removeprefix("parentbased_"))
        return {"parent_based": {"root": root}} if root else None
    return simple.get(name) if isinstance(name, str) else None
