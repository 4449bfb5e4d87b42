"""The way out of a denial: the nearest command that would be allowed, or a sentence where there is none.

A refusal may carry a *repair*: the command as written, changed in the one place that was refused. It is judged again,
and repaired again, until it is allowed; only then it is shown. INVARIANT: a hint that starts with the name of a program
is a command line that is allowed at the caller's level.
"""

from __future__ import annotations

from collections.abc import Callable
from shlex import quote
from typing import TYPE_CHECKING

from obi_mcp.errors import Denied
from obi_mcp.policy.draft import Draft, Refusal

if TYPE_CHECKING:
    from obi_mcp.command.model import Command
    from obi_mcp.policy.scope import Scope

Judge = Callable[["Command"], Draft]
_MOST_REPAIRS = 5
_PROGRAMS = ("kubectl ", "helm ", "obi ")


def repaired(refusal: Refusal, judge: Judge) -> Command | None:
    """The command of the refusal, repaired as often as it takes to be allowed; None where that is not enough."""
    candidate = refusal.repair
    for _ in range(_MOST_REPAIRS):
        if candidate is None:
            return None
        try:
            judge(candidate)
        except Denied as denied:
            decision = denied.decision
            candidate = decision.repair if isinstance(decision, Refusal) else None
            continue
        return candidate
    return None


def command_line(*commands: Command) -> str:
    """Commands as one would type them."""
    return " | ".join(" ".join(map(quote, command.argv())) for command in commands)


def filled(hint: str | None, scope: Scope) -> str | None:
    """A rule's hint with the scope's own namespace and selector in it."""
    if hint is None or "{" not in hint:
        return hint
    return hint.replace("{namespace}", scope.default_namespace).replace("{selector}", quote(scope.selectors[0]))


def is_command(hint: str | None) -> bool:
    """Whether a hint is a command line and not a sentence."""
    return hint is not None and hint.startswith(_PROGRAMS)
