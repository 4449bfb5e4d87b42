"""Spans of an OTLP request as rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from obi_mcp.telemetry.attributes import MAX_TEXT, attributes_of, first_integer, first_text, json_text
from obi_mcp.telemetry.rows import MAX_NANOSECONDS, Batch, Resources, Row, Sender

if TYPE_CHECKING:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")
STATUSES = ("unset", "ok", "error")
_TRACE_ID_BYTES, _SPAN_ID_BYTES = 16, 8


def span_rows(request: ExportTraceServiceRequest, resources: Resources) -> Batch:
    """One row for each span, in the order of ``tables.SPANS``; one without a valid identity or time is rejected."""
    batch = Batch()
    for group in request.resource_spans:
        sender = resources.sender(group.resource)
        for scope in group.scope_spans:
            name = scope.scope.name[:MAX_TEXT]
            for span in scope.spans:
                problem = _problem(span)
                if problem is None:
                    batch.rows.append(_row(span, sender, name))
                else:
                    batch.reject(problem)
    return batch


def _problem(span: Span) -> str | None:
    if len(span.trace_id) != _TRACE_ID_BYTES or not any(span.trace_id):
        return "a span without a trace id of 16 bytes"
    if len(span.span_id) != _SPAN_ID_BYTES or not any(span.span_id):
        return "a span without a span id of 8 bytes"
    if not 0 < span.start_time_unix_nano <= MAX_NANOSECONDS or span.end_time_unix_nano > MAX_NANOSECONDS:
        return "a span without a start between 1970 and 2262"
    return None


def _row(span: Span, sender: Sender, scope: str) -> Row:
    found = attributes_of(span.attributes)
    return (
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex() if any(span.parent_span_id) else None,
        span.start_time_unix_nano,
        max(span.end_time_unix_nano - span.start_time_unix_nano, 0),
        sender.resource_id,
        sender.service_name,
        sender.service_namespace,
        scope,
        span.name[:MAX_TEXT],
        KINDS[span.kind] if 0 <= span.kind < len(KINDS) else KINDS[0],
        STATUSES[span.status.code] if 0 <= span.status.code < len(STATUSES) else STATUSES[0],
        span.status.message[:MAX_TEXT] or None,
        first_text(found, "http.request.method", "http.method"),
        first_text(found, "http.route"),
        first_integer(found, "http.response.status_code", "http.status_code"),
        first_text(found, "url.path", "http.target"),
        first_text(found, "server.address", "net.peer.name", "net.host.name"),
        first_integer(found, "server.port", "net.peer.port", "net.host.port"),
        first_text(found, "client.address", "net.sock.peer.addr"),
        first_text(found, "db.system.name", "db.system"),
        first_text(found, "db.operation.name", "db.operation"),
        first_text(found, "rpc.system.name", "rpc.system"),
        first_text(found, "rpc.method"),
        first_text(found, "messaging.system"),
        json_text(found),
        json_text([_event(event) for event in span.events]) if span.events else None,
        json_text([_link(link) for link in span.links]) if span.links else None,
    )


def _event(event: Span.Event) -> dict[str, Any]:
    return {
        "time_ns": event.time_unix_nano,
        "name": event.name[:MAX_TEXT],
        "attributes": attributes_of(event.attributes),
    }


def _link(link: Span.Link) -> dict[str, Any]:
    return {"trace_id": link.trace_id.hex(), "span_id": link.span_id.hex()}
