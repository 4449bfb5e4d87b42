"""What the local tools do together: everything with an effect goes by the road, and what is read leaves its line."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from obi_mcp.agent.asks import Asks, asks_of
from obi_mcp.agent.built import Built
from obi_mcp.agent.host import Binary, find_binary
from obi_mcp.agent.keeping import end_agent, kept, read_config_file, write_config
from obi_mcp.agent.preflight import (
    HostFinding,
    Place,
    Privileges,
    kernel_findings,
    listening,
    memlock_finding,
    port_findings,
    privilege_findings,
)
from obi_mcp.agent.readiness import Readiness, wait_until_ready
from obi_mcp.agent.record import CONFIG, Record, read_record
from obi_mcp.enforcer.effects import Asked
from obi_mcp.errors import HostUnfit, InvalidDocument
from obi_mcp.obi.config import validate
from obi_mcp.obi.finding import ConfigFinding, Program
from obi_mcp.policy.effects import AgentEnd, AgentRead, AgentStart, ApprovedEffect, ConfigRead, ConfigWrite
from obi_mcp.toolsets.base import Services, ToolCall

T = TypeVar("T")

READY_WITHIN_S = 20.0

_SHOWN_PROBLEMS = 8


@dataclass(frozen=True, slots=True)
class Started:
    """An agent that was started. ``pid`` as the launcher gave it."""

    pid: int
    readiness: Readiness


@dataclass(frozen=True, slots=True)
class Installed:
    """Whose keys are read here. ``version``: None where nobody knows; then every version that we know is meant."""

    binary: Binary
    program: Program
    version: str | None


@dataclass(frozen=True, slots=True)
class Desk:
    """One call of a local tool."""

    services: Services
    call: ToolCall
    asked: Asked

    @classmethod
    def of(cls, services: Services, call: ToolCall, tool: str) -> Desk:
        """The desk of one call; every effect of it may take as long as the longest call."""
        longest = services.settings.limits.max_timeout_s
        return cls(services, call, Asked(tool, call.caller, timeout_s=longest, confirmed_by=call.confirmed_by))

    @property
    def directory(self) -> Path:
        return Path(self.services.effects.host.directory)

    @property
    def config_path(self) -> Path:
        return self.directory / CONFIG

    @property
    def record(self) -> Record | None:
        """What is written down of the agent, if anything."""
        return read_record(self.directory)

    # --- reading ---

    async def read(self, what: str, look: Callable[[], Awaitable[T]]) -> T:
        """Looks at the agent; the audit log has its line."""

        async def perform(approved: ApprovedEffect[AgentRead]) -> T:
            return await look()

        return await self.services.effects.run(AgentRead(what), self.asked, perform)

    async def config_file(self, path: str) -> str:
        """The text of a configuration file that the policy lets be read."""
        return await self.services.effects.run(ConfigRead(path), self.asked, read_config_file)

    async def own_config(self) -> str | None:
        """The configuration of the kept agent, None where there is none yet."""
        if not self.config_path.exists():
            return None
        return await self.config_file(str(self.config_path))

    def environment(self) -> dict[str, str]:
        """OBI's variables that the agent was started with."""
        record = self.record
        known = record.environment if record is not None else {}
        return {name: value for name, value in known.items() if name not in ("PATH", "HOME")}

    def binary(self) -> Binary:
        """The OBI program. Raises: HostUnfit when there is none."""
        binary = find_binary(self.services.settings)
        if not binary.path:
            raise HostUnfit(
                f"there is no OBI program on this host: {binary.problem}",
                "install OBI and name it by local.binary, then restart the server; or use obi_docker_deploy",
            )
        if binary.path not in self.services.effects.host.binaries:
            raise HostUnfit(f"{binary.path} came after the server was started", "restart the server")
        return binary

    async def installed(self) -> Installed:
        """The program of this host and its version: what its file says, else what the operator says, else what the
        agent that was started from it printed first."""
        settings = self.services.settings
        binary = find_binary(settings)
        said = await self.services.agents.built(binary.path) if binary.path else None
        record = self.record
        printed = record.version if record is not None and record.binary == binary.path else ""
        program: Program = said.program if said is not None else "beyla" if binary.is_beyla else "obi"
        version = (said.version if said is not None else "") or settings.obi.version or printed or None
        return Installed(binary, program, version)

    # --- judging ---

    async def check(self, text: str, environment: Mapping[str, str], installed: Installed) -> tuple[ConfigFinding, ...]:
        """What is wrong with a configuration. Raises: InvalidDocument when OBI would not start with it."""
        found = await asyncio.to_thread(
            validate, text, environment=environment, version=installed.version, program=installed.program
        )
        errors = [finding for finding in found if finding.severity == "error"]
        if errors:
            said = "; ".join(str(finding) for finding in errors[:_SHOWN_PROBLEMS])
            more = f"; and {len(errors) - _SHOWN_PROBLEMS} more" if len(errors) > _SHOWN_PROBLEMS else ""
            raise InvalidDocument(
                f"OBI would not do what this configuration says: {said}{more}",
                errors[0].hint or "obi_validate_config lists every finding",
                path=errors[0].key or None,
                line=errors[0].line or None,
            )
        return found

    async def preflight(self, asks: Asks, installed: Installed, own_ports: frozenset[int]) -> tuple[HostFinding, ...]:
        """Whether this host can run it. Raises: HostUnfit that names what is missing and how to give it."""
        found = await self.findings(asks, installed, own_ports)
        problems = [finding for finding in found if finding.severity == "problem"]
        if problems:
            said = "; ".join(
                f"{finding.evidence}: {finding.consequence}" if finding.consequence else finding.evidence
                for finding in problems
            )
            raise HostUnfit(said, "; ".join(finding.way_out for finding in problems if finding.way_out) or None)
        return found

    async def findings(self, asks: Asks, installed: Installed, own_ports: frozenset[int]) -> tuple[HostFinding, ...]:
        """What is to be said of this host."""
        place, path = Place(), installed.binary.path
        privileges = Privileges.from_answer(await self.services.agents.privileges(path))
        return (
            *kernel_findings(asks, place),
            memlock_finding(privileges, place),
            *privilege_findings(asks, privileges, place, path, Built(installed.program, installed.version or "")),
            *port_findings(asks, place, own=own_ports),
        )

    # --- effects ---

    async def write(self, text: str, name: str = CONFIG) -> None:
        """Writes a configuration into the agent's directory."""
        effect = ConfigWrite(str(self.directory / name), text)
        await self.services.effects.run(effect, self.asked, write_config)

    def would_start(self, binary: Binary, text: str, environment: Mapping[str, str]) -> AgentStart:
        """The start of this configuration as an effect."""
        return AgentStart(binary.path, str(self.config_path), text, tuple(sorted(environment.items())))

    async def start(self, effect: AgentStart, *, within_s: float = READY_WITHIN_S) -> Started:
        """Starts the agent with the configuration that was written, and waits until it is ready or has ended."""
        proof = await self.services.effects.run(effect, self.asked, self.services.agents.start)
        asks = asks_of(effect.config, dict(effect.environment))
        return Started(proof.pid, await wait_until_ready(self.directory, proof.pid, asks, within_s=within_s))

    async def end(self, purpose: str, *, grace_s: float | None = None) -> Record | None:
        """Ends the kept agent and its keeper; what is written down of it then."""

        async def perform(approved: ApprovedEffect[AgentEnd]) -> Record | None:
            return await (end_agent(approved) if grace_s is None else end_agent(approved, grace_s=grace_s))

        return await self.services.effects.run(AgentEnd(str(self.directory), purpose), self.asked, perform)

    def is_kept(self) -> bool:
        """Whether an agent runs, or is about to be started again."""
        return kept(self.record)

    def plain(self, text: str) -> str:
        """What an agent printed, as a caller may see it."""
        return self.services.effects.plain(text)


def taken_ports() -> frozenset[int]:
    """Ports that somebody listens on here."""
    return listening(Place())
