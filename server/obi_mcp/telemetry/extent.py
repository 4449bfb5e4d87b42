"""How much a request would become in memory, told before it is read: a few bytes can spell a great many messages.

Two bytes are an empty span, and an empty span takes 170 bytes once it is parsed (protobuf 7, upb); three are an empty
JSON object, which takes 64.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from obi_mcp.telemetry.tables import Signal

MAX_MESSAGES = 50_000
"""Resources, scopes, spans, metrics, points and log records of one request."""
MAX_NODES = 250_000
"""Objects and lists of one JSON request; a span of ten attributes has about thirty."""

_GROUPED = frozenset({1}), frozenset({2}), frozenset({2})
_PATHS: Mapping[Signal, tuple[frozenset[int], ...]] = {
    # resource_…, scope_…, then spans or records; metrics go on into their data and its points
    "traces": _GROUPED,
    "logs": _GROUPED,
    "metrics": (*_GROUPED, frozenset({5, 7, 9, 10, 11}), frozenset({1})),
}
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


def within_messages(signal: Signal, body: bytes, most: int = MAX_MESSAGES) -> bool:
    """Whether a protobuf body has at most so many messages on the way to its rows.

    A body that is cut short is within: the parser says so. Raises: ValueError for a group, which OTLP never has (and
    behind which nothing would be counted).
    """
    path = _PATHS[signal]
    waiting = [(0, len(body), 0)]
    count = 0
    try:
        while waiting:
            at, end, level = waiting.pop()
            fields, last = path[level], level + 1 == len(path)
            while at < end:
                tag, at = _number(body, at)
                kind = tag & 7
                if kind == _LENGTH:
                    size, at = _number(body, at)
                    if tag >> 3 in fields:
                        count += 1
                        if count > most:
                            return False
                        if not last:
                            waiting.append((at, min(at + size, end), level + 1))
                    at += size
                elif kind == _VARINT:
                    _, at = _number(body, at)
                elif kind in (_FIXED64, _FIXED32):
                    at += 8 if kind == _FIXED64 else 4
                else:
                    raise ValueError("a group, or no protobuf at all")
    except IndexError:
        return True
    return True


def within_nodes(data: Any, most: int = MAX_NODES) -> bool:
    """Whether JSON data has at most so many objects and lists."""
    waiting = [data]
    count = 0
    while waiting:
        node = waiting.pop()
        children = node.values() if isinstance(node, dict) else node
        count += 1
        if count > most:
            return False
        waiting.extend(child for child in children if isinstance(child, dict | list))
    return True


def _number(body: bytes, at: int) -> tuple[int, int]:
    """A varint, and where it ends. Raises: IndexError when it does not."""
    value = body[at]
    at += 1
    if value < 0x80:
        return value, at
    value &= 0x7F
    shift = 7
    while True:
        byte = body[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80 or shift > 63:
            return value, at
        shift += 7
