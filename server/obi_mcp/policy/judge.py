"""One command held to the rules that are about it: the draft of the rule that allows it, or the nearest refusal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from obi_mcp.errors import Denied
from obi_mcp.policy import hard
from obi_mcp.policy.draft import Call, Draft, Refusal
from obi_mcp.policy.filters import judge_filter
from obi_mcp.policy.flags import EVERYWHERE, check_flags, needed_access
from obi_mcp.policy.forms import ABOUT, FORMS
from obi_mcp.policy.kubectl import refuse_unrelated
from obi_mcp.policy.model import Place

if TYPE_CHECKING:
    from obi_mcp.command.grammar import Grammars
    from obi_mcp.command.model import Command
    from obi_mcp.policy.grounds import Grounds
    from obi_mcp.policy.index import RuleIndex
    from obi_mcp.policy.rule import Rule

CONTEXT_FLAGS = {"kubectl": "context", "helm": "kube-context"}
_NO_FLAGS: frozenset[str] = frozenset()


class Judge:
    """The rules over one scope, asked about one stage at a time."""

    def __init__(self, index: RuleIndex, grammars: Grammars, grounds: Grounds) -> None:
        self.index = index
        self.grounds = grounds
        self._forbidden = hard.forbidden_root_flags(grammars)

    def head(self, command: Command, call: Call) -> Draft:
        """The draft of the first rule that allows the head. Raises: Denied, by the rule that got furthest."""
        hard.check(command, self._forbidden.get(command.program, _NO_FLAGS))
        candidates = self.index.candidates(command)
        if candidates is None:
            raise self._no_rule(command)
        broadest = Draft(command, candidates.broadest, call, self.grounds)
        about = ABOUT.get(broadest.rule.operands)
        related = about is None or about(broadest)
        furthest: Denied | None = None
        for rule in candidates.rules:
            if self._idle(rule):
                continue
            draft = broadest if rule is broadest.rule else Draft(command, rule, call, self.grounds)
            draft.targets = broadest.targets
            if not (related if draft is broadest else about is None or about(draft)):
                continue
            try:
                _apply(draft)
            except Denied as denied:
                furthest = denied if furthest is None or _depth(denied) > _depth(furthest) else furthest
                continue
            return draft
        raise furthest or refuse_unrelated(broadest, [rule for rule in candidates.rules if not self._idle(rule)])

    def filter(self, command: Command, call: Call, stage: int) -> Draft:
        """The draft of the first rule that allows the filter. Raises: Denied."""
        refused: Denied | None = None
        candidates = self.index.candidates(command)
        for rule in candidates.rules if candidates else ():
            draft = Draft(command, rule, call, self.grounds, stage)
            try:
                judge_filter(draft)
            except Denied as denied:
                refused = refused or denied
                continue
            return draft
        raise refused or self._no_rule(command, stage)

    # --- what is allowed instead, as sentences ---

    def allowed_lines(self, program: str, path: tuple[str, ...] = ()) -> str | None:
        """A sentence with the commands that are allowed: those nearest to ``path``, else all of the program."""
        rules = self.index.of_program(program)
        near = [rule for rule in rules if path and rule.command[:1] == path[:1]]
        known = sorted({rule.line for rule in near or rules})
        return f"allowed are: {', '.join(known)}" if known else None

    def allowed_flags(self, command: Command) -> str | None:
        """Instead of a program's own help: the flags that are allowed, or the commands."""
        candidates = self.index.candidates(command)
        if candidates is None:
            return self.allowed_lines(command.program, command.path)
        flags = set[str]().union(EVERYWHERE.get(command.program, ()), *(rule.flags.allow for rule in candidates.rules))
        named = ", ".join(f"--{name}" for name in sorted(flags)) or "none"
        return f"flags of {candidates.broadest.line} that are allowed: {named}"

    def _document_hint(self, command: Command) -> str | None:
        """For ``kubectl create KIND``: the kind comes as a document, where it may be written at all."""
        if command.program != "kubectl" or len(command.path) != 2 or command.path[0] != "create":
            return None
        entry = self.grounds.resources.find(command.path[1])
        if entry is not None and entry.written:
            return f"use kubectl create -f - with the {entry.resource.kind} in stdin"
        kinds = ", ".join(sorted(entry.resource.kind for entry in self.grounds.resources.entries if entry.written))
        return f"kinds that may be made, with kubectl create -f -: {kinds}"

    def _idle(self, rule: Rule) -> bool:
        """A rule about instrumented namespaces where there are none."""
        return not self.grounds.instrumented and "status" in rule.targets.confine

    def _no_rule(self, command: Command, stage: int = 0) -> Denied:
        line = " ".join((command.program, *command.path))
        hint = self._document_hint(command) or self.allowed_lines(command.program, command.path)
        return Denied(Refusal("deny", None, f"no rule allows {line}", hint=hint, at=Place(stage=stage)))


def _apply(draft: Draft) -> None:
    """Hold the draft to its rule: flags, context, targets, and last the level. Raises: Denied."""
    draft.needed = needed_access(draft)
    check_flags(draft)
    _check_context(draft)
    FORMS[draft.rule.operands](draft)
    if draft.needed > draft.call.access:
        raise draft.deny(
            f"{draft.rule.line} needs the access level {draft.needed.label} here; this call has "
            f"{draft.call.access.label}",
            hint=draft.rule.hint,
            repair=draft.with_flag("dry-run", _dry_run(draft)) if draft.rule.dry_run else None,
            depth=3,
        )


def _dry_run(draft: Draft) -> str:
    return "client" if draft.command.program == "helm" else "server"


def _check_context(draft: Draft) -> None:
    given = draft.command.flag(CONTEXT_FLAGS.get(draft.command.program, ""))
    if given is not None and given.value not in draft.grounds.contexts:
        names = (
            ", ".join(draft.grounds.scope.contexts)
            or "scope.contexts is empty: leave it out, which takes the current one"
        )
        raise draft.deny(
            f"the context {given.value!r} is not one that the operator configured ({names})",
            at=given if given.spelled else None,
            repair=draft.without(given.name),
            depth=1,
        )


def _depth(denied: Denied) -> int:
    return denied.decision.depth if isinstance(denied.decision, Refusal) else 0
