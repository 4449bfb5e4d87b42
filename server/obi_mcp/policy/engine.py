"""The policy decision point: text to ``Decision``, and a decision with its proved checks to ``Approved``.

Static decisions and checks are separate. ``Policy.decide`` looks at text only, never raises for what a caller sends,
and lists the checks; the enforcer proves them and asks ``Policy.approve``.

INVARIANT: this module alone constructs ``Approved``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from obi_mcp.command.grammar import Grammars
from obi_mcp.command.lexer import lex
from obi_mcp.command.model import Command, Flag, Pipeline
from obi_mcp.command.parser import parse
from obi_mcp.errors import Denied, InvalidCommand, NotFound, UnknownProgram
from obi_mcp.policy import hard
from obi_mcp.policy.approval import refuse_derived, refuse_head
from obi_mcp.policy.documents import canonical
from obi_mcp.policy.draft import Call, Draft, Refusal
from obi_mcp.policy.filters import judge_filter
from obi_mcp.policy.flags import EVERYWHERE, check_flags, needed_access
from obi_mcp.policy.forms import ABOUT, FORMS
from obi_mcp.policy.hard_names import HARD
from obi_mcp.policy.hints import command_line, filled, is_command, repaired
from obi_mcp.policy.index import RuleIndex
from obi_mcp.policy.kubectl import refuse_unrelated
from obi_mcp.policy.model import Access, Approved, CheckResult, Decision, Output, Place

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from obi_mcp.config import Settings
    from obi_mcp.policy.grounds import Grounds
    from obi_mcp.policy.resource import ResourceTable
    from obi_mcp.policy.rule import Rule
    from obi_mcp.policy.scope import Scope

_CONTEXT_FLAGS = {"kubectl": "context", "helm": "kube-context"}
_NO_FLAGS: frozenset[str] = frozenset()


class Policy:
    """All rules over one scope. INVARIANT: never changed after it was built, save for its memories."""

    def __init__(self, index: RuleIndex, grammars: Grammars, grounds: Grounds, deadline_s: float = 30.0) -> None:
        self.index = index
        self.grammars = grammars
        self.grounds = grounds
        self.deadline_s = deadline_s
        self._forbidden = hard.forbidden_root_flags(grammars)

    @classmethod
    def load(cls, settings: Settings) -> Policy:
        """The policy of these settings: every file validated, every example run. Raises: PolicyError."""
        from obi_mcp.policy.assembly import load_policy

        return load_policy(settings)

    @classmethod
    def load_compiled(cls, settings: Settings) -> Policy:
        """The same from the compiled form, which is made (with everything that ``load`` does) where it is missing."""
        from obi_mcp.policy.assembly import load_compiled_policy

        return load_compiled_policy(settings)

    @property
    def scope(self) -> Scope:
        """The scope that counts: the configuration's, and what the operator's policy directory adds."""
        return self.grounds.scope

    @property
    def resources(self) -> ResourceTable:
        """The table of kinds."""
        return self.grounds.resources

    def over(self, scope: Scope) -> Policy:
        """The same rules over another scope."""
        return Policy(self.index, self.grammars, self.grounds.over(scope), self.deadline_s)

    # --- deciding ---

    def decide(
        self,
        command: str,
        *,
        stdin: str | None = None,
        access: Access,
        context: str | None = None,
        timeout_s: float | None = None,
    ) -> Decision:
        """What the policy says of a command line at a caller's level; never raises for what the caller sends.

        ``context`` is a kubeconfig context given beside the line. ``timeout_s`` is the call's deadline, which durations
        are clamped to.
        """
        try:
            pipeline = parse(command, self.grammars)
            pipeline = _in_context(pipeline, context)
        except InvalidCommand as error:
            return self._unreadable(error)
        call = Call(access, stdin, self.deadline_s if timeout_s is None else timeout_s)
        try:
            draft = self._judge_head(pipeline.head, call)
        except Denied as denied:
            return self._refused(denied, command, pipeline, call, 0)
        for stage, command_of_stage in enumerate(pipeline.filters, 1):
            try:
                self._judge_filter(command_of_stage, call, stage)
            except Denied as denied:
                return self._refused(denied, command, pipeline, call, stage)
        return Decision(
            effect="narrow" if draft.added else "allow",
            rule=draft.rule.id,
            reason=draft.reason or draft.rule.because,
            access=draft.needed,
            added=tuple(draft.added),
            checks=tuple(draft.checks),
            pipeline=Pipeline(draft.rebuilt(), pipeline.filters),
            documents=draft.documents,
            output=draft.output,
        )

    def _judge_head(self, command: Command, call: Call) -> Draft:
        """The draft of the first rule that allows the head; else the refusal of the rule that got furthest."""
        hard.check(command, self._forbidden.get(command.program, _NO_FLAGS))
        rules = self.index.candidates(command)
        if not rules:
            raise self._no_rule(command)
        broadest = Draft(command, rules[0] if len(rules) == 1 else _broadest(rules), call, self.grounds)
        about = ABOUT.get(broadest.rule.operands)
        related = about is None or about(broadest)
        furthest: Denied | None = None
        for rule in rules:
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
        raise furthest or refuse_unrelated(broadest)

    def _judge_filter(self, command: Command, call: Call, stage: int) -> Draft:
        rules = self.index.candidates(command)
        if not rules:
            raise self._no_rule(command, stage)
        draft = Draft(command, rules[0], call, self.grounds, stage)
        judge_filter(draft)
        return draft

    def _unreadable(self, error: InvalidCommand) -> Decision:
        """A line that does not parse, or names a program that does not exist here."""
        unknown = isinstance(error, UnknownProgram)
        hint = error.hint
        if is_command(hint):
            # The parser lists what the program knows; what is allowed of it is of more use.
            hint = self._allowed_lines(hint.split()[0] if hint else "")
        return Decision(
            effect="deny",
            rule="hard.program" if unknown else "syntax",
            reason=f"{error.message}: {HARD['hard.program'].because}" if unknown else error.message,
            hint=hint,
            at=Place(stage=error.stage, word=error.word, column=error.column),
        )

    def _allowed_lines(self, program: str, path: tuple[str, ...] = ()) -> str | None:
        """A sentence with the commands that are allowed: those nearest to ``path``, else all of the program."""
        rules = self.index.of_program(program)
        near = [rule for rule in rules if path and rule.command[:1] == path[:1]]
        known = sorted({rule.line for rule in near or rules})
        return f"allowed are: {', '.join(known)}" if known else None

    def _allowed_flags(self, command: Command) -> str | None:
        """Instead of a program's own help: the flags that are allowed, or the commands."""
        rules = self.index.candidates(command)
        if not rules:
            return self._allowed_lines(command.program)
        flags = set[str]().union(EVERYWHERE.get(command.program, ()), *(rule.flags.allow for rule in rules))
        named = ", ".join(f"--{name}" for name in sorted(flags))
        return f"flags of {rules[0].line} that are allowed: {named}; see obi-mcp policy explain {rules[0].id}"

    def _no_rule(self, command: Command, stage: int = 0) -> Denied:
        line = " ".join((command.program, *command.path))
        return Denied(
            Refusal(
                "deny",
                None,
                f"no rule allows {line}",
                hint=self._allowed_lines(command.program, command.path),
                at=Place(stage=stage),
            )
        )

    # --- refusing ---

    def _refused(self, denied: Denied, text: str, pipeline: Pipeline, call: Call, stage: int) -> Decision:
        refusal = denied.decision
        return Decision(
            effect="deny",
            rule=refusal.rule,
            reason=refusal.reason,
            access=refusal.access,
            hint=self._hint(refusal, pipeline, call, stage),
            at=_located(refusal.at, text, pipeline.stages()[stage], stage),
            pipeline=pipeline,
        )

    def _hint(self, refusal: Decision, pipeline: Pipeline, call: Call, stage: int) -> str | None:
        if refusal.rule == "hard.help":
            return self._allowed_flags(pipeline.head)
        mended = self._mended(refusal, pipeline, call, stage) if isinstance(refusal, Refusal) else None
        if mended is not None:
            line = command_line(*mended)
            return line if call.stdin is None else f"with the same stdin: {line}"
        rule = self.index.find(refusal.rule) if refusal.hint is None and refusal.rule else None
        return filled(rule.hint if rule else refusal.hint, self.scope)

    def _mended(self, refusal: Refusal, pipeline: Pipeline, call: Call, stage: int) -> Sequence[Command] | None:
        """All stages with the refused one repaired, filters only where every one of them is allowed."""
        if stage == 0:
            head = repaired(refusal, lambda command: self._judge_head(command, call))
            return None if head is None else (head, *self._allowed_filters(pipeline.filters, call))
        mended = repaired(refusal, lambda command: self._judge_filter(command, call, stage))
        if mended is None:
            return None
        filters = (*pipeline.filters[: stage - 1], mended, *pipeline.filters[stage:])
        return (pipeline.head, *filters) if self._allowed_filters(filters, call) else None

    def _allowed_filters(self, filters: Sequence[Command], call: Call) -> Sequence[Command]:
        try:
            for stage, command in enumerate(filters, 1):
                self._judge_filter(command, call, stage)
        except Denied:
            return ()
        return filters

    # --- approving ---

    def approve(
        self,
        decision: Decision,
        *,
        access: Access,
        results: Sequence[CheckResult],
        heads: Sequence[tuple[str, ...]] | None = None,
        stdin: bytes | None = None,
        skipped: int = 0,
        members: AbstractSet[str] | None = None,
    ) -> Approved:
        """The decision as something that may run: allowed at this level, with a passed result for every check.

        ``heads`` replaces the head's argument vector where a check resolved it (one run for each pod, a chart's path,
        a private file for ``obi config … -``, a resource version). ``stdin`` replaces the decision's own documents.

        Raises: Denied; NotFound where a check found nothing or nothing of OBI's.
        """
        pipeline = decision.pipeline
        if not decision.allowed or pipeline is None or decision.access is None:
            raise Denied(decision)
        if decision.access > access:
            raise Denied(_denied(decision, f"this needs the access level {decision.access.label}"))
        for check in decision.checks:
            found = [result for result in results if result.check == check]
            if not found:
                raise Denied(_denied(decision, f"the {check.kind} check of {check.target} was not made"))
        for result in results:
            _refuse_failed(decision, result, access)
        vectors = (pipeline.head.argv(),) if heads is None else tuple(heads)
        for vector in vectors:
            reason = refuse_head(decision, vector, self.grammars)
            if reason is not None:
                raise Denied(_denied(decision, f"the vector {' '.join(vector)!r} may not run: {reason}"))
        body = stdin
        if body is None and decision.documents:
            body = canonical(decision.documents)
        return Approved(
            decision=decision,
            heads=vectors,
            filters=tuple(command.argv() for command in pipeline.filters),
            stdin=body,
            output=decision.output,
            skipped=skipped,
            members=frozenset(members) if members is not None else None,
        )

    def derive(
        self, decision: Decision, head: tuple[str, ...], *, stdin: bytes | None = None, output: Output | None = None
    ) -> Approved:
        """One of the server's own reads with the real program, in the course of proving a decision's checks.

        The head is the decided command as the server's own dry run, or a read of a release, a rendering or an object.

        Raises: Denied for every other head, and for a decision that is itself a denial.
        """
        if not decision.allowed or decision.pipeline is None:
            raise Denied(decision)
        reason = refuse_derived(decision.pipeline.head, head, self.grammars)
        if reason is not None:
            raise Denied(_denied(decision, reason))
        return Approved(decision, (head,), (), stdin, output or Output())


