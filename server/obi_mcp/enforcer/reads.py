"""Reads by the warm channel, for the server's own tools: decided, proved, redacted and audited like any command line.

Each stands for a command line that somebody could have typed; what differs is that no program is started for it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, aclosing, asynccontextmanager
from dataclasses import replace
from functools import partial

from obi_mcp.enforcer.beginning import READ_SHARE, Beginning
from obi_mcp.enforcer.case import Case
from obi_mcp.enforcer.members import Found
from obi_mcp.enforcer.model import Call
from obi_mcp.enforcer.raw import prove_port, raw_path
from obi_mcp.enforcer.reading import (
    POD_S,
    Approve,
    LogReading,
    Reading,
    TakeLog,
    listed,
    read_logs,
    read_objects,
)
from obi_mcp.enforcer.recording import Trace
from obi_mcp.enforcer.scraping import Scraping, Sink, Wanted, at_most, scrape
from obi_mcp.enforcer.watching import Contexts, Seen, open_log, open_watch
from obi_mcp.errors import Denied
from obi_mcp.policy.model import RawSpec
from obi_mcp.process.channel import Channel


class Reads(Beginning):
    """The reading half of the road."""

    async def read(self, call: Call) -> Reading:
        """What ``kubectl get … -o json`` gives, by the warm channel: for the server's own tools.

        Raises: Denied, NotFound, CallTimeout, CallCancelled, ClusterUnreachable, ProgramFailed, AuditError.
        """

        async def reading(trace: Trace) -> Reading:
            async with self._decided(call, trace) as (case, _):
                return await read_objects(case, self._approving(trace), self._redactor)

        return await self._recorder.recorded(call, reading)

    async def scrape(self, call: Call, wanted: Wanted) -> Scraping:
        """One endpoint of every pod that ``kubectl get pods … -o json`` lists, by the warm channel, a pod at a time
        handed to ``wanted``. Raises: as ``read``; what is wrong with one pod is said of that pod."""

        async def reading(trace: Trace) -> Scraping:
            async with self._decided(call, trace) as (case, channel):
                found, skipped = await listed(case, self._approving(trace))

                async def request(pod: Found, command: str, sink: Sink) -> None:
                    await self._request(replace(call, command=command), case, channel, pod, sink)

                within_s = max(READ_SHARE * case.timeout_s - POD_S, case.timeout_s / 2)
                return Scraping(await scrape(found, wanted, request, within_s=within_s), case.decision, skipped)

        return await self._recorder.recorded(call, reading)

    async def _request(self, call: Call, listing: Case, channel: Channel, pod: Found, sink: Sink) -> None:
        """One pod's ``get --raw``: decided, proved by the pod as it was listed, and read in pieces."""

        async def requesting(trace: Trace) -> None:
            decision = trace.decision = self.explain(call)
            check = next(iter(decision.checks), None)
            if not decision.allowed or check is None or not isinstance(check.spec, RawSpec):
                raise Denied(decision)
            spec, case = check.spec, replace(listing, decision=decision)
            if (spec.namespace, spec.pod) != (pod.namespace, pod.name):  # INVARIANT: of this pod the line was made
                raise Denied(decision)
            self._approving(trace)(case, [await prove_port(case, check, spec, pod.body)])
            take = at_most(sink, self.settings.limits.max_max_bytes)
            async for piece in channel.stream(raw_path(spec), timeout_s=POD_S):
                trace.bytes += len(piece)
                take(piece)

        await self._recorder.recorded(call, requesting)

    async def read_logs(self, call: Call, take: TakeLog | None = None, *, follow_s: float = 0.0) -> LogReading:
        """What ``kubectl logs`` gives, by the warm channel, pod by pod: handed to ``take`` as it comes, where given.
        ``follow_s``: for so long, what is printed meanwhile comes too. Raises: as ``read``."""

        async def reading(trace: Trace) -> LogReading:
            async with self._decided(call, trace) as (case, channel):
                return await read_logs(
                    case,
                    self._approving(trace),
                    self._redactor,
                    channel,
                    timeout_s=case.timeout_s,
                    take=take,
                    follow_s=follow_s,
                )

        return await self._recorder.recorded(call, reading)

    async def watch(self, call: Call, seen: Seen) -> AsyncGenerator[bool, None]:
        """Changes of what ``kubectl get KIND -o json`` lists, as they happen: whether there were any since ``seen``,
        then True for each. The audit log has its line when it begins. Raises: as ``read``."""
        async with self._lasting(call, partial(open_watch, seen=seen)) as changes:
            async for changed in changes:
                yield changed

    async def follow(self, call: Call) -> AsyncGenerator[bool, None]:
        """Growth of the log that ``kubectl logs POD`` reads: False when it stands, then True for each piece.
        Raises: as ``read``."""
        async with self._lasting(call, open_log) as pieces:
            async for grown in pieces:
                yield grown

    @asynccontextmanager
    async def _lasting(
        self, call: Call, begin: Callable[[Case, Approve, Channel], Awaitable[AsyncGenerator[bool, None]]]
    ) -> AsyncIterator[AsyncGenerator[bool, None]]:
        """A stream that was decided and proved as a read, with its channel held for as long as it lasts."""
        with ExitStack() as lasting:

            async def opening(trace: Trace) -> AsyncGenerator[bool, None]:
                async with self._decided(call, trace, passing=True) as (case, channel):
                    lasting.enter_context(channel.held())
                    return await begin(case, self._approving(trace), channel)

            async with aclosing(await self._recorder.recorded(call, opening)) as stream:
                yield stream

    async def contexts(self) -> Contexts:
        """The contexts that a caller may name. Touches no cluster. Raises: ConfigError for an unreadable kubeconfig."""
        await self._runner.sandbox.prepare(None)
        known = self._runner.sandbox.kubeconfig
        return Contexts(known.current, tuple(name for name in self.policy.scope.contexts if name in known.contexts))
