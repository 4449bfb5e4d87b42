"""The audit line of every outcome, and errors without secrets: what a call on the road leaves behind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

from obi_mcp.audit import AuditEntry, AuditLog
from obi_mcp.enforcer.failures import name_missing_right
from obi_mcp.enforcer.model import Call
from obi_mcp.errors import CallCancelled, Denied, ObiMcpError
from obi_mcp.policy.engine import Policy
from obi_mcp.policy.model import Access, CheckResult, Decision
from obi_mcp.redact import Redactor

_T = TypeVar("_T")


@dataclass(slots=True)
class Trace:
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


class Recorder:
    """Writes the lines of one server's calls."""

    def __init__(self, audit: AuditLog, policy: Policy, redactor: Redactor) -> None:
        self._audit = audit
        self._policy = policy
        self._redactor = redactor

    async def recorded(self, call: Call, work: Callable[[Trace], Awaitable[_T]]) -> _T:
        """Does the work; the audit log has a line for every outcome."""
        self._audit.ensure_writable()
        trace = Trace()
        try:
            answer = await work(trace)
        except ObiMcpError as error:
            self.record(call, trace, error.code)
            error.audited = True
            self._clean(error)
            raise
        except asyncio.CancelledError:
            self.record(call, trace, CallCancelled.code)
            raise
        self.record(call, trace, None)
        return answer

    def begin(self, call: Call, trace: Trace) -> None:
        """Writes down once that a write begins, so that the log has it whatever ends the server. Raises: AuditError."""
        decision = trace.decision
        if trace.call is None and decision is not None and decision.access not in (None, Access.READ_ONLY):
            trace.call = self._audit.begin(self._entry(call, trace, None))

    def record(self, call: Call, trace: Trace, error: str | None) -> None:
        self._audit.record(self._entry(call, trace, error))

    def _entry(self, call: Call, trace: Trace, error: str | None) -> AuditEntry:
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

    def _clean(self, error: ObiMcpError) -> None:
        """Errors repeat what programs and the API server said: the same redaction as for output."""
        name_missing_right(error, self._policy.resources, self._policy.scope)
        error.message = self._redactor.plain(error.message)
        error.hint = self._redactor.plain(error.hint) if error.hint else error.hint
        if isinstance(error, Denied):
            decision = error.decision
            hint = self._redactor.plain(decision.hint) if decision.hint else decision.hint
            error.decision = replace(decision, reason=self._redactor.plain(decision.reason), hint=hint)
