"""The policy enforcement point: parse, decide, check, run, redact, audit. The one road for every effect.

INVARIANT: nothing else starts a program or reads a cluster; an intent tool builds a command line like anybody else.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from obi_mcp.audit import AuditEntry, AuditLog
from obi_mcp.config import Settings
from obi_mcp.enforcer.case import Case, Difference, Proved
from obi_mcp.enforcer.cluster import Cluster, Reader
from obi_mcp.enforcer.concerned import ReleaseView, Seal
from obi_mcp.enforcer.failures import ChangedSince, changed_since, forbidden_note, name_missing_right, raise_for_failure
from obi_mcp.enforcer.first import remove_empty
from obi_mcp.enforcer.members import Found, Members
from obi_mcp.enforcer.model import MAX_PARSED, Answer, Call, Progress
from obi_mcp.enforcer.obi_program import answer_obi
from obi_mcp.enforcer.proofs import prove
from obi_mcp.enforcer.raw import prove_port
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
from obi_mcp.enforcer.scraping import Scraping, Sink, Wanted, at_most, scrape
from obi_mcp.enforcer.upgrades import Upgrades
from obi_mcp.enforcer.watching import Contexts, Seen, open_log, open_watch
from obi_mcp.errors import (
    CallCancelled,
    CallTimeout,
    Conflict,
    Denied,
    NotFound,
    ObiMcpError,
    ProgramFailed,
    SyntaxDenied,
)
from obi_mcp.policy.chart import ChartStore
from obi_mcp.policy.engine import Policy
from obi_mcp.policy.model import Access, Approved, CheckResult, Decision, RawSpec
from obi_mcp.process.channel import Channel, Channels, PassingReads
from obi_mcp.process.places import Places
from obi_mcp.process.runner import Completed, Runner, TimedOut
from obi_mcp.redact import Redactor, strip_controls

OWN_READ_BYTES = 8_388_608
"""The most that one of the server's own reads (a dry run, a rendering) may print."""

_T = TypeVar("_T")
ATTEMPTS = 5
"""How often a write is judged and tried: the status of a workload that rolls out is written several times a second."""
_READ_SHARE = 0.9

_DIFFERENCES = "exit code 1 of kubectl diff: there are differences"


@dataclass(slots=True)
class _Trace:
    """What the audit line will say of the call."""

    started: float = field(default_factory=time.monotonic)
    clock: asyncio.Timeout | None = None
    """Keeps the deadline until the command runs; then the runner keeps it, which knows what has been printed."""
    decision: Decision | None = None
    results: tuple[CheckResult, ...] = ()
    exit_code: int | None = None
    bytes: int = 0
    call: str | None = None
    """What the line says that a write has before it is made; None until then."""

    def duration_ms(self) -> int:
        return round((time.monotonic() - self.started) * 1000)


