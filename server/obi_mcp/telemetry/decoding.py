"""The body of an OTLP request as a message, or why it is none. Bodies are hostile: every size has a bound."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from obi_mcp.telemetry.extent import MAX_MESSAGES, MAX_NODES, within_messages, within_nodes
from obi_mcp.telemetry.tables import Signal

if TYPE_CHECKING:
    from google.protobuf.message import Message

Encoding = Literal["application/x-protobuf", "application/json"]
PROTOBUF: Encoding = "application/x-protobuf"
JSON: Encoding = "application/json"
_GZIP_WINDOW = 31
_MAX_MEMBERS = 16
_IDENTITIES = frozenset({"traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id"})
_CHILDREN = frozenset(
    name
    for camel, snake in (
        ("resourceSpans", "resource_spans"),
        ("scopeSpans", "scope_spans"),
        ("spans", "spans"),
        ("links", "links"),
        ("resourceLogs", "resource_logs"),
        ("scopeLogs", "scope_logs"),
        ("logRecords", "log_records"),
    )
    for name in (camel, snake)
)
"""Lists below which OTLP's JSON has trace and span ids, which it spells in hexadecimal digits, unlike protobuf's."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not taken: the HTTP status and a sentence for whoever sends."""

    status: int
    message: str


def encoding_of(content_type: str) -> Encoding | None:
    """The encoding that a Content-Type names, None where it is none of OTLP's."""
    name = content_type.partition(";")[0].strip().lower()
    return PROTOBUF if name == PROTOBUF else JSON if name == JSON else None


def decompressed(body: bytes, content_encoding: str, max_bytes: int) -> bytes | Refusal:
    """The body itself; never more than ``max_bytes`` are made of it."""
    match content_encoding.strip().lower():
        case "" | "identity":
            return body
        case "gzip":
            return _gunzip(body, max_bytes)
    return Refusal(415, f"the content encoding {content_encoding[:40]!r} is not read; use gzip or none")


def _gunzip(body: bytes, max_bytes: int) -> bytes | Refusal:
    parts: list[bytes] = []
    left = max_bytes
    try:
        for _ in range(_MAX_MEMBERS):
            member = zlib.decompressobj(_GZIP_WINDOW)
            parts.append(member.decompress(body, left + 1))
            left -= len(parts[-1])
            if left < 0:
                return Refusal(
                    413, f"the body is more than {max_bytes:,} bytes when decompressed; send smaller batches"
                )
            if not member.eof:
                return Refusal(400, "the gzip body ends too early")
            body = member.unused_data
            if not body:
                return b"".join(parts)
    except zlib.error:
        return Refusal(400, "the body is not gzip, as its Content-Encoding says")
    return Refusal(400, f"the gzip body has more than {_MAX_MEMBERS} members")


def read_message(signal: Signal, encoding: Encoding, body: bytes) -> Message | Refusal:
    """The request's message. A wrong one is refused whole, as OTLP wants it."""
    message = _empty(signal)
    if encoding == PROTOBUF:
        from google.protobuf.message import DecodeError

        try:
            if not within_messages(signal, body):
                return Refusal(413, f"a request has at most {MAX_MESSAGES:,} messages; send smaller batches")
            message.ParseFromString(body)
        except (DecodeError, ValueError):
            return Refusal(400, f"the body is no protobuf message of {type(message).__name__}")
        return message
    return _read_json(message, body)


def _empty(signal: Signal) -> Message:
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    match signal:
        case "traces":
            return ExportTraceServiceRequest()
        case "metrics":
            return ExportMetricsServiceRequest()
        case "logs":
            return ExportLogsServiceRequest()


def _read_json(message: Message, body: bytes) -> Message | Refusal:
    from google.protobuf import json_format

    try:
        data = json.loads(body)
        if not isinstance(data, dict):
            return Refusal(400, "the body is no JSON object")
        if not within_nodes(data):
            return Refusal(413, f"a request has at most {MAX_NODES:,} objects and lists; send smaller batches")
        _respell_identities(data)
        json_format.ParseDict(data, message, ignore_unknown_fields=True)
    except (json_format.ParseError, ValueError, RecursionError) as error:
        name = type(message).__name__
        return Refusal(400, f"the body is no JSON of {name}: {str(error)[:200]}")
    return message


def _respell_identities(data: dict[str, Any]) -> None:
    """Trace and span ids from hexadecimal digits into the base64 that protobuf's JSON has. Raises: ValueError."""
    waiting = [data]
    while waiting:
        item = waiting.pop()
        for key in item.keys() & _IDENTITIES:
            if not isinstance(item[key], str):
                raise ValueError(f"{key} is no text")
            item[key] = base64.b64encode(bytes.fromhex(item[key])).decode("ascii")
        waiting.extend(_objects(item))


def _objects(item: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for key in item.keys() & _CHILDREN:
        if isinstance(item[key], list):
            yield from (child for child in item[key] if isinstance(child, dict))
