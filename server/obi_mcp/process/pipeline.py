"""One run of one pipeline: who writes to whom, when to stop, and what is left when it is over."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator

from obi_mcp.errors import ProgramFailed
from obi_mcp.policy.expressions.dump import DumpCut, may_dump
from obi_mcp.policy.model import Access, Approved
from obi_mcp.process.budget import Budget, Sink, Tail
from obi_mcp.process.children import Child, settled
from obi_mcp.process.completed import Completed, TimedOut, exit_of, remarks
from obi_mcp.process.kubeconfig import Context
from obi_mcp.process.obstacle import find_obstacle
from obi_mcp.process.pipes import PipeReader, PipeWriter
from obi_mcp.process.sandbox import FILTER_CPU_S, FILTER_MEMORY_BYTES
from obi_mcp.process.stages import Crew, Stage, Stages
from obi_mcp.process.starts import Turn
from obi_mcp.process.treatment import Treatment, treatment_for

HEADS_AT_ONCE = 4
"""Of several heads (``logs`` pod by pod) these many run; their output is read one after another."""
MAX_STDERR_BYTES = 16_384
END_GRACE_S = 1.0
WRITE_GRACE_S = 5.0
"""A helm that is told to end notes so in its release; one that is killed leaves it pending."""
_STDERR_WAIT_S = 0.5
_FAILURE_HEARD_S = 0.05
"""What a filter said before it closed its output is in the pipe already: this long until it has been read."""
_FAILURE_ENDS_S = 2.0
_PROGRESS_S = 1.0
_TIMED_OUT_CODE = 124


class Pipeline:
    """Made for one run. ``leave`` has to be awaited after it, whatever happened."""

    def __init__(
        self,
        crew: Crew,
        approved: Approved,
        *,
        max_bytes: int,
        temporary: str,
        progress: Callable[[int], Awaitable[None]] | None = None,
    ) -> None:
        self._crew = crew
        self._approved = approved
        self._progress = progress
        self._raw = approved.output.head == "raw"
        self._may_dump = any(may_dump(head) for head in approved.heads)
        self._budget = Budget(max_bytes, whole=approved.output.head == "json" and not approved.filters)
        self._stderr = Tail(MAX_STDERR_BYTES)
        self._stages = Stages(crew, approved, temporary)
        self._tasks: list[asyncio.Task[None]] = []
        self._treatment: Treatment | None = None
        self._turn: Turn | None = None
        self._dropped = 0
        self._received = 0
        self._fed = False
        self._reported = time.monotonic()
        access = approved.decision.access
        # A write that is under way is not ended because nobody wants to read more of what it prints.
        self._may_end_heads = access is None or access is Access.READ_ONLY
        self._grace_s = END_GRACE_S if self._may_end_heads else WRITE_GRACE_S

    async def run(self, source: AsyncIterator[bytes] | None, timeout_s: float) -> Completed:
        """Runs it to its end. Raises: TimedOut, ProgramMissing, ProgramFailed, ConfigError."""
        context = None
        try:
            async with asyncio.timeout(timeout_s):
                if source is None:
                    context = await self._crew.sandbox.prepare(_context_name(self._approved))
                await self._check_programs(with_head=source is None)
                await self._flow(source, context)
                completed = await self._completed()
        except TimeoutError:
            raise TimedOut(
                f"the command did not finish within {timeout_s:g} s, and its processes have been ended",
                "ask for less (a selector, --tail, --since), or give a larger timeout_s",
                self._partial(),
            ) from None
        if completed.failed and source is None:
            sandbox = self._crew.sandbox
            obstacle = find_obstacle(sandbox.kubeconfig, context, sandbox.missing_plugin(context))
            if obstacle is not None and obstacle.explains(completed.stderr):
                raise obstacle.error
        return completed

    async def leave(self) -> None:
        """Ends what still runs and closes everything; afterwards nothing of it is left. Waits even when cancelled."""
        self._end_turn()
        for task in self._tasks:
            task.cancel()
        started = self._stages.children
        self._crew.children.end(started, grace_s=self._grace_s)
        interrupted: asyncio.CancelledError | None = None
        while not all(child.gone for child in started) or not all(task.done() for task in self._tasks):
            try:
                await settled(started)
                await asyncio.gather(*self._tasks, return_exceptions=True)
            except asyncio.CancelledError as error:
                interrupted = error
        self._stages.close()
        if interrupted is not None:
            raise interrupted

    async def _check_programs(self, *, with_head: bool) -> None:
        argvs = (*(self._approved.heads if with_head else ()), *self._approved.filters)
        programs = [self._crew.programs.get(name) for name in dict.fromkeys(argv[0] for argv in argvs)]
        await asyncio.gather(*(self._crew.versions.check(program) for program in programs))

    # --- flowing ---

    async def _flow(self, source: AsyncIterator[bytes] | None, context: Context | None) -> None:
        stages = self._stages
        errors = self._task(self._read_errors(stages.errors))
        flows: list[asyncio.Task[None]] = []
        waiting = deque(self._approved.heads if source is None else ())
        if waiting:
            self._turn = await self._crew.starts.turn()
        begun = deque([stages.start_head(waiting.popleft(), context)] if waiting else ())
        sink = self._start_filters(flows)
        if source is not None:
            stages.no_more()
            flows.append(self._task(self._feed_source(source, sink)))
        else:
            flows.append(self._task(self._feed_heads(begun, waiting, context, sink)))
        await _all_or_first_error(flows)
        stages.no_more()
        await settled(stages.children)
        try:
            # All that could write have ended; only what fled its group may still hold the pipe.
            await asyncio.wait_for(errors, _STDERR_WAIT_S)
        except TimeoutError:
            pass

    def _start_filters(self, flows: list[asyncio.Task[None]]) -> Sink:
        """Where the treated output goes: to the filters, whose own is one more of the flows, or right to the answer."""
        if not self._approved.filters:
            return self._budget
        writer, reader = self._stages.start_filters()
        flows.append(self._task(self._drain(reader)))
        return _FilterSink(writer)

    async def _feed_source(self, source: AsyncIterator[bytes], sink: Sink) -> None:
        try:
            await self._feed(source, sink)
        finally:
            self._fed = True
            if isinstance(sink, _FilterSink):
                sink.close()
            close = getattr(source, "aclose", None)
            if close is not None:
                await close()

    async def _feed_heads(
        self,
        begun: deque[tuple[Stage, PipeReader]],
        waiting: deque[tuple[str, ...]],
        context: Context | None,
        sink: Sink,
    ) -> None:
        try:
            while begun:
                while waiting and len(begun) < HEADS_AT_ONCE:
                    begun.append(self._stages.start_head(waiting.popleft(), context))
                if not waiting:
                    self._stages.no_more()
                stage, reader = begun.popleft()
                if not await self._feed(self._chunks(reader), sink, stage):
                    await self._stop_heads([(stage, reader), *begun])
                    return
                reader.close()
        finally:
            self._fed = True
            if isinstance(sink, _FilterSink):
                sink.close()

    async def _stop_heads(self, heads: list[tuple[Stage, PipeReader]]) -> None:
        """Nobody wants more: reads are ended, a write goes on unread."""
        if self._may_end_heads:
            self._crew.children.end([stage.child for stage, _ in heads], grace_s=END_GRACE_S)
            return
        for _, reader in heads:
            while await reader.read():
                pass

    async def _feed(self, source: AsyncIterator[bytes], sink: Sink, stage: Stage | None = None) -> bool:
        """One head's output through its treatment. False: the sink wants no more."""
        compact = bool(self._approved.filters) and self._approved.filters[0][0] == "jq"
        treatment = treatment_for(
            self._approved.output,
            self._crew.redactor,
            self._approved.members,
            compact=compact,
            may_dump=self._may_dump,
            diff=_is_diff(self._approved),
        )
        self._treatment = treatment
        try:
            async for chunk in source:
                if not await self._pass_on(treatment.feed(chunk), sink):
                    return self._refuse_cut_reads()
                await self._tell_progress()
            try:
                if not await self._pass_on(treatment.finish(), sink):
                    return self._refuse_cut_reads()
            except ProgramFailed:
                # A head that failed may have stopped within its JSON: its own words say more.
                if stage is None or (await stage.child.wait()).code == 0:
                    raise
        finally:
            self._dropped += treatment.dropped
        return True

    async def _pass_on(self, pieces: Iterable[bytes], sink: Sink) -> bool:
        """Computes the pieces and gives them on. False: the sink wants no more."""
        if isinstance(sink, Budget):
            # At once: what is computed and not kept would be taken for printed where a List is cut.
            pieces = _into(sink, pieces)
        async for batch in self._crew.turns.spread(pieces):
            for piece in batch:
                if piece and not await sink.put(piece):
                    return False
        return not (isinstance(sink, Budget) and sink.spent)

    def _refuse_cut_reads(self) -> bool:
        if self._raw:
            raise ProgramFailed(
                f"{self._approved.heads[0][0]} printed more than the server reads where it needs the answer to judge",
                "ask for fewer objects at once",
            )
        return False

    async def _chunks(self, reader: PipeReader) -> AsyncIterator[bytes]:
        while chunk := await reader.read():
            self._end_turn()
            self._received += len(chunk)
            yield chunk

    def _end_turn(self) -> None:
        """The first head has started: the next program may."""
        if self._turn is not None:
            self._turn.end()
            self._turn = None

    async def _drain(self, reader: PipeReader) -> None:
        """The last filter's output, redacted once more, into the budget."""
        stream = self._crew.redactor.stream()
        while chunk := await reader.read():
            await self._pass_on([chunk] if self._raw else map(stream.feed, [chunk]), self._budget)
            if self._budget.spent:
                break
        if not self._raw:
            self._budget.add(stream.finish())
        if self._budget.spent or not self._fed:
            # Nothing more can come of it: the others need not wait until the head writes again.
            if not self._budget.spent:
                await self._let_failures_end()
            heads = self._stages.heads if self._may_end_heads else []
            ends = [stage.child for stage in (*heads, *self._stages.filters)]
            self._crew.children.end(ends, grace_s=END_GRACE_S)

    async def _let_failures_end(self) -> None:
        """A filter that fails says why, closes its output, and only then ends: told to end in between, it would be
        taken for one that did its work, and what the next one made of half an input for the answer."""
        filters = [stage.child for stage in self._stages.filters]
        for wait_s in (_FAILURE_HEARD_S, _FAILURE_ENDS_S):
            try:
                await asyncio.wait_for(settled(filters), wait_s)
            except TimeoutError:
                pass
            if not self._stderr.text() or _is_to_blame(filters[-1]):
                return

    async def _read_errors(self, reader: PipeReader) -> None:
        cut = DumpCut() if self._may_dump else None
        while chunk := await reader.read():
            self._stderr.add(cut.feed(chunk) if cut else chunk)
        if cut:
            self._stderr.add(cut.finish())

    async def _tell_progress(self) -> None:
        """Tells how far it is, every second."""
        now = time.monotonic()
        if self._progress is not None and now - self._reported >= _PROGRESS_S:
            self._reported = now
            await self._progress(self._received)

    def _task(self, work: Awaitable[None]) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._tasks.append(task)
        return task

    # --- what came of it ---

    async def _completed(self) -> Completed:
        heads = [await stage.end() for stage in self._stages.heads]
        filters = [await stage.end() for stage in self._stages.filters]
        code, answered = exit_of(heads, filters)
        said = remarks(filters, memory_bytes=FILTER_MEMORY_BYTES, cpu_s=FILTER_CPU_S)
        return self._gather(code, answered=answered, remark=said)

    def _partial(self) -> Completed:
        return self._gather(_TIMED_OUT_CODE, answered=False, remark=b"")

    def _gather(self, code: int, *, answered: bool, remark: bytes) -> Completed:
        end = self._treatment.close_early() if self._treatment is not None else b""
        stdout = self._budget.close(end)
        truncated = self._budget.spent
        most = self._crew.settings.limits.max_max_bytes
        return Completed(
            stdout=stdout,
            stderr=self._crew.redactor.data(self._stderr.text()) + remark,
            exit_code=code,
            truncated=truncated,
            cut=self._budget.describe_cut(len(stdout), complete=False, most=most) if truncated else None,
            dropped=self._dropped,
            answered=answered,
        )


