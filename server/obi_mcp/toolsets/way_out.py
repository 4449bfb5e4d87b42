"""The way out of a refusal in the words of the tool that was called: its arguments, not command lines behind it."""

from __future__ import annotations

from dataclasses import replace

from obi_mcp.config import Settings
from obi_mcp.errors import Denied, ObiMcpError
from obi_mcp.policy.hints import is_command
from obi_mcp.toolsets.base import ToolCall

_LONGEST = 400
"""Characters of a command line that is shown to somebody who wrote none; a patch holds a whole configuration."""


def in_terms_of(error: ObiMcpError, call: ToolCall, settings: Settings) -> ObiMcpError:
    """The error with a hint that fits the arguments of the call; another one than a denial as it is."""
    if not isinstance(error, Denied):
        return error
    hint = _hint(error, call, settings)
    return error if hint == error.hint else type(error)(replace(error.decision, hint=hint))


def _hint(denied: Denied, call: ToolCall, settings: Settings) -> str | None:
    hint, context = denied.hint, call.arguments.get("context")
    if not is_command(hint):
        return hint
    if context is not None and context not in settings.scope.contexts:
        known = ", ".join(settings.scope.contexts)
        return f"context: one of {known}, or none for the current one" if known else "call it without context"
    if "command" in call.arguments:
        return hint
    needed = denied.decision.access
    if needed is not None and needed > settings.access:
        return f"whoever starts the server decides: --access {needed.label}, or the same in the configuration"
    return hint if hint is not None and len(hint) <= _LONGEST else None
