"""OTLP requests for tests, as small as they can be."""

from __future__ import annotations

from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

START_NS = 1_700_000_000_000_000_000


def value(given: Any) -> AnyValue:
    """A plain value as OTLP has it."""
    made = AnyValue()
    match given:
        case bool():
            made.bool_value = given
        case int():
            made.int_value = given
        case float():
            made.double_value = given
        case bytes():
            made.bytes_value = given
        case list():
            made.array_value.values.extend(value(item) for item in given)
        case dict():
            made.kvlist_value.values.extend(pairs(given))
        case str():
            made.string_value = given
    return made


def pairs(given: dict[str, Any]) -> list[KeyValue]:
    """Attributes as OTLP has them."""
    return [KeyValue(key=name, value=value(one)) for name, one in given.items()]


def span(number: int = 1, **more: Any) -> Span:
    """A valid span whose ids end in ``number``; ``attributes`` and other fields by name."""
    attributes = pairs(more.pop("attributes", {}))
    defaults: dict[str, Any] = {
        "trace_id": number.to_bytes(16, "big"),
        "span_id": number.to_bytes(8, "big"),
        "name": "GET /items",
        "kind": Span.SPAN_KIND_SERVER,
        "start_time_unix_nano": START_NS + number,
        "end_time_unix_nano": START_NS + number + 1_000_000,
    }
    return Span(**{**defaults, **more}, attributes=attributes)


def traces(*spans: Span, resource: dict[str, Any] | None = None) -> ExportTraceServiceRequest:
    """One sender's spans."""
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    group.resource.attributes.extend(pairs(resource or {"service.name": "shop"}))
    group.scope_spans.add(spans=spans).scope.name = "tests"
    return request


def metrics(*given: Any) -> ExportMetricsServiceRequest:
    """One sender's metrics."""
    request = ExportMetricsServiceRequest()
    group = request.resource_metrics.add()
    group.resource.attributes.extend(pairs({"service.name": "shop"}))
    group.scope_metrics.add(metrics=given)
    return request


def logs(*given: Any) -> ExportLogsServiceRequest:
    """One sender's log records."""
    request = ExportLogsServiceRequest()
    group = request.resource_logs.add()
    group.resource.attributes.extend(pairs({"service.name": "shop"}))
    group.scope_logs.add(log_records=given)
    return request