def _apply(draft: Draft) -> None:
    """Hold the draft to its rule. Raises: Denied."""
    draft.needed = needed_access(draft)
    check_flags(draft)
    _check_context(draft)
    FORMS[draft.rule.operands](draft)
    if draft.needed > draft.call.access:
        raise draft.deny(
            f"{draft.rule.line} needs the access level {draft.needed.label} here; this call has "
            f"{draft.call.access.label}",
            hint=_dry_run_hint(draft),
            repair=draft.with_flag("dry-run", _dry_run(draft)) if draft.rule.dry_run else None,
            depth=3,
        )


def _dry_run_hint(draft: Draft) -> str | None:
    if draft.rule.dry_run and draft.call.stdin is not None:
        return f"with --dry-run={_dry_run(draft)} it is a read"
    return draft.rule.hint


def _dry_run(draft: Draft) -> str:
    return "client" if draft.command.program == "helm" else "server"


def _check_context(draft: Draft) -> None:
    given = draft.command.flag(_CONTEXT_FLAGS.get(draft.command.program, ""))
    if given is not None and given.value not in draft.grounds.contexts:
        names = ", ".join(draft.grounds.scope.contexts) or "only the current one, without the flag"
        raise draft.deny(
            f"the context {given.value!r} is not one that the operator configured ({names})",
            at=given if given.spelled else None,
            repair=draft.without(given.name),
            depth=1,
        )


