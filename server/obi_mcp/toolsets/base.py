"""What a toolset and a tool are. Nothing here or in a toolset knows of MCP: definitions are data, results are data."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from obi_mcp.agent.launcher import AgentLauncher
from obi_mcp.audit import AuditLog
from obi_mcp.config import Settings
from obi_mcp.enforcer.effects import EffectRoad
from obi_mcp.enforcer.model import Answer, Call, Progress
from obi_mcp.enforcer.reading import LogReading, Reading
from obi_mcp.policy.model import Access, Decision

if TYPE_CHECKING:
    from obi_mcp.telemetry.capture import Capture

Schema = Mapping[str, Any]
"""A JSON Schema 2020-12 object."""


class Road(Protocol):
    """The guarded road as tools see it: what ``Enforcer`` does."""

    async def run(self, call: Call, progress: Progress | None = None) -> Answer: ...

    async def read(self, call: Call) -> Reading: ...

    async def read_logs(self, call: Call) -> LogReading: ...

    def explain(self, call: Call) -> Decision: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Services:
    """What a tool may use. There is no other way to a cluster or a process.

    async def take_back(self, call: Call, progress: Progress | None = None) -> Answer: ...

    ``capture``: the built-in receiver; None in a process that ends with its one call.
    """

    settings: Settings
    enforcer: Road
    audit: AuditLog
    effects: EffectRoad
    agents: AgentLauncher
    capture: Capture | None = None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call. ``arguments`` fit the tool's input schema; ``caller`` is who called, for the audit log."""

    arguments: Mapping[str, Any]
    caller: str
    progress: Progress | None = None


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool gives: the answer once, as data, and a short text that says what it is.

    ``exit_code`` is what ``obi-mcp call`` exits with. ``payload`` is what the program printed, None where none ran, and
    ``notes`` what is to be said beside it: both for ``obi-mcp call --output text``.
    """

    structured: dict[str, Any]
    text: str
    is_error: bool = False
    exit_code: int = 0
    payload: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """One tool as it is listed. ``needs`` is the lowest access level at which it is; ``reaches`` the highest level of
    what it can do, from which its annotations follow. ``open_world``: it speaks to something beyond this host."""

    name: str
    title: str
    description: str
    input_schema: Schema
    output_schema: Schema
    run: Callable[[Services, ToolCall], Awaitable[ToolResult]]
    needs: Access = Access.READ_ONLY
    reaches: Access = Access.READ_ONLY
    open_world: bool = True
    aliases: tuple[str, ...] = ()
    """Other names by which it can be called; they are not listed."""

    def public(self, level: Access) -> dict[str, Any]:
        """The tool as ``tools/list`` shows it, on a server of that access level; hints follow from what it can do."""
        reach = min(level, self.reaches)
        return {
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "inputSchema": self.input_schema,
            "outputSchema": self.output_schema,
            "annotations": {
                "readOnlyHint": reach is Access.READ_ONLY,
                "destructiveHint": reach is Access.FULL,
                "idempotentHint": reach is Access.READ_ONLY,
                "openWorldHint": self.open_world,
            },
        }


class Toolset(Protocol):
    """A group of tools that is switched on together."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    def unavailable(self, settings: Settings) -> str | None:
        """Why this toolset cannot be offered here, or None. Touches no cluster."""

    def tools(self, settings: Settings) -> tuple[ToolSpec, ...]:
        """Its tools; limits and levels in the schemas are those of ``settings``."""

    async def initialize(self, services: Services) -> None:
        """Called once before the first tool call."""

    async def shutdown(self) -> None:
        """Called once when the server stops."""
