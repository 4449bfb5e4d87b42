"""``obi_deploy_local``: from arguments to an agent that is ready, or to the reason why it is not."""

from __future__ import annotations

from typing import Any

from obi_mcp.agent.asks import asks_of
from obi_mcp.agent.preflight import HostFinding
from obi_mcp.agent.proof import lives
from obi_mcp.agent.readiness import Readiness
from obi_mcp.agent.record import LOG
from obi_mcp.audit import AuditEntry
from obi_mcp.errors import Conflict, Denied, InvalidArgument, ProgramFailed
from obi_mcp.obi.finding import ConfigFinding
from obi_mcp.obi.log_lines import parse_line, version_in
from obi_mcp.policy.effects import AgentStart
from obi_mcp.toolsets.base import Services, ToolCall, ToolResult
from obi_mcp.toolsets.capturing import ENDPOINT, captured_by
from obi_mcp.toolsets.local.bounds import MAX_CONFIG
from obi_mcp.toolsets.local.desk import READY_WITHIN_S, Desk, Installed, Started, taken_ports
from obi_mcp.toolsets.local.options import OPTIONS, patch_of, whole_config

_SHOWN_LINES = 12
_SHOWN_LINE = 300


async def run_deploy(services: Services, call: ToolCall) -> ToolResult:
    """The tool."""
    desk = Desk.of(services, call, "obi_deploy_local")
    given = call.arguments
    binary = desk.binary()
    _refuse_running(desk)
    environment = environment_of(given)
    captured = await captured_by(services, given)
    environment |= captured
    installed = await desk.installed()
    text = await _config(desk, beyla=installed.program == "beyla")
    warnings = await desk.check(text, environment, installed)
    asks = asks_of(text, environment)
    effect = desk.would_start(binary, text, environment)
    if given.get("dry_run", False):
        return await desk.read("preflight", lambda: _planned(desk, effect, installed, warnings))
    findings = await desk.preflight(asks, installed, frozenset())
    _refuse_denied(desk, effect)
    await desk.write(text)
    started = await desk.start(effect, within_s=given.get("timeout_s", READY_WITHIN_S))
    raise_if_ended(desk, started.readiness)
    result = _result(desk, effect, started, findings, warnings)
    if captured:
        result.structured["capture"] = captured[ENDPOINT]
    return result


def environment_of(given: Any) -> dict[str, str]:
    """The ``env`` argument. Raises: InvalidArgument for a value that is no text."""
    environment: dict[str, str] = {}
    for name, value in given.get("env", {}).items():
        if not isinstance(value, str):
            raise InvalidArgument(f"env.{name[:80]} is not a text", "write every value of env in quotes")
        environment[name] = value
    return environment


def raise_if_ended(desk: Desk, readiness: Readiness) -> None:
    """Raises: ProgramFailed with what the agent said last and what that means, when it has ended."""
    if readiness.ended is None and readiness.waiting_for != ("the agent",):
        return
    record = readiness.ended
    exits = record.exits if record is not None else ()
    how = f" ({exits[-1]})" if exits else ""
    if readiness.symptoms:
        symptom = readiness.symptoms[0]
        raise ProgramFailed(
            f"OBI was started and ended{how}: {symptom.cause}: {desk.plain(symptom.evidence)[:500]}", symptom.way_out
        )
    lines = readiness.lines or (record.last_lines if record is not None else ())
    said = " | ".join(line[:_SHOWN_LINE] for line in lines[-4:])
    raise ProgramFailed(f"OBI was started and ended{how}: {desk.plain(said)}", "obi_get_logs has all that it said")


def _refuse_running(desk: Desk) -> None:
    record = desk.record
    if record is not None and (desk.is_kept() or lives(record.agent)):
        raise Conflict(
            f"OBI runs on this host already as pid {record.agent.pid}"
            if record.agent.pid
            else "OBI is kept on this host already and about to be started again",
            "change it by obi_update_config, or end it by obi_stop first",
        )


def _refuse_denied(desk: Desk, effect: AgentStart) -> None:
    """Before anything is written: a configuration that may not be started is not put in place of another. The road
    decides again, and writes it down."""
    decision = desk.services.effects.explain(effect)
    if not decision.allowed:
        entry = AuditEntry(desk.asked.tool, effect.line, desk.asked.caller, decision, error=Denied.code)
        desk.services.audit.record(entry)
        denied = Denied(decision)
        denied.audited = True
        raise denied


