"""The JSON Schemas that tools share: a decision, an answer, a failure."""

from __future__ import annotations

from obi_mcp.toolsets.base import Schema

_TEXT: Schema = {"type": "string"}
_MAYBE_TEXT: Schema = {"type": ["string", "null"]}
_LIST: Schema = {"type": "array"}

# Every word here is in every `tools/list`: names that say what they hold have no description, and what not every answer
# has is not named. A failure has code, message and hint instead, so that nothing is required. What decisions and notes
# mean is in docs/policy.md.
ANSWER: Schema = {
    "type": "object",
    "properties": {
        "stdout": _TEXT,
        "exit_code": {"type": "integer"},
        "decision": {"type": "object"},
    },
}
"""What the command tools give."""

EXPLANATION: Schema = {
    "type": "object",
    "properties": {
        "effect": {"enum": ["allow", "narrow", "deny"]},
        "rule": _MAYBE_TEXT,
        "reason": _TEXT,
        "hint": _MAYBE_TEXT,
        "checks": _LIST,
    },
}
"""What ``obi_explain_command`` gives: the decision itself. The one place that spells a decision out; other tools refer
to it, because every schema is in every ``tools/list``."""
