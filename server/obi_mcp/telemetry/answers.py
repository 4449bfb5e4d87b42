"""What the receiver answers: OTLP's responses and google.rpc.Status, in the encoding of the request."""

from __future__ import annotations

import json
from typing import Final

from obi_mcp.telemetry.decoding import JSON, Encoding
from obi_mcp.telemetry.tables import Signal

_REJECTED_FIELD: Final[dict[Signal, str]] = {
    "traces": "rejectedSpans",
    "metrics": "rejectedDataPoints",
    "logs": "rejectedLogRecords",
}
_CODES = {400: 3, 404: 5, 405: 12, 408: 4, 413: 8, 415: 3, 421: 7, 429: 8, 503: 14}
"""google.rpc.Code by HTTP status: INVALID_ARGUMENT, NOT_FOUND, UNIMPLEMENTED, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED,
PERMISSION_DENIED, UNAVAILABLE."""
_VARINT, _BYTES = 0, 2


def success(signal: Signal, encoding: Encoding, rejected: int, reason: str) -> bytes:
    """ExportTraceServiceResponse and its siblings: empty when all was taken, else with ``partial_success``."""
    if not rejected:
        return b"{}" if encoding == JSON else b""
    if encoding == JSON:
        # 64-bit integers are texts in protobuf's JSON.
        partial = {_REJECTED_FIELD[signal]: str(rejected), "errorMessage": reason}
        return json.dumps({"partialSuccess": partial}).encode()
    return _bytes(1, _number(1, rejected) + _bytes(2, reason.encode()))


def failure(status: int, message: str, encoding: Encoding) -> bytes:
    """google.rpc.Status with code and message."""
    code = _CODES.get(status, 2)
    if encoding == JSON:
        return json.dumps({"code": code, "message": message}).encode()
    return _number(1, code) + _bytes(2, message.encode("utf-8", "replace"))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3 | _VARINT) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | _BYTES) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)
