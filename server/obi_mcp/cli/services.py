"""Puts the parts of the guarded road together for the verbs that run something."""

from __future__ import annotations

from pathlib import Path

from obi_mcp.agent.host import host_of
from obi_mcp.agent.keeper import Manner
from obi_mcp.agent.launcher import AgentLauncher
from obi_mcp.audit import AuditLog
from obi_mcp.config import Settings
from obi_mcp.enforcer.effects import EffectRoad
from obi_mcp.enforcer.enforcer import Enforcer
from obi_mcp.log import StderrWriter
from obi_mcp.policy.engine import Policy
from obi_mcp.process.runner import Runner
from obi_mcp.redact import Redactor
from obi_mcp.telemetry.capture import Capture
from obi_mcp.toolsets.base import Services


def build_services(
    settings: Settings, stderr: StderrWriter, runner: Runner | None = None, capture: Capture | None = None
) -> Services:
    """The policy, the audit log and the enforcer of these settings. Touches no cluster.

    Raises: PolicyError, AuditError, ConfigError.
    """
    # The compiled form is keyed by the hash of every policy file and was written when all of them were valid and every
    # example held; where it is missing or a file changed, that is done again now.
    policy = Policy.load_compiled(settings)
    runner = runner or Runner.for_settings(settings, Redactor.load())
    audit = AuditLog(settings, runner.redactor.command, stderr=stderr)
    host = host_of(settings)
    effects = EffectRoad(settings, policy, audit, host, runner.redactor)
    agents = AgentLauncher(Path(host.directory), host.binaries, Manner(settings.local.log_bytes))
    return Services(settings, Enforcer(settings, policy, audit, runner), audit, effects, agents, capture)