class Enforcer:
    """One server's road. Safe for concurrent calls; ``close`` ends every child."""

    def __init__(self, settings: Settings, policy: Policy, audit: AuditLog, runner: Runner | None = None) -> None:
        """``runner`` None: one of its own, with the process's environment. Raises: ConfigError."""
        self.settings = settings
        self.policy = policy
        self._audit = audit
        self._redactor = runner.redactor if runner else Redactor.load()
        self._runner = runner or Runner.for_settings(settings, self._redactor)
        self._channels = Channels(settings, self._runner)
        # The runner's places are for commands; these are for calls, half of which are checked while others run.
        self._calls = Places(2 * settings.limits.max_children, settings.limits.max_waiting)
        self._charts = ChartStore.of(settings.programs.chart_store, policy.scope)
        self._upgrades = Upgrades()

    def explain(self, call: Call) -> Decision:
        """What the policy says of a call, from text alone: nothing runs and no cluster is asked."""
        return self._decide(call, self._access(call))

    def explain_elsewhere(self, call: Call, namespace: str, names: AbstractSet[str] = frozenset()) -> Decision:
        """What the policy says of a call if that namespace and these names of cluster-wide objects were in scope: for
        what is written down for somebody else to apply."""
        policy = self.policy.with_place(namespace, names)
        return policy.decide(call.command, stdin=call.stdin, access=self._access(call))

    def _decide(self, call: Call, access: Access) -> Decision:
        return self.policy.decide(
            call.command, stdin=call.stdin, access=access, context=call.context, timeout_s=call.timeout_s
        )

    async def run(self, call: Call, progress: Progress | None = None) -> Answer:
        """Decide, prove, run and answer; the audit log has a line for every outcome.

        Raises: Denied (SyntaxDenied where the line does not parse), NotFound, CallTimeout, CallCancelled, Busy,
        ClusterUnreachable, ProgramMissing, ProgramFailed, AuditError.
        """
        return await self._recorded(call, lambda trace: self._guarded(call, trace, progress))

    async def take_back(self, call: Call, progress: Progress | None = None) -> Answer:
        """``helm rollback RELEASE REVISION`` to what stood there before an upgrade that this server began, also where
        the caller's level has no roll-backs. Raises: as ``run``; Conflict where somebody else has upgraded since.
        """
        decision = self.policy.decide(call.command, access=Access.FULL, context=call.context)
        before = self._upgrades.taken_back_by(decision)
        if before is None:
            return await self.run(call, progress)
        call = replace(call, expects=Seal(before + 1))
        return await self._recorded(call, lambda trace: self._guarded(call, trace, progress, Access.FULL))

    async def read(self, call: Call) -> Reading:
        """What ``kubectl get … -o json`` gives, by the warm channel: for the server's own tools.

        Raises: Denied, NotFound, CallTimeout, CallCancelled, ClusterUnreachable, ProgramFailed, AuditError.
        """

        async def reading(trace: _Trace) -> Reading:
            async with self._decided(call, trace) as (case, _):
                return await read_objects(case, self._approving(trace), self._redactor)

        return await self._recorded(call, reading)

    async def scrape(self, call: Call, wanted: Wanted) -> Scraping:
        """One endpoint of every pod that ``kubectl get pods … -o json`` lists, by the warm channel, a pod at a time
        handed to ``wanted``. Raises: as ``read``; what is wrong with one pod is said of that pod."""

        async def reading(trace: _Trace) -> Scraping:
            async with self._decided(call, trace) as (case, channel):
                found, skipped = await listed(case, self._approving(trace))

                async def request(pod: Found, command: str, sink: Sink) -> None:
                    await self._request(replace(call, command=command), case, channel, pod, sink)

                within_s = max(_READ_SHARE * case.timeout_s - POD_S, case.timeout_s / 2)
                return Scraping(await scrape(found, wanted, request, within_s=within_s), case.decision, skipped)

        return await self._recorded(call, reading)

    async def _request(self, call: Call, listing: Case, channel: Channel, pod: Found, sink: Sink) -> None:
        """One pod's ``get --raw``: decided, proved by the pod as it was listed, and read in pieces."""

        async def requesting(trace: _Trace) -> None:
            decision = trace.decision = self.explain(call)
            check = next(iter(decision.checks), None)
            if not decision.allowed or check is None or not isinstance(check.spec, RawSpec):
                raise Denied(decision)
            spec, case = check.spec, replace(listing, decision=decision)
            if (spec.namespace, spec.pod) != (pod.namespace, pod.name):  # INVARIANT: of this pod the line was made
                raise Denied(decision)
            self._approving(trace)(case, [await prove_port(case, check, spec, pod.body)])
            take = at_most(sink, self.settings.limits.max_max_bytes)
            async for piece in channel.stream(_raw_path(spec), timeout_s=POD_S):
                trace.bytes += len(piece)
                take(piece)

        await self._recorded(call, requesting)

    async def read_logs(self, call: Call, take: TakeLog | None = None, *, follow_s: float = 0.0) -> LogReading:
        """What ``kubectl logs`` gives, by the warm channel, pod by pod: handed to ``take`` as it comes, where given.
        ``follow_s``: for so long, what is printed meanwhile comes too. Raises: as ``read``."""

        async def reading(trace: _Trace) -> LogReading:
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

        return await self._recorded(call, reading)

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

            async def opening(trace: _Trace) -> AsyncGenerator[bool, None]:
                async with self._decided(call, trace, passing=True) as (case, channel):
                    lasting.enter_context(channel.held())
                    return await begin(case, self._approving(trace), channel)

            async with aclosing(await self._recorded(call, opening)) as stream:
                yield stream

    async def contexts(self) -> Contexts:
        """The contexts that a caller may name. Touches no cluster. Raises: ConfigError for an unreadable kubeconfig."""
        await self._runner.sandbox.prepare(None)
        known = self._runner.sandbox.kubeconfig
        return Contexts(known.current, tuple(name for name in self.policy.scope.contexts if name in known.contexts))

    async def remove_namespaces(self, call: Call) -> tuple[str, ...]:
        """Removes again the Namespaces that this ``apply`` made, those in which nothing stands; gives their names.

        Raises: Denied, CallTimeout, CallCancelled, ClusterUnreachable, ProgramFailed, AuditError.
        """

        async def removing(trace: _Trace) -> tuple[str, ...]:
            async with self._decided(call, trace) as (case, _):
                self._begin(told, trace)
                names = tuple(document.name for document in case.decision.documents if document.kind == "Namespace")
                return await remove_empty(case, names)

        told = replace(call, command=f"{call.command}  # taken back: the Namespaces while they are empty")
        return await self._recorded(told, removing)

    def _approving(self, trace: _Trace) -> Callable[[Case, Sequence[Proved]], object]:
        """Approval of a read, whose results the audit line then has."""

        def approve(case: Case, proofs: Sequence[Proved]) -> object:
            trace.results = tuple(proof.result for proof in proofs)
            return self._approve(case, proofs)

        return approve

    async def _recorded(self, call: Call, work: Callable[[_Trace], Awaitable[_T]]) -> _T:
        """Does the work; the audit log has a line for every outcome."""
        self._audit.ensure_writable()
        trace = _Trace()
        try:
            answer = await work(trace)
        except ObiMcpError as error:
            self._record(call, trace, error.code)
            self._clean(error)
            raise
        except asyncio.CancelledError:
            self._record(call, trace, CallCancelled.code)
            raise
        self._record(call, trace, None)
        return answer

    async def close(self) -> None:
        """End every child of this server and remove what it put into its private directory."""
        await self._channels.close()
        await self._runner.close()

    # --- the road ---

    async def _guarded(
        self, call: Call, trace: _Trace, progress: Progress | None, access: Access | None = None
    ) -> Answer:
        """``access`` None: the caller's."""
        limits = self.settings.limits
        timeout_s = min(call.timeout_s or limits.timeout_s, limits.max_timeout_s)
        max_bytes = min(call.max_bytes or limits.max_bytes, limits.max_max_bytes)
        try:
            # A call that waits for its place costs nothing, so that a hundred of them keep nobody from being heard.
            async with asyncio.timeout(timeout_s) as trace.clock, self._calls.place():
                # A document can be a megabyte: judging it must not make others wait.
                level = self._access(call) if access is None else access
                decide = partial(self._decide, call, level)
                trace.decision = await asyncio.to_thread(decide) if call.stdin else decide()
                if not trace.decision.allowed:
                    raise (SyntaxDenied if trace.decision.rule == "syntax" else Denied)(trace.decision)
                return await self._proved(call, level, trace, progress, timeout_s=timeout_s, max_bytes=max_bytes)
        except TimeoutError:
            raise CallTimeout(
                f"the call did not finish within {timeout_s:g} s, and its processes have been ended",
                self._ask_for_less(),
            ) from None

    @asynccontextmanager
    async def _decided(
        self, call: Call, trace: _Trace, *, passing: bool = False
    ) -> AsyncIterator[tuple[Case, Channel]]:
        """A decided read and its channel, within the call's deadline. ``passing``: its reads are no reason to keep the
        channel warm."""
        limits = self.settings.limits
        timeout_s = min(call.timeout_s or limits.timeout_s, limits.max_timeout_s)
        decision = trace.decision = self.explain(call)
        if not decision.allowed or decision.pipeline is None:
            raise (SyntaxDenied if decision.rule == "syntax" else Denied)(decision)
        channel = self._channels.of(decision.pipeline.head.value("context") or None)
        try:
            async with asyncio.timeout(timeout_s):
                reader = PassingReads(channel) if passing else channel
                yield self._case(decision, self._access(call), channel, timeout_s, reader), channel
        except TimeoutError:
            raise CallTimeout(
                f"the read did not finish within {timeout_s:g} s", "ask for less, or give a larger timeout_s"
            ) from None

    async def _proved(
        self,
        call: Call,
        access: Access,
        trace: _Trace,
        progress: Progress | None,
        *,
        timeout_s: float,
        max_bytes: int,
    ) -> Answer:
        """Prove, approve and run; all of it again where the object changed in between and is still the same one."""
        decision = trace.decision
        if decision is None or decision.pipeline is None:  # INVARIANT: an allowed decision has a pipeline
            raise Denied(decision) if decision else CallCancelled("nothing was decided")
        head = decision.pipeline.head
        channel = self._channels.of(head.value("context") or head.value("kube-context") or None)
        changed: ChangedSince | None = None
        for _ in range(ATTEMPTS):
            case = self._case(decision, access, channel, timeout_s)
            case.begin = lambda: self._begin(call, trace)
            folders: list[Path] = []
            case.place = partial(self._new_folder, folders)
            try:
                proofs, approved = await self._checked(case, trace, progress)
                _as_expected(call, case)
                if changed is not None and changed.uids != _pinned(proofs):
                    break
                if progress:
                    await progress(len(decision.checks), len(decision.checks) + 1, f"running {head.program}")
                return await self._performed(call, case, trace, proofs, approved, max_bytes=max_bytes)
            except ChangedSince as error:
                changed = changed or error
                if not error.uids:
                    break
            except (Denied, NotFound, ProgramFailed):
                if changed is None:
                    raise
                break
            finally:
                for folder in folders:
                    self._runner.directory.remove(str(folder))
        raise changed or CallCancelled("nothing was tried")

    async def _checked(self, case: Case, trace: _Trace, progress: Progress | None) -> tuple[list[Proved], Approved]:
        """The decision's checks against the cluster, and what may run for it. What they made is taken back if not."""
        checks = case.decision.checks
        proofs: list[Proved] = []
        try:
            for number, check in enumerate(checks):
                if progress:
                    await progress(number, len(checks) + 1, f"checking {check.kind} of {check.target}")
                proofs.append(await prove(case, check))
                trace.results = tuple(proof.result for proof in proofs)
                if not proofs[-1].result.passed:
                    break
            return proofs, self._approve(case, proofs)
        except BaseException:
            for take_back in reversed(case.undo):
                await take_back()
            raise

    async def _performed(
        self, call: Call, case: Case, trace: _Trace, proofs: Sequence[Proved], approved: Approved, *, max_bytes: int
    ) -> Answer:
        """Run what was approved, and look at what became of it. Raises: ChangedSince, Conflict, what a run raises."""
        head = case.head
        case.begin()
        self._upgrades.begin(case)
        printed = next((proof.source for proof in proofs if proof.source is not None), None)
        performed = [await proof.perform(approved) for proof in proofs if proof.perform]
        if performed:
            printed = b"".join(performed)
        source = self._source(approved, case.channel, printed, case.timeout_s)
        completed = await self._run_until(
            trace, approved, source, call.stdin, timeout_s=case.timeout_s, max_bytes=max_bytes
        )
        raise_for_failure(completed, head)
        if any(proof.pinned is not None for proof in proofs) and (conflict := changed_since(completed)):
            conflict.uids = _pinned(proofs)
            raise conflict
        for proof in proofs:
            if proof.afterwards and (difference := await proof.afterwards()):
                raise await self._differs(call, difference)
        notes = [note for proof in proofs for note in proof.notes]
        if head.program == "kubectl" and head.path == ("diff",) and completed.exit_code == 1:
            notes.append(_DIFFERENCES)
        if note := forbidden_note(completed, self.policy.resources, self.policy.scope):
            notes.append(note)
        return self._answer(trace, approved, completed, tuple(notes), case.release.view(self._redactor))

    async def _differs(self, call: Call, difference: Difference) -> Conflict:
        """What is said of a write that turned out otherwise than judged; where it can be, it is taken back first."""
        message = f"what stands in the cluster now is not what was judged: {difference.text}"
        if difference.remedy is None:
            return Conflict(message, "look at what stands there, and at who else writes it")
        return await self._taken_back(call, difference.remedy, message)

    async def _taken_back(self, call: Call, command: str, message: str) -> Conflict:
        """Takes a write back on the same road, and says how that went."""
        remedy = Call(command, call.tool, access=Access.FULL, context=call.context, caller="obi-mcp itself")
        trace = _Trace(decision=self.policy.decide(remedy.command, access=Access.FULL, context=call.context))
        limits = self.settings.limits
        try:
            # INVARIANT: here and in take_back alone does the server use more than the caller has.
            await self._proved(remedy, Access.FULL, trace, None, timeout_s=limits.timeout_s, max_bytes=limits.max_bytes)
        except ObiMcpError as error:
            self._record(remedy, trace, error.code)
            return Conflict(f"{message}; taking it back failed: {error.message}", f"run: {command}")
        self._record(remedy, trace, None)
        return Conflict(f"{message}; it was taken back with {command}", "look at what changed, and try again")

    def _new_folder(self, folders: list[Path]) -> Path:
        """A private folder of one call, noted in ``folders``, which removes it at its end."""
        folders.append(Path(self._runner.directory.new_folder()))
        return folders[-1]

    def _approve(self, case: Case, proofs: Sequence[Proved]) -> Approved:
        heads = next((proof.heads for proof in proofs if proof.heads is not None), None)
        members = [proof.members for proof in proofs if proof.members is not None]
        return self.policy.approve(
            case.decision,
            access=case.access,
            results=[proof.result for proof in proofs],
            heads=heads,
            stdin=next((proof.stdin for proof in proofs if proof.stdin is not None), None),
            skipped=sum(proof.skipped for proof in proofs),
            members=frozenset[str]().union(*members) if members else None,
        )

    async def _run_until(
        self,
        trace: _Trace,
        approved: Approved,
        source: AsyncIterator[bytes] | None,
        stdin: str | None,
        *,
        timeout_s: float,
        max_bytes: int,
    ) -> Completed:
        """Runs it in what is left of the time. Raises: CallTimeout with what had been printed."""
        left_s = max(timeout_s - (time.monotonic() - trace.started), 0.001)
        if trace.clock is not None:
            trace.clock.reschedule(None)
        try:
            return await self._run(approved, source, stdin, timeout_s=left_s, max_bytes=max_bytes)
        except TimedOut as late:
            trace.bytes = len(late.partial.stdout)
            printed, said = (strip_controls(data.decode("utf-8", "replace"))[0] for data in late.partial.streams)
            raise CallTimeout(
                f"the command did not finish within {timeout_s:g} s, and its processes have been ended",
                self._ask_for_less(),
                stdout=printed,
                stderr=said,
            ) from None

    def _ask_for_less(self) -> str:
        most_s = self.settings.limits.max_timeout_s
        return f"ask for less (a selector, --tail, --since), or give timeout_s up to {most_s:g}"

    async def _run(
        self,
        approved: Approved,
        source: AsyncIterator[bytes] | None,
        stdin: str | None,
        *,
        timeout_s: float,
        max_bytes: int,
    ) -> Completed:
        if approved.heads[0][0] == "obi":
            return await answer_obi(
                self._runner, approved, self.settings, stdin or "", timeout_s=timeout_s, max_bytes=max_bytes
            )
        return await self._runner.run(approved, timeout_s=timeout_s, max_bytes=max_bytes, head_source=source)

    def _source(
        self, approved: Approved, channel: Channel, printed: bytes | None, timeout_s: float
    ) -> AsyncIterator[bytes] | None:
        """What takes the head's place: a pod's endpoint by the warm channel, or what proving it printed already."""
        raw = next((check.spec for check in approved.decision.checks if isinstance(check.spec, RawSpec)), None)
        if raw is not None:
            return channel.stream(_raw_path(raw), timeout_s=timeout_s)
        return _once(printed) if printed is not None else None

    def _case(
        self, decision: Decision, access: Access, channel: Channel, timeout_s: float, reader: Reader | None = None
    ) -> Case:
        # A little less than the call has, so that a silent API server is told as one.
        cluster = Cluster(reader or channel, timeout_s=_READ_SHARE * timeout_s)

        async def run_own(approved: Approved) -> Completed:
            return await self._runner.run(approved, timeout_s=timeout_s, max_bytes=OWN_READ_BYTES)

        members = Members(cluster, self.policy.scope, self.policy.resources)
        return Case(
            decision=decision,
            access=access,
            cluster=cluster,
            members=members,
            policy=self.policy,
            scope=self.policy.scope,
            resources=self.policy.resources,
            charts=self._charts,
            run_own=run_own,
            channel=channel,
            timeout_s=timeout_s,
        )

    # --- the answer ---

    def _answer(
        self,
        trace: _Trace,
        approved: Approved,
        completed: Completed,
        notes: tuple[str, ...],
        release: ReleaseView | None = None,
    ) -> Answer:
        stdout, stripped_out = strip_controls(completed.stdout.decode("utf-8", "replace"))
        stderr, stripped_err = strip_controls(completed.stderr.decode("utf-8", "replace"))
        trace.exit_code = completed.exit_code
        trace.bytes = len(completed.stdout)
        return Answer(
            stdout=stdout,
            stderr=stderr,
            exit_code=completed.exit_code,
            decision=approved.decision,
            duration_ms=trace.duration_ms(),
            truncated=completed.truncated,
            cut=completed.cut,
            skipped=approved.skipped + completed.dropped,
            stripped=stripped_out + stripped_err,
            notes=notes,
            parsed=None if completed.truncated else _parsed(stdout),
            release=release,
        )

    def _access(self, call: Call) -> Access:
        return self.settings.access if call.access is None else min(call.access, self.settings.access)

    def _clean(self, error: ObiMcpError) -> None:
        """Errors repeat what programs and the API server said: the same redaction as for output."""
        name_missing_right(error, self.policy.resources, self.policy.scope)
        error.message = self._plain(error.message)
        error.hint = self._plain(error.hint) if error.hint else error.hint
        if isinstance(error, Denied):
            decision = error.decision
            hint = self._plain(decision.hint) if decision.hint else decision.hint
            error.decision = replace(decision, reason=self._plain(decision.reason), hint=hint)

    def _plain(self, text: str) -> str:
        return strip_controls(self._redactor.text(text))[0]

    def _begin(self, call: Call, trace: _Trace) -> None:
        """Writes down once that a write begins, so that the log has it whatever ends the server. Raises: AuditError."""
        decision = trace.decision
        if trace.call is None and decision is not None and decision.access not in (None, Access.READ_ONLY):
            trace.call = self._audit.begin(self._entry(call, trace, None))

    def _record(self, call: Call, trace: _Trace, error: str | None) -> None:
        self._audit.record(self._entry(call, trace, error))

    def _entry(self, call: Call, trace: _Trace, error: str | None) -> AuditEntry:
        return AuditEntry(
            tool=call.tool,
            command=call.command,
            caller=call.caller,
            decision=trace.decision,
            results=trace.results,
            exit_code=trace.exit_code,
            error=error,
            duration_ms=trace.duration_ms(),
            bytes=trace.bytes,
            stdin=call.stdin,
            call=trace.call,
            confirmed_by=call.confirmed_by,
        )


def _as_expected(call: Call, case: Case) -> None:
    """Raises: Conflict where a release is no longer as a plan has shown it."""
    if call.expects is not None and (why := call.expects.changed(case.release.seal())):
        raise Conflict(f"{why}: not as when it was planned; nothing was written", "make the plan again")


def _pinned(proofs: Sequence[Proved]) -> frozenset[str]:
    return frozenset[str]().union(*(proof.pinned or () for proof in proofs))


def _raw_path(spec: RawSpec) -> str:
    return f"/api/v1/namespaces/{spec.namespace}/pods/{spec.pod}:{spec.port}/proxy/{spec.path}"


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


def _parsed(text: str) -> Any:
    """The output as one JSON value, where it is a small object or list; None otherwise."""
    if len(text) > MAX_PARSED or not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return json.loads(text)
    except ValueError:
        return None
