"""Calls of tools in this process, on a road that records."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.unit.recorded_road import RecordedRoad, services

from obi_mcp.config import Settings
from obi_mcp.policy.model import Access
from obi_mcp.toolsets.base import ToolCall, ToolResult, ToolSpec
from obi_mcp.toolsets.registry import listed_tools
from obi_mcp.toolsets.run import run_tool

FULL = Settings(access=Access.FULL)
GOOD = {"command": "kubectl get pods"}
"""Arguments that every command tool takes."""


def spec(name: str, settings: Settings = FULL) -> ToolSpec:
    """The one listed tool of that name."""
    (found,) = [tool for tool in listed_tools(settings) if tool.name == name]
    return found


def call(
    name: str, arguments: dict[str, Any], road: RecordedRoad | None = None, settings: Settings = FULL
) -> ToolResult:
    """What the tool gives; nothing but the road is a double."""
    made = services(road or RecordedRoad(), settings)
    return asyncio.run(run_tool(made, spec(name, settings), ToolCall(arguments, "test")))