async def _config(desk: Desk, *, beyla: bool) -> str:
    given = desk.call.arguments
    if "config" in given and "config_path" in given:
        raise InvalidArgument("config and config_path are both given", "give one of them")
    options = {name: given[name] for name in OPTIONS if name in given}
    text: str | None = given.get("config")
    if "config_path" in given:
        text = await desk.config_file(given["config_path"])
    if text is None and options:
        return whole_config(options, beyla=beyla, taken=taken_ports())
    if text is None:
        text = await desk.own_config()
    if text is None:
        return whole_config(options, beyla=beyla, taken=frozenset())
    if options:
        from obi_mcp.obi.edit import merge_patch

        text = merge_patch(text, patch_of(options, beyla=beyla)).text
    if len(text) > MAX_CONFIG:
        raise InvalidArgument(f"the configuration has {len(text):,} characters; at most {MAX_CONFIG:,} are taken")
    return text


async def _planned(
    desk: Desk, effect: AgentStart, installed: Installed, warnings: tuple[ConfigFinding, ...]
) -> ToolResult:
    findings = await desk.findings(asks_of(effect.config, dict(effect.environment)), installed, frozenset())
    decision = desk.services.effects.explain(effect)
    structured: dict[str, Any] = {
        "dry_run": True,
        "argv": list(effect.argv),
        "config": desk.plain(effect.config),
        "findings": shown_findings(desk, findings, warnings),
        "decision": decision.as_json(),
    }
    fit = all(finding.severity != "problem" for finding in findings)
    lines = [
        f"{'would' if fit else 'would not, for the problem below,'} run {' '.join(effect.argv)}",
        f"{decision.effect} by {decision.rule}: {decision.reason}",
        *(_finding_line(entry) for entry in structured["findings"]),
        structured["config"],
    ]
    return ToolResult(structured, "\n".join(lines), exit_code=3 if not decision.allowed else 0 if fit else 1)


def _result(
    desk: Desk,
    effect: AgentStart,
    started: Started,
    findings: tuple[HostFinding, ...],
    warnings: tuple[ConfigFinding, ...],
) -> ToolResult:
    readiness = started.readiness
    lines = [desk.plain(line)[:_SHOWN_LINE] for line in readiness.lines[:_SHOWN_LINES]]
    version = next((found for line in readiness.lines if (found := version_in(parse_line(line)))), None)
    structured: dict[str, Any] = {
        "pid": started.pid,
        "ready": readiness.ready,
        "version": version,
        "argv": list(effect.argv),
        "log": str(desk.directory / LOG),
        "lines": lines,
        "waiting_for": list(readiness.waiting_for),
        "findings": shown_findings(desk, findings, warnings, symptoms=readiness),
    }
    state = "ready" if readiness.ready else f"not ready yet: waiting for {', '.join(readiness.waiting_for)}"
    text = [f"{effect.binary} {version or ''} runs as pid {started.pid}, {state}"]
    reused = "" if {"config", "config_path", *OPTIONS} & desk.call.arguments.keys() else ", as it was there before"
    text += [f"configuration: {effect.config_path}{reused}", f"log: {structured['log']}"]
    text += [_finding_line(entry) for entry in structured["findings"]]
    return ToolResult(structured, "\n".join([*text, *lines]))


def shown_findings(
    desk: Desk,
    findings: tuple[HostFinding, ...],
    warnings: tuple[ConfigFinding, ...],
    symptoms: Readiness | None = None,
) -> list[dict[str, str]]:
    """What is to be said besides: of the host, of the configuration, of what the agent printed."""
    shown = [finding.as_json() for finding in findings if finding.severity != "ok"]
    shown += [
        {"subject": f"configuration, {found.key or 'whole'}", "severity": "note", "evidence": desk.plain(str(found))}
        for found in warnings
    ]
    for symptom in symptoms.symptoms if symptoms is not None else ():
        evidence = f"{symptom.cause}: {desk.plain(symptom.evidence)[:_SHOWN_LINE]}"
        entry = {"subject": symptom.id, "severity": "note", "evidence": evidence, "way_out": symptom.way_out}
        shown.append(entry)
    return shown


def _finding_line(entry: dict[str, str]) -> str:
    parts = [f"{entry['severity']} {entry['subject']}: {entry['evidence']}", entry.get("consequence", "")]
    return ": ".join(filter(None, parts)) + (f" → {entry['way_out']}" if "way_out" in entry else "")
