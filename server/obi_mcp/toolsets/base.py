"""What a toolset and a tool are. Nothing here or in a toolset knows of MCP: definitions are data, results are data."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from obi_mcp.agent.launcher import AgentLauncher
from obi_mcp.audit import AuditLog
from obi_mcp.config import Settings
from obi_mcp.enforcer.effects import EffectRoad
from obi_mcp.enforcer.model import Answer, Call, Progress
from obi_mcp.enforcer.reading import LogReading, Reading, TakeLog
from obi_mcp.enforcer.scraping import Scraping, Wanted
from obi_mcp.enforcer.watching import Watching
from obi_mcp.policy.model import Access, Decision

if TYPE_CHECKING:
    from obi_mcp.telemetry.capture import Capture

Schema = Mapping[str, Any]
"""A JSON Schema 2020-12 object."""

UNLISTED = frozenset({"additionalProperties", "minLength", "maxLength", "minimum", "maximum", "pattern"})
"""Words of input schemas that only narrow; they are checked, and not listed."""

SHARED = {
    "context": "Kubeconfig context; default: the current one.",
    "namespace": "Default: all; for a change scope.default_namespace.",
    "access": "A lower access level for this call.",
    "timeout_s": "Seconds until the command is ended.",
    "max_bytes": "Bytes of output; more is cut, and the answer says so.",
    "plan_id": "Carries that plan out, and stands alone but for wait_s.",
    "wait_s": "Seconds that the rollout may take.",
    "level": "That level and worse.",
    "grep": "Literal text.",
}
"""Arguments that mean the same in every tool: the server's instructions explain them once."""


class Road(Watching, Protocol):
    """The guarded road as tools see it: what ``Enforcer`` does."""

    async def run(self, call: Call, progress: Progress | None = None) -> Answer: ...

    async def take_back(self, call: Call, progress: Progress | None = None) -> Answer: ...

    async def read(self, call: Call) -> Reading: ...

    async def read_logs(self, call: Call, take: TakeLog | None = None, *, follow_s: float = 0.0) -> LogReading: ...

    async def scrape(self, call: Call, wanted: Wanted) -> Scraping: ...

    async def remove_namespaces(self, call: Call) -> tuple[str, ...]: ...

    def explain(self, call: Call) -> Decision: ...

    def explain_elsewhere(self, call: Call, namespace: str, names: AbstractSet[str] = frozenset()) -> Decision: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Services:
    """What a tool may use. There is no other way to a cluster or a process.

    ``capture``: the built-in receiver; None in a process that ends with its one call.
    """

    settings: Settings
    enforcer: Road
    audit: AuditLog
    effects: EffectRoad
    agents: AgentLauncher
    capture: Capture | None = None


Reply = Literal["accept", "decline", "cancel", "none"]
"""What a person said to a question; ``none``: nothing, in the time that there was."""


@dataclass(frozen=True, slots=True)
class Person:
    """Whoever can be asked. ``through``: by what (``client``, ``terminal``), for the audit log; the reply is its claim.

    ``ask`` may end the call with ``QuestionPending``, when the reply comes with the next one.
    INVARIANT: so nothing that lasts is done in a call before it asks.
    """

    through: str
    ask: Callable[[str], Awaitable[Reply]]


class QuestionPending(BaseException):
    """Ends a call that asks a person; the client answers by calling again. Not an error: nothing went wrong."""

    def __init__(self, question: str) -> None:
        super().__init__(question)
        self.question = question


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call. ``arguments`` fit the tool's input schema; ``caller`` is who called, for the audit log.

    ``person``: who can confirm a change; None where nobody can be asked. ``confirmed_by``: through what somebody did.
    ``called``: the name that was used, where it may be an alias.
    """

    arguments: Mapping[str, Any]
    caller: str
    progress: Progress | None = None
    person: Person | None = None
    confirmed_by: str | None = None
    called: str = ""


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
    confirmed: bool = False
    """Whether every call but a dry run is a change that the operator may want confirmed before it begins; tools that
    know better which of their calls change something ask themselves."""
    aliases: tuple[str, ...] = ()
    """Other names by which it can be called; they are not listed."""

    def public(self, level: Access) -> dict[str, Any]:
        """The tool as ``tools/list`` shows it, on a server of that access level; hints follow from what it can do.

        Every model pays for every word of it in every conversation: what is checked anyway, and told in a sentence when
        it fails, is not listed.
        """
        reach = min(level, self.reaches)
        return {
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "inputSchema": _listed(self.input_schema),
            "outputSchema": self.output_schema,
            "annotations": {
                "readOnlyHint": reach is Access.READ_ONLY,
                "destructiveHint": reach is Access.FULL,
                # Those that are left out have the protocol's defaults: not idempotent, which counts for writes only,
                # and open to the world.
                **({} if self.open_world else {"openWorldHint": False}),
            },
        }


def _listed(schema: Schema) -> Schema:
    """An input schema as it is listed: without what is checked anyway, and what is explained once for all tools.

    INVARIANT: it takes everything that ``schema`` takes.
    """
    made = {word: value for word, value in schema.items() if word not in UNLISTED}
    return {**made, "properties": {name: _argument(name, entry) for name, entry in schema["properties"].items()}}


def _argument(name: str, schema: Schema) -> Schema:
    said_once = schema.get("description") == SHARED.get(name)
    return {
        word: value
        for word, value in schema.items()
        if word not in UNLISTED
        and not (word == "description" and said_once)
        and not (word == "default" and value is False)
    }


class Toolset(Protocol):
    """A group of tools that is switched on together. What most have nothing to say to stands here."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    def unavailable(self, settings: Settings) -> str | None:
        """Why this toolset cannot be offered here, or None. Touches no cluster."""
        return None

    def tools(self, settings: Settings) -> tuple[ToolSpec, ...]:
        """Its tools; limits and levels in the schemas are those of ``settings``."""
