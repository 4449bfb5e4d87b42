"""The stages after the head: jq and the text filters, which read only what comes through the pipe."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from obi_mcp.policy.flags import check_flags
from obi_mcp.policy.kubectl import check_words

if TYPE_CHECKING:
    from obi_mcp.policy.draft import Draft

MAX_TEXT_BYTES = 4096
# `[c*n]` makes tr build n copies of c.
_REPEATED = re.compile(r"\[.*\*.*\]", re.DOTALL)


def judge_filter(draft: Draft) -> None:
    """One filter: its options, its operands, and the size of every text in it. Raises: Denied."""
    check_flags(draft)
    for flag in draft.command.flags:
        for value in flag.values:
            if _too_long(value):
                raise draft.deny(f"{flag.spelled} has more than {MAX_TEXT_BYTES} bytes", at=flag)
    for operand in draft.command.operands:
        if _too_long(operand.text):
            raise draft.deny(f"the operand has more than {MAX_TEXT_BYTES} bytes", at=operand)
    if draft.command.program == "jq":
        _judge_jq(draft)
        return
    check_words(draft)
    if draft.command.program == "tr":
        for operand in draft.command.operands:
            if _REPEATED.search(operand.text):
                raise draft.deny("tr sets of the form [c*n] are not allowed", at=operand, hint=draft.rule.hint)


def _too_long(text: str) -> bool:
    return len(text) * 4 > MAX_TEXT_BYTES and len(text.encode("utf-8", "surrogatepass")) > MAX_TEXT_BYTES


def _judge_jq(draft: Draft) -> None:
    from obi_mcp.policy.expressions import ExpressionDenied
    from obi_mcp.policy.expressions.jq import check_program

    operands = draft.command.operands
    if not operands:
        raise draft.deny("jq needs a program", hint=draft.rule.hint)
    try:
        check_program(operands[0].text)
    except ExpressionDenied as error:
        raise draft.deny(f"jq: {error}", at=operands[0], hint=error.hint) from None
