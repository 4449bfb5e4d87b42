"""``obi-mcp doctor``: what keeps this server from working, and what to do about each finding."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence

from obi_mcp.audit import AuditLog
from obi_mcp.cli import findings
from obi_mcp.cli.arguments import VerbParser, add_settings_flags, settings_from
from obi_mcp.cli.findings import Finding
from obi_mcp.cli.findings_confinement import sandbox_findings
from obi_mcp.cli.findings_local import local_findings
from obi_mcp.config import Audit, Settings
from obi_mcp.errors import ObiMcpError
from obi_mcp.log import StderrWriter

MARKS = {"ok": "ok      ", "note": "note    ", "problem": "PROBLEM "}


def parser() -> VerbParser:
    """The flags of ``doctor``."""
    made = VerbParser("obi-mcp doctor", "Looks for what keeps this server from working, and says what to do about it.")
    made.add_argument("--json", action="store_true", help="the findings as JSON")
    add_settings_flags(made)
    return made


def main(argv: Sequence[str]) -> int:
    """Prints every finding; exit 1 when one keeps something from working."""
    args = parser().parse_args(argv)
    found = look(settings_from(args).settings)
    good = not any(finding.severity == "problem" for finding in found)
    if args.json:
        print(json.dumps({"good": good, "findings": [finding.as_json() for finding in found]}, indent=2))
    else:
        width = max(len(finding.subject) for finding in found)
        print("\n".join(line for finding in found for line in _lines(finding, width)))
    return 0 if good else 1


def look(settings: Settings) -> list[Finding]:
    """Every finding, host first."""
    found = [findings.settings_finding(settings), findings.policy_finding(settings)]
    policy_holds = found[-1].severity == "ok"
    found.extend(findings.toolset_findings(settings))
    found.extend(findings.kubeconfig_findings(settings, os.environ))
    found.extend(_asked(settings) if policy_holds else [])
    found.extend(local_findings(settings, os.environ))
    found.append(findings.chart_finding(settings))
    found.append(findings.audit_finding(settings))
    found.extend(findings.limit_findings(settings))
    found.extend(sandbox_findings(settings, os.environ))
    return found


def _asked(settings: Settings) -> list[Finding]:
    """What is found by running programs: on the guarded road, which needs the policy."""
    from dataclasses import replace

    from obi_mcp.cli.findings_cluster import cluster_findings
    from obi_mcp.cli.findings_programs import program_findings, version_findings
    from obi_mcp.enforcer.enforcer import Enforcer
    from obi_mcp.policy.engine import Policy

    found = list(program_findings(settings))
    there = {finding.subject for finding in found if finding.severity == "ok"}
    if "kubectl" not in there:
        return found

    async def ask() -> list[Finding]:
        # The operator looks, not a caller: the log of the calls may be another server's just now.
        quiet = StderrWriter(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC))
        audit = AuditLog(replace(settings, audit=Audit()), stderr=quiet)
        enforcer = Enforcer(settings, Policy.load_compiled(settings), audit)
        try:
            asked = [finding async for finding in version_findings(enforcer, there)]
            if findings.missing_kubeconfig(settings, os.environ) is None:  # else that is said already
                asked += [finding async for finding in cluster_findings(enforcer, settings)]
            return asked
        finally:
            await enforcer.close()

    try:
        found.extend(asyncio.run(ask()))
    except ObiMcpError as error:
        found.append(findings.of_error("programs", error))
    return found


def _lines(finding: Finding, width: int) -> list[str]:
    lines = [f"{MARKS[finding.severity]} {finding.subject:<{width}}  {finding.evidence}"]
    if finding.next_step:
        lines.append(f"{'':{len(MARKS['ok']) + 1 + width}}  → {finding.next_step}")
    return lines
