"""One tool call as the cases of a report: the call itself, and each finding that a tool's answer holds.

Nothing here knows a tool by name. A result is bad by its exit code, or by a finding in it: an object of the list
``findings`` with a ``severity``, as the tools give them that verify a deployment, a cluster or a configuration.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from obi_mcp.cli.reports import Case, Outcome, Report
from obi_mcp.errors import CallTimeout, ClusterUnreachable, ConfigError, InvalidArgument
from obi_mcp.toolsets.base import ToolResult

MILD = frozenset({"ok", "info", "note", "hint", "warning"})
"""Severities of findings that keep nothing from working."""

NO_ANSWER = frozenset({kind.exit_code for kind in (CallTimeout, ClusterUnreachable, ConfigError, InvalidArgument)})
"""Exit codes that mean that the question was not answered, rather than answered with no."""

MAX_OUTPUT = 20_000


def exit_code(result: ToolResult) -> int:
    """What ``obi-mcp call`` exits with: 1 for an answer with a bad finding in it."""
    return result.exit_code or int(any(case.outcome != "passed" for case in _findings(result.structured)))


def call_report(tool: str, arguments: Mapping[str, Any], result: ToolResult, source: str | None) -> Report:
    """The report of one call; ``source`` is the file that the call is about."""
    return Report(f"obi-mcp call {tool}", (_call(tool, arguments, result), *_findings(result.structured)), source)


def _call(tool: str, arguments: Mapping[str, Any], result: ToolResult) -> Case:
    """The call's own case."""
    structured = result.structured
    milliseconds = structured.get("duration_ms")
    at = structured.get("at")
    line = at.get("line") if isinstance(at, dict) else None
    return Case(
        name=_name(tool, arguments),
        outcome=_outcome(result.exit_code),
        kind=_kind(result),
        message=_message(result) if result.exit_code else "",
        hint=_text(structured.get("hint")),
        output=(result.payload or "" if result.payload is not None else result.text)[:MAX_OUTPUT],
        line=line if isinstance(line, int) else None,
        seconds=milliseconds / 1000 if isinstance(milliseconds, int) else None,
    )


def _name(tool: str, arguments: Mapping[str, Any]) -> str:
    command = arguments.get("command")
    if isinstance(command, str):
        return command
    shown = {name: value for name, value in arguments.items() if name != "stdin"}
    return f"{tool} {json.dumps(shown, ensure_ascii=False, sort_keys=True)}" if shown else tool


def _outcome(code: int) -> Outcome:
    return "passed" if code == 0 else "error" if code in NO_ANSWER else "failed"


def _kind(result: ToolResult) -> str:
    """The error's code, or the decision's effect and rule, or how the program ended."""
    code = result.structured.get("code")
    if isinstance(code, str):
        return code
    decision = result.structured.get("decision", result.structured)
    if isinstance(decision, dict) and isinstance(decision.get("effect"), str):
        effect = f"{decision['effect']} {decision['rule']}" if decision.get("rule") else str(decision["effect"])
        ended = result.structured.get("exit_code")
        return f"exit {ended}" if isinstance(ended, int) and ended else effect
    return "ok" if result.exit_code == 0 else f"exit {result.exit_code}"


def _message(result: ToolResult) -> str:
    return _first(result.structured, "message", "reason", "stderr", "verdict") or result.text


def _findings(structured: Mapping[str, Any]) -> Iterator[Case]:
    found = structured.get("findings")
    for one in found if isinstance(found, list) else ():
        if isinstance(one, dict) and isinstance(one.get("severity"), str):
            yield _finding(one)


def _finding(one: Mapping[str, Any]) -> Case:
    """Tools name the parts of a finding by their own words: what it is about, what was seen, what to do."""
    severity, line = str(one["severity"]), one.get("line")
    about = _first(one, "what", "subject", "message", "evidence") or "a finding"
    seen = _text(one.get("evidence"))
    identifier = _first(one, "id", "key")
    return Case(
        name=about,
        outcome="passed" if severity in MILD else "failed",
        kind=f"{severity} {identifier}" if identifier else severity,
        message=f"{about}: {seen}" if seen and seen != about else about,
        hint=_first(one, "next_step", "hint"),
        line=line if isinstance(line, int) and line > 0 else None,
    )


def _first(one: Mapping[str, Any], *names: str) -> str | None:
    return next((said for name in names if (said := _text(one.get(name)))), None)


def _text(value: object) -> str | None:
    return value.strip() or None if isinstance(value, str) else None
