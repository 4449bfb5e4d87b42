"""The four tools about OBI's configuration: what is in use, a change of it, whether one is good, a newer form."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from obi_mcp.agent.asks import asks_of
from obi_mcp.agent.readiness import Readiness
from obi_mcp.errors import Conflict, InvalidArgument, NotFound, ObiMcpError, ProgramFailed
from obi_mcp.obi.config import validate
from obi_mcp.obi.finding import ConfigFinding, Program
from obi_mcp.policy.effects import AgentCheck
from obi_mcp.toolsets.base import Services, ToolCall, ToolResult
from obi_mcp.toolsets.local.deploy import environment_of, raise_if_ended, shown_findings
from obi_mcp.toolsets.local.desk import Desk, Installed

BACKUP = "config.previous.yaml"
_MASK = "[redacted]"
_SHOWN = 200


async def run_get(services: Services, call: ToolCall) -> ToolResult:
    """``obi_get_config``."""
    desk = Desk.of(services, call, "obi_get_config")
    text = await desk.own_config()
    if text is None:
        raise NotFound("a configuration of this server's agent", None, "obi_deploy_local makes one")
    return await config_result(desk, text, all_values=call.arguments.get("defaults", False))


async def config_result(desk: Desk, text: str, *, all_values: bool) -> ToolResult:
    """The configuration as the installed program reads it."""
    return await asyncio.to_thread(_config_result, desk, text, await desk.installed(), all_values=all_values)


def _config_result(desk: Desk, text: str, installed: Installed, *, all_values: bool) -> ToolResult:
    """The configuration as text and as values, each with its source; secrets are masked."""
    from obi_mcp.obi.effective import effective

    environment = desk.environment()
    try:
        values = effective(text, environment=environment, version=installed.version, program=installed.program)
    except ValueError as error:
        raise ProgramFailed(f"the configuration cannot be read: {error}", "obi_validate_config says where") from None
    # Only the values: a key that ends with "headers" would take its source along.
    redacted = desk.services.effects.redactor.value({value.path: value.value for value in values})
    shown: dict[str, dict[str, Any]] = {}
    for value in values:
        if value.source == "default" and not all_values:
            continue
        entry: dict[str, Any] = {"value": _MASK if value.secret else redacted[value.path], "source": value.source}
        if value.variable:
            entry["variable"] = value.variable
        if value.line:
            entry["line"] = value.line
        shown[value.path] = entry
    plain = desk.plain(text)
    structured = {"path": str(desk.config_path), "text": plain, "values": shown, "environment": sorted(environment)}
    lines = [f"{path} = {_written(entry['value'])} ({_from(entry)})" for path, entry in list(shown.items())[:_SHOWN]]
    if len(shown) > _SHOWN:
        lines.append(f"… {len(shown) - _SHOWN} more, in structuredContent.values")
    return ToolResult(structured, "\n".join([str(desk.config_path), *lines]), payload=plain)


def _written(value: Any) -> str:
    """As it would stand in the file."""
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def _from(entry: dict[str, Any]) -> str:
    place = f", line {entry['line']}" if "line" in entry else ""
    return f"{entry['source']}{place}" + (f", {entry['variable']}" if "variable" in entry else "")


async def run_validate(services: Services, call: ToolCall) -> ToolResult:
    """``obi_validate_config``."""
    desk = Desk.of(services, call, "obi_validate_config")
    environment = environment_of(call.arguments)
    text = await _text(desk)
    installed = await desk.installed()
    judged = _judged(desk, installed, call.arguments.get("program"))

    async def look() -> ToolResult:
        found = await asyncio.to_thread(
            validate, text, environment=environment, version=judged.version, program=judged.program
        )
        if judged.program == installed.program:
            found = (*found, *await _own_word(desk, text, found, installed))
        findings = [
            {
                "severity": one.severity,
                "key": one.key,
                "line": one.line,
                "column": one.column,
                "message": desk.plain(one.message),
                "hint": one.hint,
                "nearest": one.nearest,
                "obi": str(one.effect) if one.effect else None,
            }
            for one in found
        ]
        good = not any(one.severity == "error" for one in found)
        lines = [f"{one.severity}: {desk.plain(str(one))}" for one in found]
        head = "the configuration is good" if good else "the configuration is not good"
        return ToolResult({"valid": good, "findings": findings}, "\n".join([head, *lines]), exit_code=0 if good else 1)

    return await desk.read("validate", look)


def _judged(desk: Desk, installed: Installed, asked: Program | None) -> Installed:
    """The program that was asked for, of the version that the operator names where it is not the installed one."""
    if asked in (None, installed.program):
        return installed
    return Installed(installed.binary, asked, desk.services.settings.obi.version if asked == "obi" else None)


async def _own_word(
    desk: Desk, text: str, ours: tuple[ConfigFinding, ...], installed: Installed
) -> tuple[ConfigFinding, ...]:
    """What the installed program says otherwise, where it is one that can be asked: of a v2 document, from 0.11 on."""
    from obi_mcp.obi.agreement import compare, has_config_command
    from obi_mcp.obi.migration import detect

    binary, version = installed.binary, installed.version
    if version is None or installed.program != "obi" or not binary.path:
        return ()
    if not has_config_command(version) or detect(text) != "v2":
        return ()
    effect = AgentCheck(binary.path, version, text)
    answer = await desk.services.effects.run(effect, desk.asked, desk.services.agents.check)
    return compare(ours, answer, version=version)


async def run_migrate(services: Services, call: ToolCall) -> ToolResult:
    """``obi_migrate_config``."""
    desk = Desk.of(services, call, "obi_migrate_config")
    environment = environment_of(call.arguments)
    text = await _text(desk)

    async def look() -> ToolResult:
        from obi_mcp.obi.migration import migrate

        source = call.arguments.get("source", "auto")
        made = await asyncio.to_thread(lambda: migrate(text, source=source, environment=environment))
        if made.problem is not None:
            raise InvalidArgument(f"the configuration cannot be migrated: {made.problem}", "obi_validate_config helps")
        unmoved = [{"key": one.key, "reason": one.reason, "line": one.line or 0} for one in made.unmoved]
        moved = desk.plain(made.text)
        structured: dict[str, Any] = {
            "text": moved,
            "from": made.source,
            "to": made.target,
            "unmoved": unmoved,
            "notes": list(made.notes),
            "environment": sorted(made.environment),
        }
        left = {0: "every key was moved", 1: "1 key could not be moved"}
        lines = [f"{made.source} → {made.target}; {left.get(len(unmoved), f'{len(unmoved)} keys could not be moved')}"]
        lines += [f"not moved: {one.key}: {one.reason}" for one in made.unmoved]
        return ToolResult(structured, "\n".join([*lines, *made.notes, moved]), payload=moved)

    return await desk.read("migrate", look)


async def run_update(services: Services, call: ToolCall) -> ToolResult:
    """``obi_update_config``: judged and validated before anything is touched, undone when OBI does not take it."""
    from obi_mcp.obi.edit import merge_patch

    desk = Desk.of(services, call, "obi_update_config")
    old = await desk.own_config()
    if old is None:
        raise NotFound("a configuration of this server's agent", None, "obi_deploy_local makes one")
    edited = await asyncio.to_thread(merge_patch, old, call.arguments["patch"])
    structured: dict[str, Any] = {"changed": edited.changed, "diff": desk.plain(edited.diff), "restarted": False}
    if not edited.changed:
        return ToolResult(structured, "nothing changes: the configuration says so already")
    environment = desk.environment()
    installed = await desk.installed()
    warnings = await desk.check(edited.text, environment, installed)
    structured["findings"] = shown_findings(desk, (), warnings)
    if call.arguments.get("dry_run", False):
        return ToolResult(structured, f"would change:\n{structured['diff']}")
    runs = desk.is_kept() and call.arguments.get("restart", "auto") == "auto"
    if runs:
        own = frozenset(port.number for port in asks_of(old, environment).ports)
        await desk.preflight(asks_of(edited.text, environment), installed, own)
    await _put(desk, old, edited.text)
    if runs:
        readiness = await _restarted(desk, old, edited.text, environment)
        structured.update(restarted=True, ready=readiness.ready)
        structured["waiting_for"] = list(readiness.waiting_for)
    done = "changed, and OBI was started with it" if runs else "changed; OBI reads it when it is started"
    return ToolResult(structured, f"{done}\n{structured['diff']}")


async def _put(desk: Desk, old: str, new: str) -> None:
    """The new text first by the policy, then the backup, then the file: a refusal leaves everything as it was."""
    decided = desk.services.effects.explain(desk.would_start(desk.binary(), new, desk.environment()))
    if decided.allowed:
        await desk.write(old, BACKUP)
    await desk.write(new)


async def _restarted(desk: Desk, old: str, new: str, environment: dict[str, str]) -> Readiness:
    """Starts the agent with the new configuration; with the old one again when it does not take it."""
    binary = desk.binary()
    await desk.end("restart")
    try:
        started = await desk.start(desk.would_start(binary, new, environment))
        raise_if_ended(desk, started.readiness)
    except ObiMcpError as error:
        raise await _rolled_back(desk, old, environment, error) from None
    return started.readiness


async def _rolled_back(desk: Desk, old: str, environment: dict[str, str], error: ObiMcpError) -> ObiMcpError:
    if desk.is_kept():
        await desk.end("restart")
    await desk.write(old)
    try:
        started = await desk.start(desk.would_start(desk.binary(), old, environment))
        raise_if_ended(desk, started.readiness)
    except ObiMcpError as again:
        return ProgramFailed(
            f"OBI does not take the change ({error.message}), and did not come back with the old configuration, which "
            f"is in place again: {again.message}",
            error.hint,
        )
    return Conflict(
        f"OBI does not take the change: {error.message}; the old configuration is in place again, and OBI runs with it "
        f"as pid {started.pid}",
        error.hint,
    )


async def _text(desk: Desk) -> str:
    given = desk.call.arguments
    if "config" in given and "config_path" in given:
        raise InvalidArgument("config and config_path are both given", "give one of them")
    if "config_path" in given:
        return await desk.config_file(given["config_path"])
    text: str | None = given["config"] if "config" in given else await desk.own_config()
    if text is None:
        raise InvalidArgument("no configuration is given, and this server's agent has none", "give config")
    return text
