"""Asking the person behind an MCP client, on both generations of the protocol.

The older one is asked while the call runs. The newer one has no way back: the call ends with the question, and the
client calls again with the reply and with what the server gave it to keep, which the SDK seals and binds to the call's
tool and arguments for ten minutes. (``Context.elicit`` does the first only, ``Resolve`` parameters belong to tools that
the SDK calls itself; this server's tools are called by ``ObiServer.call_tool``.)
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import OrderedDict
from typing import Any

from mcp.server.mcpserver import Context
from mcp.shared.exceptions import MCPError
from mcp_types import ElicitRequest, ElicitRequestFormParams, ElicitResult, InputRequiredResult
from mcp_types.version import is_version_at_least

from obi_mcp.toolsets.base import Person, QuestionPending, Reply

THROUGH = "client"
ENDS_WITH_THE_QUESTION = "2026-07-28"
"""The first protocol revision whose calls end with the question."""
MAX_PENDING = 64

_KEY = "confirm"
_FORM: dict[str, Any] = {"type": "object", "properties": {}}
"""Accepting is all there is to say."""


class Questions:
    """The questions of one server that wait for a reply. A reply counts once, for the question that was asked."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._pending: OrderedDict[str, str] = OrderedDict()

    def person(self, context: Context[dict[str, Any], Any] | None) -> Person | None:
        """Whoever is behind the client of this call, where the client says that it can ask; else None."""
        if context is None or not _can_ask(context):
            return None
        version = context.protocol_version
        later = version is not None and is_version_at_least(version, ENDS_WITH_THE_QUESTION)

        async def ask(question: str) -> Reply:
            return self._replied(context, question) if later else await self._ask_now(context, question)

        return Person(THROUGH, ask)

    def put(self, pending: QuestionPending) -> InputRequiredResult:
        """The result that asks the question: the client calls again with the reply."""
        key = secrets.token_urlsafe(16)
        self._pending[key] = _digest(pending.question)
        while len(self._pending) > MAX_PENDING:
            self._pending.popitem(last=False)
        form = ElicitRequestFormParams(message=pending.question, requested_schema=_FORM)
        return InputRequiredResult(input_requests={_KEY: ElicitRequest(params=form)}, request_state=key)

    def _replied(self, context: Context[dict[str, Any], Any], question: str) -> Reply:
        """The reply that came with this call. Raises: QuestionPending when there is none to this question."""
        asked = self._pending.pop(context.request_state or "", None)
        reply = (context.input_responses or {}).get(_KEY)
        if asked != _digest(question) or not isinstance(reply, ElicitResult):
            raise QuestionPending(question)
        return reply.action

    async def _ask_now(self, context: Context[dict[str, Any], Any], question: str) -> Reply:
        try:
            async with asyncio.timeout(self._timeout_s):
                result = await context.session.elicit_form(
                    message=question, requested_schema=_FORM, related_request_id=context.request_id
                )
        except TimeoutError:
            return "none"
        except MCPError:  # the client failed to ask: nobody confirmed anything
            return "cancel"
        reply: Reply = result.action
        return reply


def _can_ask(context: Context[dict[str, Any], Any]) -> bool:
    """Whether the client said that it shows forms; one that names no mode does."""
    capabilities = context.client_capabilities
    elicitation = capabilities.elicitation if capabilities is not None else None
    return elicitation is not None and (elicitation.form is not None or elicitation.url is None)


def _digest(question: str) -> str:
    return hashlib.sha256(question.encode()).hexdigest()
