"""Log records of an OTLP request as rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from obi_mcp.telemetry.attributes import MAX_JSON, MAX_TEXT, attributes_of, json_text, plain
from obi_mcp.telemetry.rows import Batch, Resources, Row, Sender, nanoseconds

if TYPE_CHECKING:
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
    from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

_NO_TIME = "a log record without a time between 1970 and 2262"


def record_rows(request: ExportLogsServiceRequest, resources: Resources) -> Batch:
    """One row for each log record, in the order of ``tables.RECORDS``."""
    batch = Batch()
    for group in request.resource_logs:
        sender = resources.sender(group.resource)
        for scope in group.scope_logs:
            for record in scope.log_records:
                time_ns = nanoseconds(record.time_unix_nano, record.observed_time_unix_nano)
                if time_ns is None:
                    batch.reject(_NO_TIME)
                else:
                    batch.rows.append(_row(record, time_ns, sender, scope.scope.name[:MAX_TEXT]))
    return batch


def _row(record: LogRecord, time_ns: int, sender: Sender, scope: str) -> Row:
    body = plain(record.body)
    return (
        time_ns,
        sender.resource_id,
        sender.service_name,
        sender.service_namespace,
        scope,
        int(record.severity_number),
        record.severity_text[:MAX_TEXT],
        record.event_name[:MAX_TEXT] or None,
        body[:MAX_JSON] if isinstance(body, str) else json_text(body),
        record.trace_id.hex() or None,
        record.span_id.hex() or None,
        json_text(attributes_of(record.attributes)),
    )
