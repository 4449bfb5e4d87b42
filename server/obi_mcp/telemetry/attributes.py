"""OTLP attributes as plain values and as JSON text of bounded length."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

MAX_TEXT = 1024
"""Characters of a name, a status message or a body's beginning that are kept."""
MAX_JSON = 16_384
"""Characters of all attributes of one row; longer ones are left out, the row stays."""
MAX_DEPTH = 8
TOO_LONG = '{"obi_mcp.left_out":"the attributes were too long"}'


def plain(value: AnyValue, depth: int = 0) -> Any:
    """The value as JSON has it: bytes as hexadecimal digits, numbers that JSON lacks as text, None where unset."""
    kind = value.WhichOneof("value")
    match kind:
        case None:
            return None
        case "double_value":
            number = value.double_value
            return number if math.isfinite(number) else str(number)
        case "bytes_value":
            return value.bytes_value.hex()
        case "array_value" | "kvlist_value" if depth >= MAX_DEPTH:
            return "[nested too deep]"
        case "array_value":
            return [plain(item, depth + 1) for item in value.array_value.values]
        case "kvlist_value":
            return {pair.key: plain(pair.value, depth + 1) for pair in value.kvlist_value.values}
    return getattr(value, kind)


def attributes_of(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    """Attributes by name; of a name that comes twice the last."""
    return {pair.key: plain(pair.value) for pair in pairs}


def json_text(value: Any) -> str:
    """Compact JSON; TOO_LONG in place of what would be longer than MAX_JSON."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text if len(text) <= MAX_JSON else TOO_LONG


def first_text(attributes: Mapping[str, Any], *names: str) -> str | None:
    """The first of these attributes that is there, as text; newer names come before older ones."""
    for name in names:
        value = attributes.get(name)
        if value is not None:
            return str(value)[:MAX_TEXT]
    return None


def first_integer(attributes: Mapping[str, Any], *names: str) -> int | None:
    """The first of these attributes that is a number of 32 bits, or a text that spells one."""
    for name in names:
        value = attributes.get(name)
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 31:
            return value
    return None
