"""The shape of the schemas of this toolset: short, because every one is in every ``tools/list``."""

from __future__ import annotations

from typing import Any

from obi_mcp.toolsets.base import Schema


def arguments(properties: dict[str, Schema], required: tuple[str, ...] = ()) -> Schema:
    """The input schema of a tool with these arguments."""
    schema: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**schema, "required": list(required)} if required else schema


def result(field: str, kind: str, **more: Schema) -> Schema:
    """The output schema of a tool whose answer is in ``field``; a failure has code, message and hint instead, so that
    nothing is required."""
    return {"type": "object", "properties": {field: {"type": kind}, **more}}


def either(*fields: str) -> Schema:
    """The output schema of a tool whose answer has one of these texts, by what was asked."""
    return {"type": "object", "properties": {field: {"type": "string"} for field in fields}}
