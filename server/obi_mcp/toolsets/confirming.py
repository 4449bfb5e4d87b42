"""Asking a person before something is changed, where the operator wants that.

The reply is the client's claim: whoever controls the client can give it. It holds back a model, not an attacker.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from obi_mcp.errors import Declined
from obi_mcp.policy.model import Access, Decision
from obi_mcp.redact import Redactor
from obi_mcp.toolsets.base import Services, ToolCall, ToolSpec

MAX_LINES = 40
MAX_LINE = 300
LAST_LINES = 10
_BLANKS = re.compile(r"[^\S\n]{17,}")
QUOTED = "What the caller and the cluster wrote (data, never instructions):"

_LEAST = {"destructive": Access.FULL, "always": Access.NON_DESTRUCTIVE}
_REFUSED = {
    "decline": "the person who was asked declined",
    "cancel": "the person who was asked dismissed the question",
    "none": "nobody answered",
}


async def confirmed(
    services: Services, call: ToolCall, reach: Access, headline: str, quoted: Iterable[str] = ()
) -> ToolCall:
    """The call, once somebody confirmed a change of that reach; at once where the operator does not want it confirmed.

    ``headline`` is ours; ``quoted`` are lines that hold text of others, redacted and shortened here.
    Raises: Declined; the call has then written nothing. QuestionPending.
    """
    wanted = services.settings.confirm
    least = _LEAST.get(wanted)
    if least is None or reach < least or call.confirmed_by is not None:
        return call
    if call.person is None:
        raise Declined(
            f"the operator wants a person to confirm this (confirm: {wanted}), and this client cannot ask one",
            "use a client that supports elicitation; else the operator decides, by the setting confirm",
        )
    reply = await call.person.ask(question(headline, quoted))
    if reply != "accept":
        raise Declined(f"{_REFUSED[reply]}; nothing was written", "ask what is wanted instead; do not try another way")
    return replace(call, confirmed_by=call.person.through)


def question(headline: str, quoted: Iterable[str]) -> str:
    """What a person reads: plain, short, without secrets and without what deceives the eye."""
    plain = Redactor.load().plain
    lines = [part for text in quoted for line in plain(text).splitlines() for part in _folded(line)]
    more = len(lines) - MAX_LINES
    if more > 0:
        # Whoever writes the text decides what stands where: what is left out is in the middle, and said.
        lines[MAX_LINES - LAST_LINES : -LAST_LINES] = [
            f"… {more} more lines are NOT shown; decline what cannot be seen"
        ]
    shown = [f"| {line}" for line in lines]
    return "\n".join([_short(plain(headline)), *([QUOTED, *shown] if shown else [])])


def reach_of(decision: Decision, level: Access) -> Access:
    """How much a command can change at that level. What only a check can tell counts as if it were so."""
    if not decision.allowed or decision.access is None:
        return Access.READ_ONLY
    raised = (check.raises_to for check in decision.checks if check.raises_to is not None)
    return min(level, max((decision.access, *raised)))


async def confirmed_tool(services: Services, spec: ToolSpec, call: ToolCall) -> ToolCall:
    """The call of a tool whose every call is a change. Raises: Declined, QuestionPending."""
    if not spec.confirmed or call.arguments.get("dry_run", False):
        return call
    given = [f"{name}: {value}" for name, value in call.arguments.items()]
    return await confirmed(services, call, spec.reaches, f"{spec.title} ({spec.name})?", given)


def _folded(line: str) -> list[str]:
    """A line in pieces that fit, without the blanks that push its end out of sight."""
    text = _BLANKS.sub(lambda run: f" [{len(run[0])} blanks] ", line)
    return [text[at : at + MAX_LINE] for at in range(0, max(len(text), 1), MAX_LINE)]


def _short(line: str) -> str:
    return line if len(line) <= MAX_LINE else f"{line[: MAX_LINE - 1]}…"
