"""One tool call from its arguments to its result: the road that MCP and ``obi-mcp call`` share."""

from __future__ import annotations

import logging

from obi_mcp.audit import AuditEntry
from obi_mcp.errors import InvalidArgument, ObiMcpError
from obi_mcp.toolsets.arguments import check_arguments
from obi_mcp.toolsets.base import Services, ToolCall, ToolResult, ToolSpec
from obi_mcp.toolsets.rendering import render_error

MAX_REFUSED_COMMAND = 1_000
"""Characters of the command in the audit line of a call whose arguments were refused."""

logger = logging.getLogger("obi_mcp.toolsets")


async def run_tool(services: Services, spec: ToolSpec, call: ToolCall) -> ToolResult:
    """Checks the arguments and runs the tool; every outcome but cancellation is a result."""
    try:
        try:
            check_arguments(spec, call.arguments)
        except InvalidArgument as error:
            services.audit.record(_refused(spec, call, error))
            raise
        return await spec.run(services, call)
    except ObiMcpError as error:
        return render_error(error)
    except Exception:  # the very top: what nobody foresaw is written down here and told to nobody
        logger.exception("tool %s failed", spec.name)
        return render_error(
            ObiMcpError(f"{spec.name} failed inside the server", "the server's log on standard error says why")
        )


def _refused(spec: ToolSpec, call: ToolCall, error: InvalidArgument) -> AuditEntry:
    command = call.arguments.get("command")
    text = command[:MAX_REFUSED_COMMAND] if isinstance(command, str) else ""
    return AuditEntry(spec.name, text, call.caller, error=error.code)
