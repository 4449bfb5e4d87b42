"""The one road for effects on this host: decide, approve, perform, redact, audit; the counterpart of ``Enforcer``.

INVARIANT: nothing but ``EffectRoad.run`` performs an effect, and every outcome has its line in the audit log.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from obi_mcp.audit import AuditEntry, AuditLog
from obi_mcp.config import Settings
from obi_mcp.errors import CallCancelled, CallTimeout, Denied, ObiMcpError
from obi_mcp.policy.effects import ApprovedEffect, EffectT, Host
from obi_mcp.policy.engine import Policy
from obi_mcp.policy.model import Access, Decision
from obi_mcp.redact import Redactor

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Asked:
    """Who wants an effect: the tool and the caller, for the audit log; ``access`` can only lower the server's level.

    ``timeout_s``: seconds that performing it may take; None: the configured default. ``confirmed_by``: through what a
    person confirmed it, for the audit log.
    """

    tool: str
    caller: str
    access: Access | None = None
    timeout_s: float | None = None
    confirmed_by: str | None = None


class EffectRoad:
    """One server's road for effects."""

    def __init__(
        self, settings: Settings, policy: Policy, audit: AuditLog, host: Host, redactor: Redactor | None = None
    ) -> None:
        self.settings = settings
        self.policy = policy
        self.host = host
        self._audit = audit
        self._redactor = redactor or Redactor.load()

    def explain(self, effect: EffectT, access: Access | None = None) -> Decision:
        """What the policy says of an effect; nothing is performed and nothing is written down."""
        return self.policy.decide_effect(effect, access=self._level(access), host=self.host)

    async def run(self, effect: EffectT, asked: Asked, perform: Callable[[ApprovedEffect[EffectT]], Awaitable[T]]) -> T:
        """Decides, performs and writes down one effect, and gives what ``perform`` gave.

        What ``perform`` reads for a caller it has to redact with ``plain`` or ``redactor``.
        Raises: Denied, CallTimeout, CallCancelled, AuditError, and what ``perform`` raises.
        """
        self._audit.ensure_writable()
        started = time.monotonic()
        # A configuration can be a quarter of a megabyte: judging it must not make others wait.
        decision = await asyncio.to_thread(self.explain, effect, asked.access)
        entry = AuditEntry(asked.tool, effect.line, asked.caller, decision, confirmed_by=asked.confirmed_by)
        if decision.allowed and decision.access not in (None, Access.READ_ONLY):
            entry = replace(entry, call=self._audit.begin(entry))

        def record(error: str | None) -> None:
            spent_ms = round((time.monotonic() - started) * 1000)
            self._audit.record(replace(entry, error=error, duration_ms=spent_ms))

        try:
            result = await self._performed(effect, decision, asked, perform)
        except ObiMcpError as error:
            record(error.code)
            error.audited = True
            raise self._clean(error) from None
        except asyncio.CancelledError:
            record(CallCancelled.code)
            raise
        except Exception:  # what nobody foresaw has its line in the log too, and goes on to the top
            record(ObiMcpError.code)
            raise
        record(None)
        return result

    @property
    def redactor(self) -> Redactor:
        """What takes secrets out of what was read."""
        return self._redactor

    def plain(self, text: str) -> str:
        """Text of an agent or an engine as a caller may see it: no secrets, no control characters."""
        return self._redactor.plain(text)

    async def _performed(
        self,
        effect: EffectT,
        decision: Decision,
        asked: Asked,
        perform: Callable[[ApprovedEffect[EffectT]], Awaitable[T]],
    ) -> T:
        if not decision.allowed:
            raise Denied(decision)
        limits = self.settings.limits
        timeout_s = min(asked.timeout_s or limits.timeout_s, limits.max_timeout_s)
        approved = self.policy.approve_effect(effect, access=self._level(asked.access), host=self.host)
        try:
            async with asyncio.timeout(timeout_s):
                return await perform(approved)
        except TimeoutError:
            raise CallTimeout(
                f"{effect.kind} of {effect.target} did not finish within {timeout_s:g} s",
                "look at the status before you try again",
            ) from None

    def _level(self, access: Access | None) -> Access:
        return self.settings.access if access is None else min(access, self.settings.access)

    def _clean(self, error: ObiMcpError) -> ObiMcpError:
        error.message = self.plain(error.message)
        error.hint = self.plain(error.hint) if error.hint else error.hint
        if isinstance(error, Denied):
            error.decision = replace(error.decision, reason=self.plain(error.decision.reason))
        return error
