"""The toolset ``command``: whole command lines of kubectl, helm and obi on the guarded road. Always on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from obi_mcp import __version__
from obi_mcp.audit import AuditEntry
from obi_mcp.config import Settings
from obi_mcp.enforcer.model import Call
from obi_mcp.errors import Declined, InvalidCommand
from obi_mcp.policy.model import Access
from obi_mcp.toolsets.base import SHARED, Schema, Services, ToolCall, ToolResult, Toolset, ToolSpec
from obi_mcp.toolsets.confirming import confirmed, reach_of
from obi_mcp.toolsets.rendering import render_answer, render_decision
from obi_mcp.toolsets.schema import ANSWER, EXPLANATION

MAX_COMMAND = 65_536
TOOLS_BY_PROGRAM = {"kubectl": "obi_kubectl", "helm": "obi_helm", "obi": "obi_command"}

_FILTERS = "jq, grep, head, tail, sort, uniq, wc, cut, tr"


class CommandToolset(Toolset):
    """``obi_kubectl``, ``obi_helm``, ``obi_command``, ``obi_explain_command``."""

    name = "command"
    version = __version__

    def tools(self, settings: Settings) -> tuple[ToolSpec, ...]:
        return (_kubectl(settings), _helm(settings), _obi(settings), _explain(settings))


def _kubectl(settings: Settings) -> ToolSpec:
    return ToolSpec(
        name="obi_kubectl",
        title="Run kubectl for OBI",
        description=(
            "Runs one kubectl command line about OBI (pods, logs, metrics, configuration, rollouts), alone or piped "
            f"through {_FILTERS}; no shell. "
            "Only what is OBI's passes; a refusal names what would. "
            "For releases use obi_helm, to ask without running obi_explain_command."
        ),
        input_schema=_run_schema(
            settings,
            "Beginning with kubectl, like: kubectl get pods -A -o json | jq -r '.items[].metadata.name'",
            "Document for `-f -`: YAML or JSON, each object with its namespace.",
        ),
        output_schema=ANSWER,
        run=_runner("obi_kubectl"),
        reaches=Access.FULL,
    )


def _helm(settings: Settings) -> ToolSpec:
    return ToolSpec(
        name="obi_helm",
        title="Run helm for OBI",
        description=(
            "Runs one helm command line about OBI's releases (list, status, history, get, template, install, "
            "upgrade), alone or piped as in obi_kubectl. "
            "Charts come from the server's store or configured repositories, values from `--set` or `--values -`. "
            "For a release's objects use obi_kubectl."
        ),
        input_schema=_run_schema(
            settings,
            "Beginning with helm, like: helm status obi -n observability",
            "Values for `--values -`: YAML.",
        ),
        output_schema=ANSWER,
        run=_runner("obi_helm"),
        reaches=Access.FULL,
    )


def _obi(settings: Settings) -> ToolSpec:
    return ToolSpec(
        name="obi_command",
        title="Validate or migrate OBI's configuration",
        description=(
            "Runs `obi config validate -` or `obi config migrate -` on the configuration in stdin. "
            "Use it before one is written with obi_kubectl."
        ),
        input_schema=_run_schema(
            settings,
            "obi config validate - or obi config migrate -",
            "OBI's configuration: YAML.",
        ),
        output_schema=ANSWER,
        run=_runner("obi_command"),
        open_world=False,
    )


def _explain(settings: Settings) -> ToolSpec:
    properties = {
        "command": _command("Beginning with kubectl, helm or obi."),
        "stdin": _stdin(settings, "Document that would go with it."),
        "context": _context(),
        "access": _access(settings),
    }
    return ToolSpec(
        name="obi_explain_command",
        title="Explain a command",
        description=(
            "Says whether a kubectl, helm or obi command line would be allowed, by which rule, what would be added and "
            "checked, or what would be allowed instead; runs nothing. "
            "Use it to plan a change or to repair a refused command."
        ),
        input_schema=_object(properties),
        output_schema=EXPLANATION,
        run=_run_explain,
        open_world=False,
    )


# --- input schemas ---


def _object(properties: dict[str, Any]) -> Schema:
    return {"type": "object", "properties": properties, "required": ["command"], "additionalProperties": False}


def _run_schema(settings: Settings, command: str, stdin: str) -> Schema:
    limits = settings.limits
    return _object(
        {
            "command": _command(command),
            "stdin": _stdin(settings, stdin),
            "context": _context(),
            "access": _access(settings),
            "timeout_s": {
                "type": "number",
                "description": SHARED["timeout_s"],
                "minimum": 0.1,
                "maximum": limits.max_timeout_s,
                "default": limits.timeout_s,
            },
            "max_bytes": {
                "type": "integer",
                "description": SHARED["max_bytes"],
                "minimum": 1,
                "maximum": limits.max_max_bytes,
                "default": limits.max_bytes,
            },
        }
    )


def _command(description: str) -> Schema:
    return {"type": "string", "description": description, "minLength": 1, "maxLength": MAX_COMMAND}


def _stdin(settings: Settings, description: str) -> Schema:
    return {"type": "string", "description": description, "maxLength": settings.limits.max_stdin_bytes}


def _context() -> Schema:
    return {
        "type": "string",
        "description": SHARED["context"],
        "minLength": 1,
        "maxLength": 253,
    }


def _access(settings: Settings) -> Schema:
    return {
        "type": "string",
        "description": SHARED["access"],
        "enum": [level.label for level in Access if level <= settings.access],
    }


# --- what the tools do ---


def _runner(tool: str) -> Callable[[Services, ToolCall], Awaitable[ToolResult]]:
    async def run(services: Services, call: ToolCall) -> ToolResult:
        wanted = _call(tool, call)
        _refuse_other_program(services, wanted)
        if services.settings.confirm != "never":
            wanted = replace(wanted, confirmed_by=await _confirmed_by(services, call, wanted))
        return render_answer(await services.enforcer.run(wanted, call.progress))

    return run


async def _confirmed_by(services: Services, call: ToolCall, wanted: Call) -> str | None:
    """Through what a person confirmed the command; None where the operator does not want it confirmed.

    Raises: Declined, QuestionPending.
    """
    decision = await asyncio.to_thread(services.enforcer.explain, wanted)
    level = min(wanted.access or services.settings.access, services.settings.access)
    where = f" in the context {wanted.context}" if wanted.context else ""
    headline = f"Run this command{where} ({wanted.tool})?"
    given = [wanted.command, *(["with this document:", wanted.stdin] if wanted.stdin is not None else [])]
    try:
        return (await confirmed(services, call, reach_of(decision, level), headline, given)).confirmed_by
    except Declined as error:
        entry = AuditEntry(wanted.tool, wanted.command, wanted.caller, decision, error=error.code, stdin=wanted.stdin)
        services.audit.record(entry)
        error.audited = True
        raise


async def _run_explain(services: Services, call: ToolCall) -> ToolResult:
    wanted = _call("obi_explain_command", call)
    services.audit.ensure_writable()
    started = time.monotonic()
    if wanted.stdin is None:
        decision = services.enforcer.explain(wanted)
    else:  # a document of a megabyte takes a while to read, and the loop has others to serve
        decision = await asyncio.to_thread(services.enforcer.explain, wanted)
    spent_ms = round((time.monotonic() - started) * 1000)
    services.audit.record(
        AuditEntry(wanted.tool, wanted.command, wanted.caller, decision, duration_ms=spent_ms, stdin=wanted.stdin)
    )
    return render_decision(decision, wanted.access or services.settings.access)


def _call(tool: str, call: ToolCall) -> Call:
    given = call.arguments
    return Call(
        command=given["command"],
        tool=tool,
        stdin=given.get("stdin"),
        access=Access.parse(given["access"]) if "access" in given else None,
        context=given.get("context"),
        timeout_s=given.get("timeout_s"),
        max_bytes=given.get("max_bytes"),
        caller=call.caller,
    )


def _refuse_other_program(services: Services, call: Call) -> None:
    """helm typed into ``obi_kubectl`` is a slip that one sentence repairs; what is no program of ours, the policy
    refuses in its own words."""
    words = call.command.split(maxsplit=1)
    meant = TOOLS_BY_PROGRAM.get(words[0]) if words else None
    if meant is None or meant == call.tool:
        return
    error = InvalidCommand(
        f"{call.tool} does not run {words[0]}",
        f"give this command to {meant}",
        word=0,
        column=call.command.index(words[0]) + 1,
    )
    services.audit.record(AuditEntry(call.tool, call.command, call.caller, error=error.code, stdin=call.stdin))
    error.audited = True
    raise error
