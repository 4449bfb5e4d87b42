"""One run of one pipeline: who writes to whom, when to stop, and what is left when it is over."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from obi_mcp.config import Settings
from obi_mcp.errors import ProgramFailed
from obi_mcp.policy.expressions.dump import DumpCut, may_dump
from obi_mcp.policy.model import Access, Approved
from obi_mcp.process.budget import Budget, Sink, Tail
from obi_mcp.process.children import Child, Children, settled
from obi_mcp.process.completed import Completed, StageEnd, TimedOut, exit_of, remarks
from obi_mcp.process.kubeconfig import Context
from obi_mcp.process.pipes import PipeReader, PipeWriter, make_pipe, memory_file
from obi_mcp.process.programs import Programs
from obi_mcp.process.sandbox import FILTER_CPU_S, FILTER_MEMORY_BYTES, Sandbox
from obi_mcp.process.treatment import Treatment, treatment_for
from obi_mcp.process.versions import Versions
from obi_mcp.redact import Redactor

HEADS_AT_ONCE = 4
"""Of several heads (``logs`` pod by pod) these many run; their output is read one after another."""
MAX_STDERR_BYTES = 16_384
END_GRACE_S = 1.0
WRITE_GRACE_S = 5.0
"""A helm that is told to end notes so in its release; one that is killed leaves it pending."""
_STDERR_WAIT_S = 0.5
_TURN_S = 0.004
_PROGRESS_S = 1.0
_TIMED_OUT_CODE = 124


@dataclass(frozen=True, slots=True)
class Crew:
    """What all pipelines of a runner share."""

    settings: Settings
    programs: Programs
    sandbox: Sandbox
    children: Children
    versions: Versions
    redactor: Redactor


@dataclass(slots=True)
class _Stage:
    """A stage that was started."""

    argv: tuple[str, ...]
    child: Child

    async def end(self) -> StageEnd:
        """How it ended. Raises: ProgramFailed when it never began."""
        ended = await self.child.wait()
        return StageEnd(self.argv, ended, spared=self.child.asked_to_end)


@dataclass(slots=True)
class _Descriptors:
    """Our ends of pipes, and what we hold open for children that are yet to start."""

    ours: list[PipeReader | PipeWriter] = field(default_factory=list)
    theirs: list[int] = field(default_factory=list)

    def reader(self, fd: int) -> PipeReader:
        self.ours.append(PipeReader(fd))
        return self.ours[-1]  # type: ignore[return-value]  # it is the one just made

    def close_theirs(self) -> None:
        while self.theirs:
            os.close(self.theirs.pop())

    def close(self) -> None:
        self.close_theirs()
        for end in self.ours:
            end.close()


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
        self._temporary = temporary
        self._progress = progress
        self._raw = approved.output.head == "raw"
        self._may_dump = any(may_dump(head) for head in approved.heads)
        self._budget = Budget(max_bytes, whole=approved.output.head == "json" and not approved.filters)
        self._stderr = Tail(MAX_STDERR_BYTES)
        self._heads: list[_Stage] = []
        self._filters: list[_Stage] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._held = _Descriptors()
        self._treatment: Treatment | None = None
        self._dropped = 0
        self._received = 0
        self._fed = False
        self._turn = self._reported = time.monotonic()
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
        missing = self._crew.sandbox.missing_plugin(context)
        if completed.failed and missing is not None:
            raise missing
        return completed

    async def leave(self) -> None:
        """Ends what still runs and closes everything; afterwards nothing of it is left. Waits even when cancelled."""
        for task in self._tasks:
            task.cancel()
        started = [stage.child for stage in (*self._heads, *self._filters)]
        self._crew.children.end(started, grace_s=self._grace_s)
        interrupted: asyncio.CancelledError | None = None
        while not all(child.gone for child in started) or not all(task.done() for task in self._tasks):
            try:
                await settled(started)
                await asyncio.gather(*self._tasks, return_exceptions=True)
            except asyncio.CancelledError as error:
                interrupted = error
        self._held.close()
        if interrupted is not None:
            raise interrupted

    # --- starting ---

    async def _check_programs(self, *, with_head: bool) -> None:
        argvs = (*(self._approved.heads if with_head else ()), *self._approved.filters)
        programs = [self._crew.programs.get(name) for name in dict.fromkeys(argv[0] for argv in argvs)]
        await asyncio.gather(*(self._crew.versions.check(program) for program in programs))

    def _start_head(self, argv: tuple[str, ...], context: Context | None, stderr: int) -> tuple[_Stage, PipeReader]:
        program = self._crew.programs.get(argv[0])
        launch = self._crew.sandbox.head(program, argv[1:], temporary=self._temporary, context=context)
        reading, writing = make_pipe()
        data = self._approved.stdin
        stdin = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC) if data is None else memory_file(data)
        try:
            child = self._crew.children.launch(launch, stdin=stdin, stdout=writing, stderr=stderr)
        finally:
            os.close(stdin)
            os.close(writing)
            reader = self._held.reader(reading)
        self._heads.append(_Stage(argv, child))
        return self._heads[-1], reader

    def _start_filters(self, stderr: int) -> tuple[PipeWriter, PipeReader]:
        """Starts them joined by pipes of their own; what to write to the first and read from the last."""
        entry, writing = make_pipe()
        writer = PipeWriter(writing)
        self._held.ours.append(writer)
        for argv in self._approved.filters:
            leaving, output = make_pipe()
            try:
                launch = self._crew.sandbox.filter(
                    self._crew.programs.get(argv[0]), argv[1:], temporary=self._temporary
                )
                child = self._crew.children.launch(launch, stdin=entry, stdout=output, stderr=stderr)
            finally:
                os.close(entry)
                os.close(output)
                entry = leaving
            self._filters.append(_Stage(argv, child))
        return writer, self._held.reader(entry)

    # --- flowing ---

    async def _flow(self, source: AsyncIterator[bytes] | None, context: Context | None) -> None:
        reading, stderr = make_pipe()
        self._held.theirs.append(stderr)
        errors = self._task(self._read_errors(self._held.reader(reading)))
        flows: list[asyncio.Task[None]] = []
        sink: Sink = self._budget
        waiting = deque(self._approved.heads if source is None else ())
        begun = deque([self._start_head(waiting.popleft(), context, stderr)] if waiting else ())
        if self._approved.filters:
            writer, reader = self._start_filters(stderr)
            sink = _FilterSink(writer)
            flows.append(self._task(self._drain(reader)))
        if source is not None:
            self._held.close_theirs()
            flows.append(self._task(self._feed_source(source, sink)))
        else:
            flows.append(self._task(self._feed_heads(begun, waiting, context, stderr, sink)))
        await _all_or_first_error(flows)
        self._held.close_theirs()
        await settled([stage.child for stage in (*self._heads, *self._filters)])
        try:
            # All that could write have ended; only what fled its group may still hold the pipe.
            await asyncio.wait_for(errors, _STDERR_WAIT_S)
        except TimeoutError:
            pass

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
        begun: deque[tuple[_Stage, PipeReader]],
        waiting: deque[tuple[str, ...]],
        context: Context | None,
        stderr: int,
        sink: Sink,
    ) -> None:
        try:
            while begun:
                while waiting and len(begun) < HEADS_AT_ONCE:
                    begun.append(self._start_head(waiting.popleft(), context, stderr))
                if not waiting:
                    self._held.close_theirs()
                stage, reader = begun.popleft()
                if not await self._feed(self._chunks(reader), sink, stage):
                    await self._stop_heads([(stage, reader), *begun])
                    return
                reader.close()
        finally:
            self._fed = True
            if isinstance(sink, _FilterSink):
                sink.close()

    async def _stop_heads(self, heads: list[tuple[_Stage, PipeReader]]) -> None:
        """Nobody wants more: reads are ended, a write goes on unread."""
        if self._may_end_heads:
            self._crew.children.end([stage.child for stage, _ in heads], grace_s=END_GRACE_S)
            return
        for _, reader in heads:
            while await reader.read():
                pass

    async def _feed(self, source: AsyncIterator[bytes], sink: Sink, stage: _Stage | None = None) -> bool:
        """One head's output through its treatment. False: the sink wants no more."""
        compact = bool(self._approved.filters) and self._approved.filters[0][0] == "jq"
        treatment = treatment_for(
            self._approved.output,
            self._crew.redactor,
            self._approved.members,
            compact=compact,
            may_dump=self._may_dump,
        )
        self._treatment = treatment
        try:
            async for chunk in source:
                for piece in treatment.feed(chunk):
                    if piece and not await sink.put(piece):
                        return self._refuse_cut_reads()
                    await self._breathe()
            try:
                for piece in treatment.finish():
                    if piece and not await sink.put(piece):
                        return self._refuse_cut_reads()
            except ProgramFailed:
                # A head that failed may have stopped within its JSON: its own words say more.
                if stage is None or (await stage.child.wait()).code == 0:
                    raise
        finally:
            self._dropped += treatment.dropped
        return True

    def _refuse_cut_reads(self) -> bool:
        if self._raw:
            raise ProgramFailed(
                f"{self._approved.heads[0][0]} printed more than the server reads where it needs the answer to judge",
                "ask for fewer objects at once",
            )
        return False

    async def _chunks(self, reader: PipeReader) -> AsyncIterator[bytes]:
        while chunk := await reader.read():
            self._received += len(chunk)
            yield chunk

    async def _drain(self, reader: PipeReader) -> None:
        """The last filter's output, redacted once more, into the budget."""
        stream = self._crew.redactor.stream()
        while chunk := await reader.read():
            self._budget.add(chunk if self._raw else stream.feed(chunk))
            if self._budget.spent:
                break
            await self._breathe()
        if not self._raw:
            self._budget.add(stream.finish())
        if self._budget.spent or not self._fed:
            # Nothing more can come of it: the others need not wait until the head writes again.
            heads = self._heads if self._may_end_heads else []
            self._crew.children.end([stage.child for stage in (*heads, *self._filters)], grace_s=END_GRACE_S)

    async def _read_errors(self, reader: PipeReader) -> None:
        cut = DumpCut() if self._may_dump else None
        while chunk := await reader.read():
            self._stderr.add(cut.feed(chunk) if cut else chunk)
        if cut:
            self._stderr.add(cut.finish())

    async def _breathe(self) -> None:
        """Lets the others have the event loop every few milliseconds, and tells of progress every second."""
        now = time.monotonic()
        if now - self._turn >= _TURN_S:
            await asyncio.sleep(0)
            self._turn = time.monotonic()
        if self._progress is not None and now - self._reported >= _PROGRESS_S:
            self._reported = now
            await self._progress(self._received)

    def _task(self, work: Awaitable[None]) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._tasks.append(task)
        return task

    # --- what came of it ---

    async def _completed(self) -> Completed:
        heads = [await stage.end() for stage in self._heads]
        filters = [await stage.end() for stage in self._filters]
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


def _context_name(approved: Approved) -> str | None:
    pipeline = approved.decision.pipeline
    if pipeline is None:
        return None
    return pipeline.head.value("context") or pipeline.head.value("kube-context") or None


async def _all_or_first_error(tasks: list[asyncio.Task[None]]) -> None:
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    for task in done:
        task.result()
