"""One tool call from its arguments to its result: the road that MCP and ``obi-mcp call`` share."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from obi_mcp.audit import AuditEntry
from obi_mcp.enforcer.model import Progress
from obi_mcp.errors import InvalidArgument, ObiMcpError
from obi_mcp.policy.model import Access
from obi_mcp.redact import Redactor, strip_values
from obi_mcp.toolsets.arguments import check_arguments
from obi_mcp.toolsets.base import Services, ToolCall, ToolResult, ToolSpec
from obi_mcp.toolsets.confirming import confirmed_tool
from obi_mcp.toolsets.registry import callable_tools
from obi_mcp.toolsets.rendering import render_error
from obi_mcp.toolsets.way_out import in_terms_of

MAX_COMMAND = 1_000
"""Characters of the command in the audit line of a call that ended here."""

_LONG = 65_536

logger = logging.getLogger("obi_mcp.toolsets")


async def run_tool(services: Services, spec: ToolSpec, call: ToolCall) -> ToolResult:
    """Checks the arguments and runs the tool; every outcome but cancellation is a result, and has its audit line.

    INVARIANT: nothing leaves a tool by another way, so that nothing leaves it with a secret: not a result, not an
    error, not a line of progress.
    """
    progress = call.progress
    if progress is not None:
        call = replace(call, progress=_redacted_progress(progress))
    result = await _outcome(services, spec, call)
    if result.payload is not None and len(result.payload) > _LONG:
        return await asyncio.to_thread(_redacted, result)  # a megabyte takes a tenth of a second, and others wait
    return _redacted(result)


async def _outcome(services: Services, spec: ToolSpec, call: ToolCall) -> ToolResult:
    notices = [f"{call.called} is {spec.name} here"] if call.called not in ("", spec.name) else []
    try:
        spec, call = await _of_today(services, spec, call, notices)
        call = await confirmed_tool(services, spec, call)
        result = await _run(services, spec, call)
    except ObiMcpError as error:
        if not _has_its_line(error):
            _record(services, spec, call, error)
        result = render_error(in_terms_of(error, call, services.settings), _level(services, call))
    return _noticed(result, notices) if notices else result


async def _of_today(
    services: Services, spec: ToolSpec, call: ToolCall, notices: list[str]
) -> tuple[ToolSpec, ToolCall]:
    """The call with arguments that fit, in the form of the TypeScript obi-mcp if not in today's.

    Raises: InvalidArgument.
    """
    try:
        check_arguments(spec, call.arguments)
        return spec, call
    except InvalidArgument:
        from obi_mcp.toolsets.predecessor import translate

        moved = await asyncio.to_thread(translate, spec.name, call.arguments)
        if moved is None:
            raise
    notices += moved.notices
    if moved.tool != spec.name:
        spec = callable_tools(services.settings)[moved.tool]
    check_arguments(spec, moved.arguments)
    return spec, replace(call, arguments=moved.arguments)


def _noticed(result: ToolResult, notices: list[str]) -> ToolResult:
    """The result, and that it was asked for in another form."""
    there = result.structured.get("notes")
    structured = {**result.structured, "notes": [*notices, *(there if isinstance(there, list) else [])]}
    text = "\n".join([*(f"note: {notice}" for notice in notices), result.text])
    return replace(result, structured=structured, text=text, notes=(*notices, *result.notes))


async def _run(services: Services, spec: ToolSpec, call: ToolCall) -> ToolResult:
    try:
        return await spec.run(services, call)
    except ObiMcpError:
        raise
    except Exception:  # the very top: what nobody foresaw is written down here and told to nobody
        logger.exception("tool %s failed", spec.name)
        error = ObiMcpError(f"{spec.name} failed inside the server", "the server's log on standard error says why")
        raise error from None


def _redacted(result: ToolResult) -> ToolResult:
    """The result without secrets and without what deceives, whatever the tool took care of itself; a caller's own
    secrets are repeated by decisions."""
    seen, stripped = strip_values(result.structured)
    structured = Redactor.load().value(seen)
    if stripped and "stdout" in structured:
        structured["stripped"] = structured.get("stripped", 0) + stripped
    printed = result.payload
    if printed is not None:
        printed = structured["stdout"] if result.structured.get("stdout") is printed else plain_text(printed)
    return replace(
        result,
        structured=structured,
        text=plain_text(result.text),
        payload=printed,
        notes=tuple(map(plain_text, result.notes)),
    )


def plain_text(text: str) -> str:
    """Text as it may leave the server."""
    return Redactor.load().plain(text)


def _redacted_progress(progress: Progress) -> Progress:
    async def report(done: float, total: float | None, message: str) -> None:
        await progress(done, total, plain_text(message))

    return report


def _has_its_line(error: BaseException) -> bool:
    """Whether it, or the refusal that it tells in other words, stands in the audit log."""
    above = error.__cause__ or error.__context__
    return (isinstance(error, ObiMcpError) and error.audited) or (above is not None and _has_its_line(above))


def _level(services: Services, call: ToolCall) -> Access:
    """The level of the call: the server's, or the lower one that it asked for."""
    asked, own = call.arguments.get("access"), services.settings.access
    known = [level for level in Access if level.label == asked]
    return min((own, *known))


def _record(services: Services, spec: ToolSpec, call: ToolCall, error: ObiMcpError) -> None:
    """The audit line of a call that ended outside the enforcer, or in a way that it did not foresee."""
    command = call.arguments.get("command")
    text = command if isinstance(command, str) else " ".join((spec.name, *sorted(call.arguments)))
    services.audit.record(AuditEntry(spec.name, text[:MAX_COMMAND], call.caller, error=error.code))
