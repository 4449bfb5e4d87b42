"""The way out of a denial: the nearest command that would be allowed, or a sentence where there is none.

A refusal may carry a *repair*: the command as written, changed in the one place that was refused. It is judged again,
and repaired again, until it is allowed; only then it is shown. INVARIANT: a hint that starts with the name of a program
is a command line that is allowed at the caller's level.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from shlex import quote
from typing import TYPE_CHECKING

from obi_mcp.errors import Denied
from obi_mcp.policy.draft import Call, Draft, Refusal

if TYPE_CHECKING:
    from obi_mcp.command.model import Command, Pipeline
    from obi_mcp.policy.judge import Judge
    from obi_mcp.policy.model import Decision
    from obi_mcp.policy.scope import Scope

_MOST_REPAIRS = 5
_LONGEST_LINE = 2000
_PROGRAMS = ("kubectl ", "helm ", "obi ")


def hint_for(refusal: Decision, pipeline: Pipeline, call: Call, stage: int, judge: Judge) -> str | None:
    """What to do instead of the refused line."""
    if refusal.rule == "hard.help":
        return judge.allowed_flags(pipeline.head)
    mended = _mended(refusal, pipeline, call, stage, judge) if isinstance(refusal, Refusal) else None
    if mended is not None:
        line = command_line(*mended)
        if len(line) <= _LONGEST_LINE:
            return line if call.stdin is None else f"with the same stdin: {line}"
    rule = judge.index.find(refusal.rule) if refusal.hint is None and refusal.rule else None
    return filled(rule.hint if rule else refusal.hint, judge.grounds.scope)


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


def _mended(refusal: Refusal, pipeline: Pipeline, call: Call, stage: int, judge: Judge) -> Sequence[Command] | None:
    """All stages with the refused one repaired; without the filters where one of them is not allowed either."""
    if stage == 0:
        head = _repaired(refusal, lambda command: judge.head(command, call))
        return None if head is None else (head, *_if_allowed(pipeline.filters, call, judge))
    mended = _repaired(refusal, lambda command: judge.filter(command, call, stage))
    if mended is None:
        return None
    filters = (*pipeline.filters[: stage - 1], mended, *pipeline.filters[stage:])
    return (pipeline.head, *filters) if _if_allowed(filters, call, judge) else None


def _repaired(refusal: Refusal, judged: Callable[[Command], Draft]) -> Command | None:
    """The command of the refusal, repaired as often as it takes to be allowed; None where that is not enough."""
    candidate = refusal.repair
    for _ in range(_MOST_REPAIRS):
        if candidate is None:
            return None
        try:
            judged(candidate)
        except Denied as denied:
            decision = denied.decision
            candidate = decision.repair if isinstance(decision, Refusal) else None
            continue
        return candidate
    return None


def _if_allowed(filters: Sequence[Command], call: Call, judge: Judge) -> Sequence[Command]:
    """The filters, or none of them where one is refused."""
    try:
        for stage, command in enumerate(filters, 1):
            judge.filter(command, call, stage)
    except Denied:
        return ()
    return filters
