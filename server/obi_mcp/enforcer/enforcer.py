"""The policy enforcement point: parse, decide, check, run, redact, audit. The one road for every effect.

INVARIANT: nothing else starts a program or reads a cluster; an intent tool builds a command line like anybody else.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from obi_mcp.audit import AuditLog
from obi_mcp.config import Settings
from obi_mcp.enforcer.case import Case, Difference, Proved
from obi_mcp.enforcer.concerned import ReleaseView, Seal
from obi_mcp.enforcer.failures import ChangedSince, changed_since, forbidden_note, raise_for_failure
from obi_mcp.enforcer.first import remove_empty
from obi_mcp.enforcer.model import MAX_PARSED, Answer, Call, Progress
from obi_mcp.enforcer.obi_program import answer_obi
from obi_mcp.enforcer.proofs import prove
from obi_mcp.enforcer.raw import raw_path
from obi_mcp.enforcer.reads import Reads
from obi_mcp.enforcer.recording import Trace
from obi_mcp.enforcer.upgrades import Upgrades
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
from obi_mcp.policy.engine import Policy
from obi_mcp.policy.model import Access, Approved, RawSpec
from obi_mcp.process.channel import Channel
from obi_mcp.process.places import Places
from obi_mcp.process.runner import Completed, Runner, TimedOut
from obi_mcp.redact import strip_controls

ATTEMPTS = 5
"""How often a write is judged and tried: the status of a workload that rolls out is written several times a second."""

_DIFFERENCES = "exit code 1 of kubectl diff: there are differences"


class Enforcer(Reads):
    """One server's road. Safe for concurrent calls; ``close`` ends every child."""

    def __init__(self, settings: Settings, policy: Policy, audit: AuditLog, runner: Runner | None = None) -> None:
        """``runner`` None: one of its own, with the process's environment. Raises: ConfigError."""
        super().__init__(settings, policy, audit, runner)
        # The runner's places are for commands; these are for calls, half of which are checked while others run.
        self._calls = Places(2 * settings.limits.max_children, settings.limits.max_waiting)
        self._upgrades = Upgrades()

    async def run(self, call: Call, progress: Progress | None = None) -> Answer:
        """Decide, prove, run and answer; the audit log has a line for every outcome.

        Raises: Denied (SyntaxDenied where the line does not parse), NotFound, CallTimeout, CallCancelled, Busy,
        ClusterUnreachable, ProgramMissing, ProgramFailed, AuditError.
        """
        return await self._recorder.recorded(call, lambda trace: self._guarded(call, trace, progress))

    async def take_back(self, call: Call, progress: Progress | None = None) -> Answer:
        """``helm rollback RELEASE REVISION`` to what stood there before an upgrade that this server began, also where
        the caller's level has no roll-backs. Raises: as ``run``; Conflict where somebody else has upgraded since.
        """
        decision = self.policy.decide(call.command, access=Access.FULL, context=call.context)
        before = self._upgrades.taken_back_by(decision)
        if before is None:
            return await self.run(call, progress)
        call = replace(call, expects=Seal(before + 1))
        return await self._recorder.recorded(call, lambda trace: self._guarded(call, trace, progress, Access.FULL))

    async def remove_namespaces(self, call: Call) -> tuple[str, ...]:
        """Removes again the Namespaces that this ``apply`` made, those in which nothing stands; gives their names.

        Raises: Denied, CallTimeout, CallCancelled, ClusterUnreachable, ProgramFailed, AuditError.
        """

        async def removing(trace: Trace) -> tuple[str, ...]:
            async with self._decided(call, trace) as (case, _):
                self._recorder.begin(told, trace)
                names = tuple(document.name for document in case.decision.documents if document.kind == "Namespace")
                return await remove_empty(case, names)

        told = replace(call, command=f"{call.command}  # taken back: the Namespaces while they are empty")
        return await self._recorder.recorded(told, removing)

    async def close(self) -> None:
        """End every child of this server and remove what it put into its private directory."""
        await self._channels.close()
        await self._runner.close()

    # --- the road ---

    async def _guarded(
        self, call: Call, trace: Trace, progress: Progress | None, access: Access | None = None
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

    async def _proved(
        self,
        call: Call,
        access: Access,
        trace: Trace,
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
            case.begin = lambda: self._recorder.begin(call, trace)
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

    async def _checked(self, case: Case, trace: Trace, progress: Progress | None) -> tuple[list[Proved], Approved]:
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
        self, call: Call, case: Case, trace: Trace, proofs: Sequence[Proved], approved: Approved, *, max_bytes: int
    ) -> Answer:
        """Run what was approved, and look at what became of it. Raises: ChangedSince, Conflict, what a run raises."""
        head = case.head
        case.begin()
        self._upgrades.begin(case)
        if case.sidecar is not None:
            self._sidecars.add(case.sidecar)
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
        trace = Trace(decision=self.policy.decide(remedy.command, access=Access.FULL, context=call.context))
        limits = self.settings.limits
        try:
            # INVARIANT: here and in take_back alone does the server use more than the caller has.
            await self._proved(remedy, Access.FULL, trace, None, timeout_s=limits.timeout_s, max_bytes=limits.max_bytes)
        except ObiMcpError as error:
            self._recorder.record(remedy, trace, error.code)
            return Conflict(f"{message}; taking it back failed: {error.message}", f"run: {command}")
        self._recorder.record(remedy, trace, None)
        return Conflict(f"{message}; it was taken back with {command}", "look at what changed, and try again")

    def _new_folder(self, folders: list[Path]) -> Path:
        """A private folder of one call, noted in ``folders``, which removes it at its end."""
        folders.append(Path(self._runner.directory.new_folder()))
        return folders[-1]

    async def _run_until(
        self,
        trace: Trace,
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
            return channel.stream(raw_path(raw), timeout_s=timeout_s)
        return _once(printed) if printed is not None else None

    # --- the answer ---

    def _answer(
        self,
        trace: Trace,
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


def _as_expected(call: Call, case: Case) -> None:
    """Raises: Conflict where a release is no longer as a plan has shown it."""
    if call.expects is not None and (why := call.expects.changed(case.release.seal())):
        raise Conflict(f"{why}: not as when it was planned; nothing was written", "make the plan again")


def _pinned(proofs: Sequence[Proved]) -> frozenset[str]:
    return frozenset[str]().union(*(proof.pinned or () for proof in proofs))


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
