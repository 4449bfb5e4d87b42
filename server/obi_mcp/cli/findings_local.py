"""What ``doctor`` finds about OBI on this host: the program, the kernel, the rights, the agent that is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path

from obi_mcp.agent.asks import Asks
from obi_mcp.agent.built import Built
from obi_mcp.agent.host import agent_directory, find_binary, host_of
from obi_mcp.agent.keeper import Manner
from obi_mcp.agent.launcher import AgentLauncher
from obi_mcp.agent.preflight import HostFinding, Place, Privileges, kernel_findings, memlock_finding, privilege_findings
from obi_mcp.agent.proof import lives
from obi_mcp.agent.record import read_record
from obi_mcp.cli.findings import Finding, Severity
from obi_mcp.config import Settings
from obi_mcp.obi.capabilities import Feature
from obi_mcp.toolsets.registry import enabled_toolsets

_ASKS = (
    ("network flows", Asks(frozenset({Feature.NETWORK}))),
    ("application requests", Asks(frozenset({Feature.APPLICATION}))),
)


def local_findings(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Nothing where the toolset is not offered; else the program, the agent, and what this host can do by feature."""
    if not any(toolset.name == "local" for toolset in enabled_toolsets(settings)):
        return
    binary = find_binary(settings, environ)
    if not binary.path:
        severity: Severity = "problem" if settings.local.binary is not None else "note"
        step = "install OBI, or name it by local.binary; obi_docker_deploy needs none"
        yield Finding("local OBI", severity, f"no program: {binary.problem}", step)
        return
    yield _agent(binary.path, agent_directory(environ))
    privileges, built = asyncio.run(_asked(settings, environ, binary.path))
    for name, asks in _ASKS:
        place = Place()
        rights = privilege_findings(asks, privileges, place, binary.path, built)
        found = [*kernel_findings(asks, place), memlock_finding(privileges, place), *rights]
        yield _feature(name, found)


def _agent(binary: str, directory: Path) -> Finding:
    record = read_record(directory)
    if record is None:
        return Finding("local OBI", "ok", f"{binary}; no agent was started from {directory} yet")
    if lives(record.agent):
        version = f" {record.version}" if record.version else ""
        return Finding(
            "local OBI", "ok", f"{record.binary}{version} runs as pid {record.agent.pid}, kept in {directory}"
        )
    if record.phase == "failed":
        return Finding("local OBI", "problem", f"{binary} was given up: {record.why}", "obi_get_logs has what it said")
    return Finding("local OBI", "ok", f"{binary}; the agent of {directory} does not run")


def _feature(name: str, found: list[HostFinding]) -> Finding:
    problems = [one for one in found if one.severity == "problem"]
    if problems:
        evidence = "; ".join(
            f"{one.evidence}: {one.consequence}" if one.consequence else one.evidence for one in problems
        )
        return Finding(name, "note", evidence, problems[0].way_out or None)
    notes = "; ".join(f"{one.evidence} ({one.consequence})" for one in found if one.severity == "note")
    return Finding(name, "ok", f"OBI can see them here{f'; {notes}' if notes else ''}")


async def _asked(settings: Settings, environ: Mapping[str, str], binary: str) -> tuple[Privileges, Built]:
    """What an agent would be started with, and what its program says of itself."""
    host = host_of(settings, environ)
    launcher = AgentLauncher(Path(host.directory), host.binaries, Manner(settings.local.log_bytes))
    try:
        return Privileges.from_answer(await launcher.privileges(binary)), await launcher.built(binary) or Built("obi")
    finally:
        launcher.close()
