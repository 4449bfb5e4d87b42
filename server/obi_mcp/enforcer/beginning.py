"""What every call on the road begins with: its level, its decision, the channel of its context, and its case."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager

from obi_mcp.audit import AuditLog
from obi_mcp.config import Settings
from obi_mcp.enforcer.case import Case, Proved, SidecarKey
from obi_mcp.enforcer.cluster import Cluster, Reader
from obi_mcp.enforcer.members import Members
from obi_mcp.enforcer.model import Call
from obi_mcp.enforcer.recording import Recorder, Trace
from obi_mcp.errors import CallTimeout, Denied, SyntaxDenied
from obi_mcp.policy.chart import ChartStore
from obi_mcp.policy.engine import Policy
from obi_mcp.policy.model import Access, Approved, Decision
from obi_mcp.process.channel import Channel, Channels, PassingReads
from obi_mcp.process.runner import Completed, Runner
from obi_mcp.redact import Redactor

OWN_READ_BYTES = 8_388_608
"""The most that one of the server's own reads (a dry run, a rendering) may print."""
READ_SHARE = 0.9


class Beginning:
    """One server's policy, audit log, programs and channels, and what is decided with them."""

    def __init__(self, settings: Settings, policy: Policy, audit: AuditLog, runner: Runner | None = None) -> None:
        """``runner`` None: one of its own, with the process's environment. Raises: ConfigError."""
        self.settings = settings
        self.policy = policy
        self._redactor = runner.redactor if runner else Redactor.load()
        self._recorder = Recorder(audit, policy, self._redactor)
        self._runner = runner or Runner.for_settings(settings, self._redactor)
        self._channels = Channels(settings, self._runner)
        self._charts = ChartStore.of(settings.programs.chart_store, policy.scope)
        self._sidecars: set[SidecarKey] = set()

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

    def _access(self, call: Call) -> Access:
        return self.settings.access if call.access is None else min(call.access, self.settings.access)

    @asynccontextmanager
    async def _decided(self, call: Call, trace: Trace, *, passing: bool = False) -> AsyncIterator[tuple[Case, Channel]]:
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

    def _case(
        self, decision: Decision, access: Access, channel: Channel, timeout_s: float, reader: Reader | None = None
    ) -> Case:
        # A little less than the call has, so that a silent API server is told as one.
        cluster = Cluster(reader or channel, timeout_s=READ_SHARE * timeout_s)

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
            sidecars=self._sidecars,
        )

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

    def _approving(self, trace: Trace) -> Callable[[Case, Sequence[Proved]], object]:
        """Approval of a read, whose results the audit line then has."""

        def approve(case: Case, proofs: Sequence[Proved]) -> object:
            trace.results = tuple(proof.result for proof in proofs)
            return self._approve(case, proofs)

        return approve
