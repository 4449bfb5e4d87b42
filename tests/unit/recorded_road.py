"""A recorded double of the guarded road, for tests of the protocol's shape only. What is allowed, checked and run is
tested with the real enforcer."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.unit.policy.policies import built_in

from obi_mcp.agent.keeper import Manner
from obi_mcp.agent.launcher import AgentLauncher
from obi_mcp.audit import AuditEntry, AuditLog
from obi_mcp.command.model import Command, Pipeline
from obi_mcp.config import Settings
from obi_mcp.enforcer.effects import EffectRoad
from obi_mcp.enforcer.model import Answer, Call, Progress
from obi_mcp.enforcer.reading import LogReading, Reading, TakeLog
from obi_mcp.enforcer.scraping import Scraped, Scraping, Wanted
from obi_mcp.enforcer.watching import Contexts, Seen
from obi_mcp.errors import ObiMcpError
from obi_mcp.policy.effects import Host
from obi_mcp.policy.model import Access, Check, Decision, MembersSpec, Place, Resource
from obi_mcp.redact import Redactor
from obi_mcp.toolsets.base import Services

PODS = Resource("pods", "Pod", "", "v1", True)
NARROWED = Decision(
    effect="narrow",
    rule="kubectl.get.pods",
    reason="only app.kubernetes.io/part-of in (obi, beyla) is searched",
    access=Access.READ_ONLY,
    added=("-l", "app.kubernetes.io/part-of in (obi, beyla)"),
    checks=(Check("membership", "pods", None, "labels prove little", MembersSpec("drop", PODS, None)),),
    pipeline=Pipeline(Command("kubectl", ("get",))),
)
REFUSED = Decision(
    effect="deny",
    rule="hard.secrets",
    reason="secrets are never read",
    hint="kubectl get configmaps -A",
    at=Place(stage=0, word=2, column=13),
)
UNREADABLE = Decision(
    effect="deny", rule="syntax", reason="unquoted ; at column 12", hint="quote it", at=Place(stage=0, column=12)
)
ANSWER = Answer("obi-1 1/1 Running\n", "", 0, NARROWED, 82)


@dataclass
class RecordedRoad:
    """Gives each call what the test recorded for its command, and keeps the calls."""

    answers: dict[str, Answer | ObiMcpError] = field(default_factory=dict)
    decisions: dict[str, Decision] = field(default_factory=dict)
    readings: dict[str, Reading | ObiMcpError] = field(default_factory=dict)
    log_readings: dict[str, LogReading] = field(default_factory=dict)
    streams: dict[str, asyncio.Queue[bool | ObiMcpError | None]] = field(default_factory=dict)
    open: list[str] = field(default_factory=list)
    """The commands whose streams are open."""
    known: Contexts | ObiMcpError = field(default_factory=lambda: Contexts(""))
    scrapes: dict[str, dict[str, bytes | str]] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    started: asyncio.Event = field(default_factory=asyncio.Event)
    closed: bool = False

    async def run(self, call: Call, progress: Progress | None = None) -> Answer:
        self.calls.append(call)
        self.started.set()
        if call.command == "kubectl wait":
            await self._forever(call)
        if progress is not None:
            await progress(1, 3, "checked")
            await progress(3, 3, "done")
        outcome = self.answers.get(call.command, ANSWER)
        if isinstance(outcome, ObiMcpError):
            raise outcome
        return outcome

    async def _forever(self, call: Call) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            for _ in range(5):  # ending processes takes several steps, none of which may be cancelled again
                await asyncio.sleep(0)
            self.cancelled.append(call.command)
            raise

    async def take_back(self, call: Call, progress: Progress | None = None) -> Answer:
        """As ``run``."""
        return await self.run(call, progress)

    async def read(self, call: Call) -> Reading:
        """The recorded objects of that command."""
        self.calls.append(call)
        outcome = self.readings[call.command]
        if isinstance(outcome, ObiMcpError):
            raise outcome
        return outcome

    async def read_logs(self, call: Call, take: TakeLog | None = None, *, follow_s: float = 0.0) -> LogReading:
        """The recorded logs of that command."""
        self.calls.append(call)
        reading = self.log_readings[call.command]
        if take is None:
            return reading
        for log in reading.logs:
            take(log)
        return replace(reading, logs=())

    async def scrape(self, call: Call, wanted: Wanted) -> Scraping:
        """What the recorded pods of that command serve: bytes, or a problem."""
        self.calls.append(call)
        found = []
        for pod, served in self.scrapes[call.command].items():
            sink = wanted.sink(pod)
            if isinstance(served, bytes):
                sink(served)
            found.append(Scraped(pod, "observability", f"node-of-{pod}", None if isinstance(served, bytes) else served))
            await wanted.done(found[-1])
        return Scraping(tuple(found), NARROWED)

    async def remove_namespaces(self, call: Call) -> tuple[str, ...]:
        """No recorded Namespace is ever empty."""
        self.calls.append(call)
        return ()

    async def watch(self, call: Call, seen: Seen) -> AsyncGenerator[bool, None]:
        """What the test puts into the stream of that command: True for a change, an error, None for its end."""
        async for changed in self._stream(call):
            yield changed

    async def follow(self, call: Call) -> AsyncGenerator[bool, None]:
        """The same for a log, whatever since when."""
        async for changed in self._stream(replace(call, command=call.command.partition(" --since=")[0])):
            yield changed

    async def _stream(self, call: Call) -> AsyncGenerator[bool, None]:
        self.calls.append(call)
        events = self.streams.setdefault(call.command, asyncio.Queue())
        self.open.append(call.command)
        try:
            yield False
            while (event := await events.get()) is not None:
                if isinstance(event, ObiMcpError):
                    raise event
                yield event
        finally:
            self.open.remove(call.command)

    async def contexts(self) -> Contexts:
        """The contexts that the test has set."""
        if isinstance(self.known, ObiMcpError):
            raise self.known
        return self.known

    def explain(self, call: Call) -> Decision:
        self.calls.append(call)
        return self.decisions.get(call.command, NARROWED)

    def explain_elsewhere(self, call: Call, namespace: str, names: AbstractSet[str] = frozenset()) -> Decision:
        return self.explain(call)

    async def close(self) -> None:
        self.closed = True


class RecordedAudit(AuditLog):
    """Keeps the entries that the layers above the road write."""

    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []
        self._recent: deque[str] = deque()

    def record(self, entry: AuditEntry) -> None:
        self.entries.append(entry)

    def ensure_writable(self) -> None:
        return None

    def close(self) -> str:
        return ""


def services(road: RecordedRoad, settings: Settings | None = None) -> Services:
    """Services on the double; the road for effects is the real one, over the built-in policy and no host."""
    made, audit = settings or Settings(), RecordedAudit()
    effects = EffectRoad(made, built_in(), audit, Host(), Redactor.load())
    return Services(made, road, audit, effects, AgentLauncher(Path("/nonexistent"), (), Manner(1_048_576)))