class _FilterSink:
    """Writes to the first filter."""

    def __init__(self, writer: PipeWriter) -> None:
        self._writer = writer

    async def put(self, piece: bytes) -> bool:
        """False when the filter has closed its input: ``head -n 1`` has what it wants."""
        try:
            await self._writer.write(piece)
        except BrokenPipeError:
            return False
        return True

    def close(self) -> None:
        """The filter comes to the end of its input."""
        self._writer.close()


def _into(budget: Budget, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Adds the pieces until the budget is spent; gives nothing, as often as there was one."""
    for piece in pieces:
        budget.add(piece)
        yield b""
        if budget.spent:
            return


def _context_name(approved: Approved) -> str | None:
    pipeline = approved.decision.pipeline
    if pipeline is None:
        return None
    return pipeline.head.value("context") or pipeline.head.value("kube-context") or None


def _is_to_blame(last: Child) -> bool:
    """Whether the last filter itself has failed: what the others do is no matter then."""
    return last.ended is not None and last.ended.code != 0


def _is_diff(approved: Approved) -> bool:
    pipeline = approved.decision.pipeline
    return pipeline is not None and pipeline.head.program == "kubectl" and pipeline.head.path == ("diff",)


async def _all_or_first_error(tasks: list[asyncio.Task[None]]) -> None:
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    for task in done:
        task.result()