def _broadest(rules: Sequence[Rule]) -> Rule:
    """The rule about the most kinds: in its name a command is refused that no rule is about."""
    return max(rules, key=lambda rule: len(rule.targets.kinds))


def _depth(denied: Denied) -> int:
    return denied.decision.depth if isinstance(denied.decision, Refusal) else 0


def _in_context(pipeline: Pipeline, context: str | None) -> Pipeline:
    """The pipeline with the ``context`` argument as its head's flag. Raises: InvalidCommand where the two differ."""
    if context is None:
        return pipeline
    head = pipeline.head
    name = _CONTEXT_FLAGS.get(head.program)
    if name is None:
        raise InvalidCommand(f"{head.program} has no contexts", "leave the context argument out", word=0)
    given = head.flag(name)
    if given is None:
        flags = (*head.flags, Flag(name, (context,)))
        made = Command(head.program, head.path, flags, head.operands, head.dash, head.style, head.short)
        return Pipeline(made, pipeline.filters)
    if given.value != context:
        raise InvalidCommand(
            f"the context argument says {context!r} and {given.spelled} says {given.value!r}",
            "name the context once",
            word=given.word,
        )
    return pipeline


def _located(place: Place | None, text: str, command: Command, stage: int) -> Place | None:
    """The place with its word and column; a refusal of the command as a whole points at its verb."""
    if place is None:
        return None
    words = lex(text)[stage]
    word = place.word
    if word is None:
        verbs = reversed(command.path)
        word = next((at for verb in verbs for at, token in enumerate(words) if at and token.text == verb), 0)
    column = words[word].column if word < len(words) else None
    return Place(stage, word, column, place.document, place.path)


def _denied(decision: Decision, reason: str, result: CheckResult | None = None) -> Decision:
    """The decision turned into a denial by what was found when it was proved."""
    return Decision(
        effect="deny",
        rule=decision.rule,
        reason=reason,
        access=decision.access,
        hint=result.hint if result else None,
        at=result.at if result else None,
        checks=decision.checks,
        pipeline=decision.pipeline,
    )


def _refuse_failed(decision: Decision, result: CheckResult, access: Access) -> None:
    """Raises: NotFound or Denied for a result that did not pass, or that needs more than the caller has."""
    check = result.check
    if not result.passed:
        if result.not_found:
            raise NotFound(check.target, check.namespace, result.hint)
        reason = result.reason or f"the {check.kind} check of {check.target} failed"
        raise Denied(_denied(decision, reason, result))
    if result.raised is not None and result.raised > access:
        raise Denied(
            _denied(
                decision,
                f"the change turned out to need the access level {result.raised.label}: {result.reason or check.why}",
                result,
            )
        )
